//! Evidence of death other than the deadline: a lost heartbeat, a finished job, a later execution.

mod heartbeats;
mod jobs;
mod starts;

use crate::support::{Operator, World, is, message};

/// Each ended row, with the reason.
const ENDED: &str = "SELECT string_agg(concat_ws(' ', execution_id, action, reason), ', ' ORDER BY execution_id::bigint) \
     FROM jobexec.events WHERE action IN ('Failed', 'Cancelled')";

/// Checks how the object of a row and its Events report the end of the row.
async fn told(world: &World, operator: &Operator, name: &str, reason: &str, words: &str) {
    let status =
        world.execution_until(operator, name, |s| is(&s.conditions, "Finished", "True", "Failed")).await;
    assert!(is(&status.conditions, "Succeeded", "False", reason), "{:#?}", status.conditions);
    assert_eq!(status.reason.as_deref(), Some(reason));
    let text = message(&status.conditions, "Succeeded");
    assert!(text.contains(words), "{words} not in {text}");
    let note = world.event_until(operator, name, reason).await;
    assert!(note.contains(words), "{words} not in {note}");
}

/// Makes the operator reconcile and sweep with all evidence.
async fn look(world: &World, operator: &Operator) {
    world.request_sweep(operator).await;
}
