//! After a panic in a reconcile of a store: nothing that it may have left half changed is used again, the condition says so, and the
//! next try comes ever later.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::Handle;
use super::look::Seen;
use super::memory::Memory;
use super::slot::Untold;
use super::{tell, verdict};
use crate::api::ExecutionStore;
use crate::boundary::{self, Panicked, Place, caught};
use crate::controllers::context::Guarded;
use crate::controllers::session::NotReady;
use crate::controllers::{Context, ReconcileError};

/// Makes ready for the next try.
///
/// # Errors
/// There is nothing to make ready, or that panicked too: the object is tried again like one that cannot be written.
pub(super) async fn recover(
    guarded: &Guarded<ExecutionStore>,
    context: &Arc<Context>,
    panicked: Panicked,
) -> Result<Action, ReconcileError> {
    let handle = context.known_handle(&ObjectRef::from_obj(guarded));
    let (Ok(store), Some(handle)) = (&guarded.0, handle) else { return Err(panicked.into()) };
    let pause = caught(Place::Store, forget_and_tell(context, store, &handle)).await?;
    Ok(Action::requeue(pause))
}

/// Returns the pause before the next try.
async fn forget_and_tell(context: &Arc<Context>, store: &ExecutionStore, handle: &Arc<Handle>) -> Duration {
    let mut memory = handle.memory.lock().await;
    // The connections are closed for all who share them: it is not known on which of them it happened.
    handle.give_up(true, memory.notifier.leave());
    *memory = memory.after_panic();
    handle.keep_governed(None);
    handle.tally.failed(boundary::REASON);
    handle.looked();
    let mut seen = Seen::new(Err(NotReady::Internal), handle.sync_status(), memory.answered.clone());
    seen.look_again = memory.pause_after(boundary::REASON);
    let pause = seen.look_again;
    tracing::warn!(
        store = store.name_any(),
        reason = boundary::REASON,
        pause_ms = pause.as_millis(),
        "the store is tried again"
    );
    let before = store.status.clone().unwrap_or_default();
    handle.keep_latest(verdict::judge(store, &before, &seen, Utc::now()));
    tell::tell(context, handle, Untold::new(store.clone(), seen));
    pause
}

impl Memory {
    /// What counts after a panic: everything is learnt again, as after a restart, but for what nothing else knows. The breaker stays
    /// as it is, since a database without the operator's tables does not keep it. Heartbeats count anew, as after an outage.
    fn after_panic(&mut self) -> Self {
        let mut breaker = std::mem::take(&mut self.breaker);
        breaker.ask_again();
        Self {
            breaker,
            notifier: self.notifier.anew(),
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
        let mut memory = Memory {
            uid: "one".to_owned(),
            predecessor: Some("before".to_owned()),
            answered: Some("asked".to_owned()),
            swept: Some(std::time::Instant::now()),
            now: Some(Utc::now()),
            held: 7,
            ..Memory::default()
        };
        memory.breaker.open_for_test("too many");
        memory.pause_after(boundary::REASON);
        let mut after = memory.after_panic();
        assert_eq!(
            (after.uid.as_str(), after.predecessor.as_deref(), after.answered.as_deref()),
            ("one", Some("before"), Some("asked"))
        );
        assert!(after.outage, "silence of workers during it is no evidence");
        assert!(after.swept.is_none() && after.now.is_none() && after.held == 0 && after.described.is_none());
        assert_eq!(after.breaker.why_for_test(), Some("too many"), "no sweep goes on that a person stopped");
        assert!(
            after.pause_after(boundary::REASON) >= Duration::from_secs(2),
            "the pauses become longer from one panic to the next"
        );
    }
}
