//! The reconcilers. Each is the driver of one pipeline: observe, decide, apply, report.

pub mod budget;
pub mod cached;
pub mod context;
pub mod events;
pub mod execution;
pub mod failures;
mod fault;
pub mod guarded;
pub mod in_force;
pub mod membership;
pub mod policy;
pub mod reader;
mod records;
pub mod scope;
pub mod secret;
pub mod selector;
pub mod session;
mod snapshot;
pub mod store;
pub mod watching;
pub mod wishes;
pub mod workloads;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::mpsc;
use futures::future::FusedFuture as _;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::boundary::{Panicked, Place, caught};
pub use cached::Budgets;
pub use context::Context;
use membership::{LeaseError, Membership};
pub use scope::Scope;

use crate::net::Dialer;

/// The name under which the operator writes status by server-side apply.
const FIELD_MANAGER: &str = "jobexec-operator";

/// The name under which the operator says that it cannot use an object. Applied under [`FIELD_MANAGER`], that would remove the rest
/// of the status, which remembers that a cancel was done and that the breaker was closed. The next usual status takes the
/// condition back.
const REFUSAL_MANAGER: &str = "jobexec-refusal";

/// The name under which the operator makes and labels the objects of executions.
const OBJECTS_MANAGER: &str = "jobexec-objects";

/// How long a call to the API server may take, the client's own retries included.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait for what is under way when the operator is asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// How long to wait for connections to be closed in order.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// How long the stores of other replicas are left to them while this one has not seen all objects yet.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait until the Lease is given back when what was under way did not end in time.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// How often is looked for connections that nobody needs.
const TIDY: Duration = Duration::from_mins(1);

/// The pause before what a panic ended is done again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How many nudges may wait for a controller. One that finds no room is covered by the object's own
/// requeue.
const NUDGES: usize = 4_096;

