//! Recovery after a panic in a reconcile of a store: state that may be half changed is discarded, the condition reports
//! the panic, and the pause before the next try grows.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::controller::StoreController;
use super::reconciled::{Answered, Reconciled};
use super::state::StoreState;
use super::worker::Worker;
use crate::api::ExecutionStore;
use crate::boundary::{self, Panicked, Place, caught};
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::guarded::Guarded;
use crate::session::not_ready::NotReady;

/// Prepares the next try.
///
/// # Errors
/// Fails if there is no decoded store or no worker, or if the recovery panics too. The object is then retried as after a
/// failed write.
pub(super) async fn recover(
    guarded: &Guarded<ExecutionStore>,
    controller: &StoreController,
    panicked: Panicked,
) -> Result<Action, ReconcileError> {
    let worker = controller.known_worker(&ObjectRef::from_obj(guarded));
    let (Ok(store), Some(worker)) = (&guarded.0, worker) else { return Err(panicked.into()) };
    let pause = caught(Place::Store, forget_and_publish(controller, store, &worker)).await?;
    Ok(Action::requeue(pause))
}

/// Discards the state, and returns the pause before the next try.
async fn forget_and_publish(
    controller: &StoreController,
    store: &ExecutionStore,
    worker: &Worker,
) -> Duration {
    let mut state = worker.state.lock().await;
    let handle = &worker.handle;
    // The connections are closed for all stores that share them: it is not known on which of them the panic happened.
    handle.drop_session(true, state.notifier.leave());
    *state = state.after_panic();
    handle.keep_governed(None);
    handle.counters.failed(boundary::REASON);
    handle.mark_reconciled();
    let pause = state.pause_after(boundary::REASON);
    tracing::warn!(
        store = store.name_any(),
        reason = boundary::REASON,
        pause_ms = pause.as_millis(),
        "the store is tried again"
    );
    let answered =
        Answered { sweep: state.answered.clone(), adopt: state.adopted.clone(), ..Answered::default() };
    let result = Reconciled::not_ready(NotReady::Internal, handle.sync_status(), answered);
    worker.publish(&controller.context.cluster, store, result);
    pause
}

impl StoreState {
    /// The state that stays valid after a panic. Everything else is learnt again, as after a restart, except for what only
    /// this state holds. The breaker stays as it is, since a database without the operator's tables does not record it.
    /// Heartbeats count from now on, as after an outage.
    fn after_panic(&mut self) -> Self {
        let mut breaker = std::mem::take(&mut self.breaker);
        breaker.ask_again();
        Self {
            breaker,
            notifier: self.notifier.for_new_session(),
            answered: self.answered.take(),
            adopted: self.adopted.take(),
            unadopted: self.unadopted.take(),
            failure: self.failure,
            uid: std::mem::take(&mut self.uid),
            predecessor: self.predecessor.take(),
            recorded: self.recorded,
            outage: true,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_panic_only_what_nothing_else_knows_is_kept() {
        let mut state = StoreState {
            uid: "one".to_owned(),
            predecessor: Some("before".to_owned()),
            answered: Some("asked".to_owned()),
            swept: Some(std::time::Instant::now()),
            now: Some(chrono::Utc::now()),
            held: 7,
            ..StoreState::default()
        };
        state.breaker.open_for_test("too many");
        state.pause_after(boundary::REASON);
        let mut after = state.after_panic();
        assert_eq!(
            (after.uid.as_str(), after.predecessor.as_deref(), after.answered.as_deref()),
            ("one", Some("before"), Some("asked"))
        );
        assert!(after.outage, "silence of workers during it is no evidence");
        assert!(
            after.swept.is_none()
                && after.now.is_none()
                && after.held == 0
                && after.session.described.is_none()
        );
        assert_eq!(after.breaker.why_for_test(), Some("too many"), "no sweep goes on that a person stopped");
        assert!(
            after.pause_after(boundary::REASON) >= Duration::from_secs(2),
            "the pauses become longer from one panic to the next"
        );
    }
}
