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

/// The time to wait for current work when the operator is asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The time to wait for connections to be closed in order.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// The time for which this replica waits for its caches to sync before it takes its Lease and with it stores of other
/// replicas.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// The time to wait until the Lease is released if current work did not end in time.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// The interval at which idle connections are closed.
const CLOSE_IDLE_EVERY: Duration = Duration::from_mins(1);

/// The pause before work that a panic ended is repeated.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Runs every controller on the stores in `scope`, with caches limited by `budgets`, until `stop` is cancelled and
/// current work has ended. It also runs `beside`, with the shared state: that ends by itself once `stop` is cancelled,
/// and connections are closed only then. With a `lease` it shares the stores with other replicas. An error means that it
/// may not, or that it has lost its Lease, and that it did not wait for anything. `dialer` connects to databases, mail
/// servers and webhooks.
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
            // Reconciles catch their own panics. If a watch itself panics, no change of any object would be noticed: the
            // replica ends in order, and Kubernetes starts it again.
            caught(Place::Watch, controllers).await.map_err(LeaseError::Ended)?;
            drop(rebalancing);
            // Results are published before the end, and only then are the stores left to others.
            context.publishers.close();
            context.publishers.wait().await;
            leave.cancel();
            // Current deliveries are recorded, or the next replica would repeat them. No store waits for that.
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
        // A controller whose caches never synced does not end by itself, and a server may have fallen silent.
        () = limit => {
            tracing::warn!("what was under way did not end within {STOP_LIMIT:?}, its transactions are rolled back");
            Ok(())
        }
    };
    // No work may continue without the Lease.
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

/// Holds the replica's Lease, if it needs one, until `leave` is cancelled. It is a task of its own, so that no work
/// delays a renewal.
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
    // Without its Lease this replica ends in order: others manage its stores, and Kubernetes starts it again.
    held.unwrap_or(Err(Panicked(Place::Membership)))
        .unwrap_or_else(|panicked| Err(LeaseError::Ended(panicked)))
}

/// Rebalances the stores whenever the set of live replicas has changed, and closes idle sessions.
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

/// Runs a part of that. After a panic all of it is repeated: a store that was missed would stay unmanaged.
async fn rebalanced(controller: &StoreController, part: impl FnOnce()) {
    if caught_now(Place::Membership, part).is_err() {
        tokio::time::sleep(AFTER_PANIC).await;
        if caught_now(Place::Membership, || controller.rebalance()).is_err() {
            tracing::warn!("stores that have changed hands are taken over at their next reconcile");
        }
    }
}