/// A reconcile that did not reach its end. It is tried again with backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or could not be reached.
    #[error("the Kubernetes API: {0}")]
    Kube(#[from] Box<kube::Error>),
    /// What the database recorded could not be read.
    #[error("the database: {0}")]
    Database(#[from] crate::db::DbError),
    /// A panic, which is a defect.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The API server did not answer.
    #[error("the Kubernetes API did not answer within {API_TIMEOUT:?}")]
    Timeout,
}

impl ReconcileError {
    /// The HTTP status of a refusal.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the API server will not have it, so that trying again soon is of no use: a right or quota is missing.
    fn refused(&self) -> bool {
        self.code().is_some_and(|code| (400..500).contains(&code) && code != 429)
    }
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Bounds one call to the API server.
pub(crate) async fn bounded<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReconcileError> {
    tokio::time::timeout(API_TIMEOUT, call).await.map_err(|_| ReconcileError::Timeout)?.map_err(Into::into)
}

/// Runs every controller on the stores in `scope`, whose objects may take so much memory, until `stop` is cancelled and what is under way has ended. So does what runs
/// `beside` them on what they know: it ends by itself once `stop` is cancelled, and connections are closed only then. With a
/// `lease` it shares the stores with other replicas; an error means that it may not, or that it has lost its Lease, and that
/// nothing was waited for. Databases, mail servers and webhooks are connected to by `dialer`.
pub async fn run<F: Future<Output = ()>>(
    client: Client,
    scope: Scope,
    budgets: Budgets,
    lease: Option<membership::Options>,
    dialer: Dialer,
    stop: CancellationToken,
    beside: impl FnOnce(Arc<Context>) -> F,
) -> Result<(), LeaseError> {
    let (stores, seen_stores) =
        watching::watch(&client, &scope.namespaces, &store::watched(&scope), budgets.stores);
    let (executions, seen_executions) =
        watching::watch(&client, &scope.namespaces, &execution::watched(), budgets.executions);
    let (policies, seen_policies) =
        watching::watch(&client, &scope.namespaces, &policy::watched(), budgets.policies);
    let (nudge_stores, nudged_stores) = mpsc::channel(NUDGES);
    let (nudge_policies, nudged_policies) = mpsc::channel(NUDGES);
    let nudges = context::Nudges { stores: nudge_stores, policies: nudge_policies };
    let caches = context::Caches { stores, executions, policies };
    let membership = Arc::new(Membership::new(lease.as_ref()));
    let context = Arc::new(Context::new(client, scope, caches, nudges, membership, dialer, stop.clone()));
    let stores = store::run(context.clone(), seen_stores, nudged_stores, stop.clone());
    let executions = execution::run(context.clone(), seen_executions);
    let policies = policy::run(context.clone(), seen_policies, nudged_policies, stop.clone());
    let beside = beside(context.clone());
    let leave = CancellationToken::new();
    let work = async {
        let enforcement = async {
            let settling = AbortOnDropHandle::new(tokio::spawn(settle(context.clone())));
            let controllers = futures::future::join3(stores.boxed(), executions.boxed(), policies.boxed());
            // Their reconciles have boundaries of their own. Should a watch itself panic, nothing would be heard of any object:
            // the replica ends in order, and Kubernetes starts it again.
            caught(Place::Watch, controllers).await.map_err(LeaseError::Ended)?;
            drop(settling);
            // What was done is told before the end, and only then are the stores left to others.
            context.tellers.close();
            context.tellers.wait().await;
            leave.cancel();
            // What is being delivered is noted, or the next one would deliver it again. Nobody's stores wait for that.
            context.deliveries.close();
            context.deliveries.wait().await;
            Ok(())
        };
        let beside = async { caught(Place::Request, beside).await.map_err(LeaseError::Ended) };
        tokio::try_join!(enforcement, beside).map(|_: ((), ())| ())
    };
    let mut lease = std::pin::pin!(hold(context.clone(), lease, leave.clone()).fuse());
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_LIMIT).await;
    };
    let outcome = tokio::select! {
        outcome = async { tokio::try_join!(work, &mut lease) } => outcome.map(|_: ((), ())| ()),
        // A controller that never saw its objects does not end by itself, and a server may have fallen silent.
        () = limit => {
            tracing::warn!("what was under way did not end within {STOP_LIMIT:?}, its transactions are rolled back");
            Ok(())
        }
    };
    // Nothing may go on without the Lease.
    context.stop.cancel();
    leave.cancel();
    if outcome.is_ok() && !lease.is_terminated() && tokio::time::timeout(LEAVE_LIMIT, lease).await.is_err() {
        tracing::warn!("the Lease could not be given back in time, it ends by itself");
    }
    if tokio::time::timeout(CLOSE_LIMIT, context.close()).await.is_err() {
        tracing::debug!("connections were still in use at the end");
    }
    outcome
}

/// Holds the replica's Lease, if it is to have one, until it is to `leave`. It is a task of its own, so that no work delays
/// a renewal.
async fn hold(
    context: Arc<Context>,
    lease: Option<membership::Options>,
    leave: CancellationToken,
) -> Result<(), LeaseError> {
    let Some(options) = lease else {
        leave.cancelled().await;
        return Ok(());
    };
    let ready = {
        let context = context.clone();
        async move { context.all_seen(JOIN_LIMIT).await }
    };
    let held = membership::run(context.membership.clone(), context.client.clone(), options, ready, leave);
    let held = AbortOnDropHandle::new(tokio::spawn(caught(Place::Membership, held))).await;
    // Without its Lease this replica ends in order: others look after its stores, and Kubernetes starts it again.
    held.unwrap_or(Err(Panicked(Place::Membership)))
        .unwrap_or_else(|panicked| Err(LeaseError::Ended(panicked)))
}

/// Has the stores change hands whenever the replicas that are alive have changed, and closes what nobody asks any more.
async fn settle(context: Arc<Context>) {
    let mut changes = context.membership.changes();
    let mut idle = tokio::time::interval(TIDY);
    loop {
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => settled(&context, context.settle()).await,
                Err(_) => return,
            },
            _ = idle.tick() => {}
        }
        settled(&context, async { context.tidy() }).await;
    }
}

/// Does a part of that. After a panic all of it is done again: a store that was missed would be left alone.
async fn settled(context: &Arc<Context>, part: impl Future<Output = ()>) {
    if caught(Place::Membership, part).await.is_err() {
        tokio::time::sleep(AFTER_PANIC).await;
        if caught(Place::Membership, context.settle()).await.is_err() {
            tracing::warn!("stores that have changed hands are taken up when they are next looked at");
        }
    }
}
