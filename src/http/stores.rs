//! Which stores a request is about, as far as its caller may see them, and what is open of them.

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
use super::auth::{Access, Caller, User, refusal};
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

/// Names a store: `namespace/name`.
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
            _ => Err("a store is named NAMESPACE/NAME, for example store=default/jobs".to_owned()),
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

/// A store that the operator looks after.
pub(super) struct Store {
    pub(super) name: StoreName,
    /// What the last look at it came to, or what Kubernetes was told last.
    pub(super) status: Option<Arc<ExecutionStoreStatus>>,
    pub(super) door: Door,
}

/// How a store is reached.
#[derive(Clone)]
pub(super) enum Door {
    /// This replica looks after it; `None`: it has not begun to.
    Own(Option<Arc<Handle>>),
    /// Another one does.
    Other(Arc<Other>),
}

/// A store that another replica looks after.
pub(super) struct Other {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<Reader>,
    /// As it was last seen.
    pub(super) object: Arc<Guarded<ExecutionStore>>,
}

/// How long a request waits for its turn to open or to read a store.
const TURN: Duration = Duration::from_secs(5);

/// What is needed to ask the database of a store.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) name: StoreName,
    pub(super) session: Arc<Session>,
    pub(super) in_force: Arc<InForce>,
    door: Door,
}

impl Store {
    /// What is open of it. That it may be gone a moment later is told by the database.
    pub(super) async fn open(&self) -> Result<Open, Problem> {
        let (session, in_force) = match &self.door {
            Door::Own(handle) => {
                let session = handle.as_ref().and_then(|handle| handle.session());
                let session = session.ok_or_else(|| self.not_ready())?;
                let in_force = self.in_turn(session.in_force()).await?;
                (session, in_force)
            }
            Door::Other(other) => {
                let Ok(object) = &other.object.0 else { return Err(self.not_ready()) };
                let turn = self.in_turn(other.reader.turn()).await?;
                let opened = other.reader.open(&other.context, object, turn).await;
                opened.map_err(|why| self.not_opened(&why))?
            }
        };
        let in_force = in_force.ok_or_else(|| self.not_ready())?;
        Ok(Open { name: self.name.clone(), session, in_force, door: self.door.clone() })
    }

    /// What is waited for while others work on the store, but not for ever: its server may say nothing.
    async fn in_turn<T>(&self, turn: impl Future<Output = T>) -> Result<T, Problem> {
        timeout(TURN, turn).await.map_err(|_| Problem::Busy(self.name.to_string()))
    }

    fn not_opened(&self, why: &NotReady) -> Problem {
        let (store, why, message) = (self.name.to_string(), why.reason().to_owned(), why.to_string());
        Problem::StoreNotReady { store, why, message }
    }

    fn not_ready(&self) -> Problem {
        let ready = self.status.as_ref().and_then(|status| find(&status.conditions, ConditionType::Ready));
        // One that is ready again has not been connected yet.
        let (why, message) = ready.filter(|ready| ready.status != "True").map_or_else(
            || ("NotConnected", "the operator is connecting to its database".to_owned()),
            |ready| (ready.reason.as_str(), ready.message.clone()),
        );
        Problem::StoreNotReady { store: self.name.to_string(), why: why.to_owned(), message }
    }
}

/// A store of several that could not do its part.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Unavailable {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// Why, in one word.
    pub(super) reason: String,
    /// Why, and what to do.
    pub(crate) detail: String,
}

impl Unavailable {
    pub(super) fn new(store: &StoreName, problem: &Problem) -> Self {
        Self { store: store.to_string(), reason: problem.kind().1.to_owned(), detail: problem.to_string() }
    }
}

/// What `part` gives of each of the stores, asked at the same time, as far as they could be asked.
///
/// # Errors
/// Those of [`some`].
pub(super) async fn each<'a, T, F: Future<Output = Result<T, Problem>>>(
    stores: &'a [Store],
    part: impl FnMut(&'a Store) -> F,
) -> Result<(Vec<T>, Vec<Unavailable>), Problem> {
    let given = join_all(stores.iter().map(part)).await;
    some(stores.iter().zip(given))
}

/// What some of the stores gave, and why the others did not; a problem if none gave anything, or the request is at fault.
pub(super) fn some<'a, T>(
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

impl Open {
    /// The id of a job in the words of the table, or `None`: no job here can have it. Who has named this store is told so.
    pub(super) fn job_of(&self, id: &str, named: bool) -> Result<Option<String>, Problem> {
        let type_ = self.session.mapping.job_id_type().unwrap_or(IdType::Text);
        let job = type_.canonical(id);
        if job.is_none() && named {
            return Err(Problem::InvalidJobId { id: id.chars().take(100).collect(), type_: type_.sql() });
        }
        Ok(job)
    }

    /// The turn to read: one request reads a store at a time, and those behind it do not wait for ever, since together
    /// they would take the place of requests for other stores.
    pub(super) async fn turn(&self) -> Result<Reading, Problem> {
        let turn = timeout(TURN, self.session.database.reading()).await;
        turn.map_err(|_| Problem::Busy(self.name.to_string()))
    }

    /// What the database did not do, which is counted.
    pub(super) fn failed(&self, error: DbError) -> Problem {
        self.session.tally.failed(error.reason());
        // This replica's own store the look at it opens anew.
        if let Door::Other(other) = &self.door
            && !error.answered()
        {
            other.reader.failed(&self.session, &error);
        }
        Problem::Database { store: self.name.to_string(), error }
    }
}

