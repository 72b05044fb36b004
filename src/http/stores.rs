//! The stores of a request, as far as the caller may use them, and their open sessions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::app::App;
use super::auth::{Caller, Permission, User, refusal};
use super::problem::Problem;
use crate::api::conditions::{ConditionType, find};
use crate::api::names::{is_label, is_subdomain};
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::controllers::Context;
use crate::controllers::context::Guarded;
use crate::controllers::in_force::InForce;
use crate::controllers::reader::Reader;
use crate::controllers::session::{NotReady, Session};
use crate::controllers::store::Handle;
use crate::db::DbError;
use crate::db::connect::Reading;
use crate::db::mapping::IdType;

/// The name of a store: `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct StoreName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl TryFrom<String> for StoreName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_label(namespace) && is_subdomain(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => {
                Err("the name of a store has the form NAMESPACE/NAME, for example store=default/jobs"
                    .to_owned())
            }
        }
    }
}

impl From<StoreName> for String {
    fn from(name: StoreName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A store that the operator manages.
pub(super) struct Store {
    pub(super) name: StoreName,
    /// The status of the last reconciliation, or the latest one in Kubernetes.
    pub(super) status: Option<Arc<ExecutionStoreStatus>>,
    pub(super) access: StoreAccess,
}

/// The way in which this replica accesses a store.
#[derive(Clone)]
pub(super) enum StoreAccess {
    /// This replica manages the store; `None` until it has started to.
    Local(Option<Arc<Handle>>),
    /// Another replica manages the store.
    Remote(Arc<RemoteStore>),
}

/// A store that another replica manages.
pub(super) struct RemoteStore {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<Reader>,
    /// The object in the cache.
    pub(super) object: Arc<Guarded<ExecutionStore>>,
}

/// The maximum wait of a request for others that open or read the store.
const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// A store with an open session and its rules.
#[derive(Clone)]
pub(super) struct OpenStore {
    pub(super) name: StoreName,
    pub(super) session: Arc<Session>,
    pub(super) in_force: Arc<InForce>,
    access: StoreAccess,
}

impl Store {
    /// Returns the open session of the store. The database may become unavailable at any later time, which queries
    /// report.
    pub(super) async fn open(&self) -> Result<OpenStore, Problem> {
        let (session, in_force) = match &self.access {
            StoreAccess::Local(handle) => {
                let session = handle.as_ref().and_then(|handle| handle.session());
                let session = session.ok_or_else(|| self.not_ready())?;
                let in_force = self.with_wait_limit(session.in_force()).await?;
                (session, in_force)
            }
            StoreAccess::Remote(remote) => {
                let Ok(object) = &remote.object.0 else { return Err(self.not_ready()) };
                let turn = self.with_wait_limit(remote.reader.turn()).await?;
                let opened = remote.reader.open(&remote.context, object, turn).await;
                opened.map_err(|why| self.not_opened(&why))?
            }
        };
        let in_force = in_force.ok_or_else(|| self.not_ready())?;
        Ok(OpenStore { name: self.name.clone(), session, in_force, access: self.access.clone() })
    }

    /// Waits for others that use the store, for a limited time: its database may never answer.
    async fn with_wait_limit<T>(&self, turn: impl Future<Output = T>) -> Result<T, Problem> {
        timeout(WAIT_LIMIT, turn).await.map_err(|_| Problem::Busy(self.name.to_string()))
    }

    fn not_opened(&self, why: &NotReady) -> Problem {
        let (store, why, message) = (self.name.to_string(), why.reason().to_owned(), why.to_string());
        Problem::StoreNotReady { store, why, message }
    }

    fn not_ready(&self) -> Problem {
        let ready = self.status.as_ref().and_then(|status| find(&status.conditions, ConditionType::Ready));
        // A store that is ready again may not be connected yet.
        let (why, message) = ready.filter(|ready| ready.status != "True").map_or_else(
            || ("NotConnected", "the operator is connecting to its database".to_owned()),
            |ready| (ready.reason.as_str(), ready.message.clone()),
        );
        Problem::StoreNotReady { store: self.name.to_string(), why: why.to_owned(), message }
    }
}

/// A store that could not serve its part of a request.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Unavailable {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The reason in one word.
    pub(super) reason: String,
    /// The cause, and what to do.
    pub(crate) detail: String,
}

impl Unavailable {
    pub(super) fn new(store: &StoreName, problem: &Problem) -> Self {
        Self { store: store.to_string(), reason: problem.kind().1.to_owned(), detail: problem.to_string() }
    }
}

/// Runs `request` for all stores concurrently, and separates their results from their errors.
///
/// # Errors
/// Those of [`partition_results`].
pub(super) async fn for_each_store<'a, T, F: Future<Output = Result<T, Problem>>>(
    stores: &'a [Store],
    request: impl FnMut(&'a Store) -> F,
) -> Result<(Vec<T>, Vec<Unavailable>), Problem> {
    let results = join_all(stores.iter().map(request)).await;
    partition_results(stores.iter().zip(results))
}

/// Separates the results of stores from their errors. Fails if no store has a result, or if the request itself is at
/// fault.
pub(super) fn partition_results<'a, T>(
    given: impl Iterator<Item = (&'a Store, Result<T, Problem>)>,
) -> Result<(Vec<T>, Vec<Unavailable>), Problem> {
    let (mut parts, mut unavailable, mut first) = (Vec::new(), Vec::new(), None);
    for (store, outcome) in given {
        match outcome {
            Ok(part) => parts.push(part),
            Err(problem) if problem.kind().0.is_client_error() => return Err(problem),
            Err(problem) => {
                unavailable.push(Unavailable::new(&store.name, &problem));
                first = first.or(Some(problem));
            }
        }
    }
    match first {
        Some(problem) if parts.is_empty() => Err(problem),
        _ => Ok((parts, unavailable)),
    }
}

impl OpenStore {
    /// Returns the job id as the table writes it, or `None` if no job of this store can have it.
    ///
    /// Fails with [`Problem::InvalidJobId`] instead of `None` if the request named the store.
    pub(super) fn canonical_job_id(&self, id: &str, named: bool) -> Result<Option<String>, Problem> {
        let type_ = self.session.mapping.job_id_type().unwrap_or(IdType::Text);
        let job = type_.canonical(id);
        if job.is_none() && named {
            return Err(Problem::InvalidJobId { id: id.chars().take(100).collect(), type_: type_.sql() });
        }
        Ok(job)
    }

