//! The Events of an execution. Pure.

use crate::api::conditions::{ConditionType, find};
use crate::api::{JobExecutionStatus, Phase};
use crate::db::staleness::Reason;
use crate::kubernetes::events::News;

/// The changes worth an Event: an execution that was known to run has ended, or the operator has ended one; and, once,
/// that it runs for long. If the operator created the object (`made`), a success is not published: there are too many of
/// those.
pub(super) fn news(before: &JobExecutionStatus, after: &JobExecutionStatus, made: bool) -> Vec<News> {
    let mut news = Vec::new();
    let is_long = |status: &JobExecutionStatus| {
        find(&status.conditions, ConditionType::LongRunning).filter(|c| c.status == "True").cloned()
    };
    if let Some(long) = is_long(after).filter(|_| is_long(before).is_none()) {
        let at = after.started_at.as_ref().map_or(0, |t| t.0.as_second());
        news.push(News {
            key: format!("long-running-{at:x}"),
            warning: true,
            reason: long.reason,
            action: "Observe",
            note: long.message,
        });
    }
    let ours = after.reason.as_deref().is_some_and(|reason| Reason::parse(reason).is_some());
    let by_us = after.reason.is_some();
    let well = made && after.phase == Some(Phase::Completed);
    let ended =
        !well && before.phase.map_or(by_us, |p| !p.finished()) && after.phase.is_some_and(Phase::finished);
    if let Some(outcome) = find(&after.conditions, ConditionType::Succeeded).filter(|_| ended) {
        // The end of the row identifies the fact: published twice, it stays one Event.
        let at = after.completed_at.as_ref().map_or(0, |t| t.0.as_second());
        news.push(News {
            key: format!("finished-{at:x}"),
            warning: after.phase == Some(Phase::Failed) || ours,
            reason: outcome.reason.clone(),
            action: "Observe",
            note: outcome.message.clone(),
        });
    }
    news
}