impl Open {
    /// Another replica's store is opened anew for the next one who asks; this one's the look at it does.
    pub(super) fn open_anew(&self) {
        if let Door::Other(other) = &self.door {
            other.reader.forget();
        }
    }
}

impl App {
    /// The store of this name.
    pub(super) fn store(&self, name: &StoreName) -> Result<Store, Problem> {
        let object = self.context.store(&name.namespace, &name.name);
        match object {
            Some(object) => {
                let key = ObjectRef::from_obj(&*object);
                if self.context.owns(&name.namespace, &name.name) {
                    let handle = self.context.known_handle(&key);
                    let status = self.context.status_of(&object, handle.as_ref());
                    return Ok(Store { name: name.clone(), status, door: Door::Own(handle) });
                }
                let status = self.context.status_of(&object, None);
                let (context, reader) = (self.context.clone(), self.context.reader(&key));
                let door = Door::Other(Arc::new(Other { context, reader, object }));
                Ok(Store { name: name.clone(), status, door })
            }
            None if self.context.stores().unseen_in(&name.namespace) => Err(Problem::StoresNotSeen),
            None => Err(Problem::StoreNotFound(name.to_string())),
        }
    }

    /// Every store, in the order of their names.
    pub(super) fn stores(&self) -> Result<Vec<Store>, Problem> {
        if !self.context.stores().seen() {
            return Err(Problem::StoresNotSeen);
        }
        let names = self.context.all_stores().into_iter().map(|object| StoreName {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        });
        let names: BTreeSet<StoreName> = names.collect();
        // One that has gone since is none.
        Ok(names.iter().filter_map(|name| self.store(name).ok()).collect())
    }

    /// The stores whose executions the caller asks to see: the one that he names, or all, if he may see all of them.
    pub(super) async fn seen_by(
        &self,
        caller: &Caller,
        wanted: Option<StoreName>,
    ) -> Result<Vec<Store>, Problem> {
        self.allowed(caller, wanted, |name| Access::Executions(name.map(|name| name.namespace.clone()))).await
    }

    /// The store of this name, if the caller may see its executions.
    pub(super) async fn one_seen_by(&self, caller: &Caller, name: &StoreName) -> Result<Store, Problem> {
        self.made_up(&caller.0, name)?;
        self.gate.require(&caller.0, &Access::Executions(Some(name.namespace.clone()))).await?;
        self.store(name)
    }

    /// The stores that the caller asks to clean up, likewise.
    pub(super) async fn cleaned_by(
        &self,
        caller: &Caller,
        wanted: Option<StoreName>,
    ) -> Result<Vec<Store>, Problem> {
        self.allowed(caller, wanted, |name| {
            Access::CleanUp(name.map(|name| (name.namespace.clone(), name.name.clone())))
        })
        .await
    }

    /// The stores whose executions the caller may see, and which of them he may clean up; a refusal if there are none.
    pub(super) async fn offered_to(
        &self,
        Caller(user): &Caller,
    ) -> Result<(Vec<Store>, BTreeSet<StoreName>), Problem> {
        if user.is_anonymous() {
            return Err(Problem::Unauthenticated);
        }
        let (mut seen, mut cleaned) = (Vec::new(), BTreeSet::new());
        for store in self.stores()? {
            let StoreName { namespace, name } = store.name.clone();
            if self.gate.may(user, &Access::Executions(Some(namespace.clone()))).await? {
                if self.gate.may(user, &Access::CleanUp(Some((namespace, name)))).await? {
                    cleaned.insert(store.name.clone());
                }
                seen.push(store);
            }
        }
        if seen.is_empty() {
            self.gate.require(user, &Access::Executions(None)).await?;
        }
        Ok((seen, cleaned))
    }

    /// Whether the caller may clean up at least one store. Somebody without a token is asked about once, not for each store.
    pub(super) async fn cleans_some(&self, Caller(user): &Caller) -> Result<bool, Problem> {
        if self.gate.may(user, &Access::CleanUp(None)).await? {
            return Ok(true);
        }
        if user.is_anonymous() {
            return Ok(false);
        }
        for StoreName { namespace, name } in self.stores()?.into_iter().map(|store| store.name) {
            if self.gate.may(user, &Access::CleanUp(Some((namespace, name)))).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names that somebody without a token makes up are no question to Kubernetes.
    fn made_up(&self, user: &User, name: &StoreName) -> Result<(), Problem> {
        if user.is_anonymous() && self.store(name).is_err() {
            return Err(Problem::Unauthenticated);
        }
        Ok(())
    }

    async fn allowed(
        &self,
        Caller(user): &Caller,
        wanted: Option<StoreName>,
        access: impl Fn(Option<&StoreName>) -> Access,
    ) -> Result<Vec<Store>, Problem> {
        if let Some(name) = wanted {
            self.made_up(user, &name)?;
            self.gate.require(user, &access(Some(&name))).await?;
            return Ok(vec![self.store(&name)?]);
        }
        let all = access(None);
        if self.gate.may(user, &all).await? {
            return self.stores();
        }
        let stores =
            self.stores().map_err(|why| if user.is_anonymous() { Problem::Unauthenticated } else { why })?;
        let each: BTreeSet<Access> = stores.iter().map(|store| access(Some(&store.name))).collect();
        for one in &each {
            if !self.gate.may(user, one).await? {
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