    /// Returns the permit to read the store. One request reads a store at a time. Those that wait get
    /// [`Problem::Busy`] after [`WAIT_LIMIT`], because together they would block requests for other stores.
    pub(super) async fn read_permit(&self) -> Result<Reading, Problem> {
        let turn = timeout(WAIT_LIMIT, self.session.database.reading()).await;
        turn.map_err(|_| Problem::Busy(self.name.to_string()))
    }

    /// Counts an error of the database and returns it as a problem.
    pub(super) fn failed(&self, error: DbError) -> Problem {
        self.session.tally.failed(error.reason());
        // For a local store, the reconciler reconnects.
        if let StoreAccess::Remote(remote) = &self.access
            && !error.answered()
        {
            remote.reader.failed(&self.session, &error);
        }
        Problem::Database { store: self.name.to_string(), error }
    }

    /// Makes the next request open another replica's store again. For a local store, the reconciler does this.
    pub(super) fn invalidate(&self) {
        if let StoreAccess::Remote(remote) = &self.access {
            remote.reader.forget();
        }
    }
}

impl App {
    /// Returns the store of this name.
    ///
    /// Fails with [`Problem::StoreNotFound`], or with [`Problem::StoresNotSeen`] while the cache is not synced.
    pub(super) fn store(&self, name: &StoreName) -> Result<Store, Problem> {
        let object = self.context.store(&name.namespace, &name.name);
        match object {
            Some(object) => {
                let key = ObjectRef::from_obj(&*object);
                if self.context.owns(&name.namespace, &name.name) {
                    let handle = self.context.known_handle(&key);
                    let status = self.context.status_of(&object, handle.as_ref());
                    return Ok(Store { name: name.clone(), status, access: StoreAccess::Local(handle) });
                }
                let status = self.context.status_of(&object, None);
                let (context, reader) = (self.context.clone(), self.context.reader(&key));
                let access = StoreAccess::Remote(Arc::new(RemoteStore { context, reader, object }));
                Ok(Store { name: name.clone(), status, access })
            }
            None if self.context.stores().unseen_in(&name.namespace) => Err(Problem::StoresNotSeen),
            None => Err(Problem::StoreNotFound(name.to_string())),
        }
    }

    /// Returns all stores, sorted by name.
    pub(super) fn stores(&self) -> Result<Vec<Store>, Problem> {
        if !self.context.stores().seen() {
            return Err(Problem::StoresNotSeen);
        }
        let names = self.context.all_stores().into_iter().map(|object| StoreName {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        });
        let names: BTreeSet<StoreName> = names.collect();
        // Stores that were deleted in the meantime are left out.
        Ok(names.iter().filter_map(|name| self.store(name).ok()).collect())
    }

