//! The stores that the operator manages, and their open sessions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::api::conditions::{ConditionType, find};
use crate::api::names::{is_label, is_subdomain};
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::db::DbError;
use crate::db::connect::Reading;
use crate::db::mapping::IdType;
use crate::kubernetes::guarded::Guarded;
use crate::session::Context;
use crate::session::follower::FollowerSession;
use crate::session::handle::StoreHandle;
use crate::session::not_ready::NotReady;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

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
    Local(Option<Arc<StoreHandle>>),
    /// Another replica manages the store.
    Remote(Arc<RemoteStore>),
}

/// A store that another replica manages.
pub(super) struct RemoteStore {
    pub(super) context: Arc<Context>,
    pub(super) reader: Arc<FollowerSession>,
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
    pub(super) effective_rules: Arc<EffectiveRules>,
    access: StoreAccess,
}

impl Store {
    /// Returns the open session of the store. The database may become unavailable at any later time, which queries
    /// report.
    pub(super) async fn open(&self) -> Result<OpenStore, Problem> {
        let (session, effective_rules) = match &self.access {
            StoreAccess::Local(handle) => {
                let session = handle.as_ref().and_then(|handle| handle.session());
                let session = session.ok_or_else(|| self.not_ready())?;
                let effective_rules = self.with_wait_limit(session.effective_rules()).await?;
                (session, effective_rules)
            }
            StoreAccess::Remote(remote) => {
                let Ok(object) = &remote.object.0 else { return Err(self.not_ready()) };
                let turn = self.with_wait_limit(remote.reader.turn()).await?;
                let opened = remote.reader.open(&remote.context.cluster, object, turn).await;
                opened.map_err(|why| self.not_opened(&why))?
            }
        };
        let effective_rules = effective_rules.ok_or_else(|| self.not_ready())?;
        Ok(OpenStore { name: self.name.clone(), session, effective_rules, access: self.access.clone() })
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
        self.session.counters.failed(error.reason());
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
