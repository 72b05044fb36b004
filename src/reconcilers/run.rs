//! Runs all controllers, until the operator stops or loses its Lease.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::FusedFuture as _;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{execution, policy, store};
use crate::boundary::{Panicked, Place, caught, caught_now};
use crate::kubernetes::cached::Budgets;
use crate::kubernetes::scope::Scope;
use crate::kubernetes::watching;
use crate::net::Dialer;
use crate::reconcilers::store::StoreController;
use crate::runtime::cluster::{Caches, Cluster};
use crate::session::context::Context;
use crate::sharding::{self, LeaseError, Sharding};

/// How long to wait for what is under way when the operator is asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for connections to be closed in order.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// How long the stores of other replicas are left to them while this one has not seen all objects yet.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait until the Lease is given back when what was under way did not end in time.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// How often is looked for connections that nobody needs.
const CLOSE_IDLE_EVERY: Duration = Duration::from_mins(1);

/// The pause before what a panic ended is done again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Runs every controller on the stores in `scope`, whose objects may take so much memory, until `stop` is cancelled and what is under way has ended. So does what runs
/// `beside` them on what they know: it ends by itself once `stop` is cancelled, and connections are closed only then. With a
/// `lease` it shares the stores with other replicas; an error means that it may not, or that it has lost its Lease, and that
/// nothing was waited for. Databases, mail servers and webhooks are connected to by `dialer`.
pub async fn run<F: Future<Output = ()>>(
    client: Client,
    scope: Scope,
    budgets: Budgets,
    lease: Option<sharding::Options>,
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
    let caches = Caches { stores, executions, policies };
    let sharding = Arc::new(Sharding::new(lease.as_ref()));
    let cluster = Cluster::new(client, scope, caches, sharding, dialer, stop.clone());
    let context = Arc::new(Context::new(Arc::new(cluster)));
    let controller = Arc::new(StoreController::new(context.clone()));
    let stores = store::run(controller.clone(), seen_stores, stop.clone());
    let executions = execution::run(context.clone(), seen_executions);
    let policies = policy::run(context.clone(), seen_policies, stop.clone());
    let beside = beside(context.clone());
    let leave = CancellationToken::new();
    let work = async {
        let enforcement = async {
            let rebalancing = AbortOnDropHandle::new(tokio::spawn(rebalance(controller)));
            let controllers = futures::future::join3(stores.boxed(), executions.boxed(), policies.boxed());
            // Their reconciles have boundaries of their own. Should a watch itself panic, nothing would be heard of any object:
            // the replica ends in order, and Kubernetes starts it again.
            caught(Place::Watch, controllers).await.map_err(LeaseError::Ended)?;
            drop(rebalancing);
            // What was done is told before the end, and only then are the stores left to others.
            context.publishers.close();
            context.publishers.wait().await;
            leave.cancel();
            // What is being delivered is noted, or the next one would deliver it again. Nobody's stores wait for that.
            context.deliveries.close();
            context.deliveries.wait().await;
            Ok(())
        };
        let beside = async { caught(Place::Request, beside).await.map_err(LeaseError::Ended) };
        tokio::try_join!(enforcement, beside).map(|_: ((), ())| ())
    };
    let mut lease = std::pin::pin!(hold_lease(context.clone(), lease, leave.clone()).fuse());
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
async fn hold_lease(
    context: Arc<Context>,
    lease: Option<sharding::Options>,
    leave: CancellationToken,
) -> Result<(), LeaseError> {
    let Some(options) = lease else {
        leave.cancelled().await;
        return Ok(());
    };
    let ready = {
        let context = context.clone();
        async move { context.wait_for_caches(JOIN_LIMIT).await }
    };
    let held = sharding::run(context.sharding.clone(), context.client.clone(), options, ready, leave);
    let held = AbortOnDropHandle::new(tokio::spawn(caught(Place::Membership, held))).await;
    // Without its Lease this replica ends in order: others look after its stores, and Kubernetes starts it again.
    held.unwrap_or(Err(Panicked(Place::Membership)))
        .unwrap_or_else(|panicked| Err(LeaseError::Ended(panicked)))
}

/// Rebalances the stores whenever the set of live replicas has changed, and closes sessions that nobody uses.
async fn rebalance(controller: Arc<StoreController>) {
    let context = &controller.context;
    let mut changes = context.sharding.changes();
    let mut idle = tokio::time::interval(CLOSE_IDLE_EVERY);
    loop {
        tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => rebalanced(&controller, || controller.rebalance()).await,
                Err(_) => return,
            },
            _ = idle.tick() => {}
        }
        rebalanced(&controller, || context.close_idle_readers()).await;
    }
}

/// Does a part of that. After a panic all of it is done again: a store that was missed would stay unmanaged.
async fn rebalanced(controller: &StoreController, part: impl FnOnce()) {
    if caught_now(Place::Membership, part).is_err() {
        tokio::time::sleep(AFTER_PANIC).await;
        if caught_now(Place::Membership, || controller.rebalance()).is_err() {
            tracing::warn!("stores that have changed hands are taken over at their next reconcile");
        }
    }
}