    /// Returns the stores that the request may read: the named one, or all if the caller may read all of them.
    pub(super) async fn readable_stores(
        &self,
        caller: &Caller,
        name: Option<StoreName>,
    ) -> Result<Vec<Store>, Problem> {
        self.permitted_stores(caller, name, |name| {
            Permission::Executions(name.map(|name| name.namespace.clone()))
        })
        .await
    }

    /// Returns the store of this name, if the caller may read its executions.
    pub(super) async fn readable_store(&self, caller: &Caller, name: &StoreName) -> Result<Store, Problem> {
        self.reject_unknown_store(&caller.0, name)?;
        self.authorizer.authorize(&caller.0, &Permission::Executions(Some(name.namespace.clone()))).await?;
        self.store(name)
    }

    /// Returns the stores that the request may clean up: the named one, or all if the caller may clean up all of them.
    pub(super) async fn cleanable_stores(
        &self,
        caller: &Caller,
        name: Option<StoreName>,
    ) -> Result<Vec<Store>, Problem> {
        self.permitted_stores(caller, name, |name| {
            Permission::CleanUp(name.map(|name| (name.namespace.clone(), name.name.clone())))
        })
        .await
    }

    /// Returns the stores that the caller may read, and the names of those that the caller may clean up. Fails if
    /// there are none.
    pub(super) async fn stores_visible_to(
        &self,
        Caller(user): &Caller,
    ) -> Result<(Vec<Store>, BTreeSet<StoreName>), Problem> {
        if user.is_anonymous() {
            return Err(Problem::Unauthenticated);
        }
        let (mut readable, mut cleanable) = (Vec::new(), BTreeSet::new());
        for store in self.stores()? {
            let StoreName { namespace, name } = store.name.clone();
            if self.authorizer.is_allowed(user, &Permission::Executions(Some(namespace.clone()))).await? {
                if self.authorizer.is_allowed(user, &Permission::CleanUp(Some((namespace, name)))).await? {
                    cleanable.insert(store.name.clone());
                }
                readable.push(store);
            }
        }
        if readable.is_empty() {
            self.authorizer.authorize(user, &Permission::Executions(None)).await?;
        }
        Ok((readable, cleanable))
    }

    /// Returns whether the caller may clean up at least one store. Kubernetes is asked only once about anonymous
    /// callers, not for each store.
    pub(super) async fn can_clean_any(&self, Caller(user): &Caller) -> Result<bool, Problem> {
        if self.authorizer.is_allowed(user, &Permission::CleanUp(None)).await? {
            return Ok(true);
        }
        if user.is_anonymous() {
            return Ok(false);
        }
        for StoreName { namespace, name } in self.stores()?.into_iter().map(|store| store.name) {
            if self.authorizer.is_allowed(user, &Permission::CleanUp(Some((namespace, name)))).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rejects unknown store names of anonymous callers without asking Kubernetes.
    fn reject_unknown_store(&self, user: &User, name: &StoreName) -> Result<(), Problem> {
        if user.is_anonymous() && self.store(name).is_err() {
            return Err(Problem::Unauthenticated);
        }
        Ok(())
    }

    async fn permitted_stores(
        &self,
        Caller(user): &Caller,
        name: Option<StoreName>,
        permission_for: impl Fn(Option<&StoreName>) -> Permission,
    ) -> Result<Vec<Store>, Problem> {
        if let Some(name) = name {
            self.reject_unknown_store(user, &name)?;
            self.authorizer.authorize(user, &permission_for(Some(&name))).await?;
            return Ok(vec![self.store(&name)?]);
        }
        let all = permission_for(None);
        if self.authorizer.is_allowed(user, &all).await? {
            return self.stores();
        }
        let stores =
            self.stores().map_err(|why| if user.is_anonymous() { Problem::Unauthenticated } else { why })?;
        let each: BTreeSet<Permission> =
            stores.iter().map(|store| permission_for(Some(&store.name))).collect();
        for permission in &each {
            if !self.authorizer.is_allowed(user, permission).await? {
                return Err(refusal(user, all.to_string()));
            }
        }
        if each.is_empty() { Err(refusal(user, all.to_string())) } else { Ok(stores) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_its_namespace_and_name() {
        let name = StoreName::try_from("default/jobs".to_owned()).unwrap();
        assert_eq!((name.namespace.as_str(), name.name.as_str()), ("default", "jobs"));
        for text in [
            "", "jobs", "/jobs", "default/", "a/b/c", "A/b", "a/%", "a/ b", "../x", "a.b/c", "a/..", "-/a",
            "a/a-",
        ] {
            assert!(StoreName::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
