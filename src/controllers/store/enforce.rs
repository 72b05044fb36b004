//! Apply: the sweep, and what the log says of it.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;

use super::figures::Figures;
use crate::api::ExecutionStore;
use crate::controllers::Context;
use crate::controllers::session::Session;
use crate::db::judge::Reason;
use crate::db::observe::Pulse;
use crate::db::sweep::{self, Ended, Known, Outcome, Refused, Sweep};
use crate::db::{DbError, Judge};
use crate::metrics::End;

/// A sweep that ran to its end.
pub(super) struct Swept {
    pub(super) sweep: Sweep,
    pub(super) started_at: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) ended: u64,
    /// How many of them are recorded nowhere, and the first few of those, for an Event.
    pub(super) unrecorded: u64,
    pub(super) first: Vec<Ended>,
    /// Those that could not be ended.
    pub(super) refused: Vec<Refused>,
}

/// Sweeps, and logs every execution that it ends.
pub(super) async fn sweep(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    judge: &Judge<'_>,
    sweep: Sweep,
    known: Known,
    started_at: DateTime<Utc>,
) -> Result<Swept, DbError> {
    let (begun, before) = (Instant::now(), known.rows.len());
    let (mut unrecorded, mut first) = (0, Vec::new());
    let outcome = sweep::run(&session.database, judge, &session.ledger, &sweep, known, |batch| {
        for ended in batch {
            tell(store, ended);
        }
        session.tally.ended(batch.iter().map(end));
        let nowhere = || batch.iter().filter(|ended| !ended.recorded);
        unrecorded += nowhere().count() as u64;
        let room = usize::from(super::tell::SAMPLE).saturating_sub(first.len());
        first.extend(nowhere().take(room).cloned());
        // A person who corrects the spec in the middle of a sweep means the rest of it too.
        let ours = !context.stop.is_cancelled() && context.looks_after(store);
        let goes_on = ours && context.is_current(store);
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .await?;
    let Outcome { ended, refused, retries, fault } = outcome;
    session.note_fault(fault);
    session.tally.swept(started_at.timestamp(), begun.elapsed(), retries);
    let of = refused.len();
    // What was known is not said again and again.
    let sample = if of > before { super::tell::SAMPLE.into() } else { 0 };
    for Refused { id, why } in refused.iter().take(sample) {
        tracing::warn!(
            store = store.name_any(),
            execution = id,
            why,
            of,
            "a stale execution cannot be ended"
        );
    }
    Ok(Swept { sweep, started_at, took: begun.elapsed(), ended, unrecorded, first, refused })
}

/// What is counted of it. The row's own deadline is that of a timeout: other evidence has none that could be missed.
fn end(ended: &Ended) -> End<'_> {
    let deadline = ended.deadline.filter(|_| ended.reason == Reason::DeadlineExceeded.as_str());
    End {
        reason: &ended.reason,
        cancelled: ended.cancelled,
        lag: deadline.map(|deadline| (ended.at - deadline).to_std().unwrap_or_default()),
    }
}

fn tell(store: &ExecutionStore, ended: &Ended) {
    tracing::warn!(
        namespace = store.namespace().unwrap_or_default(),
        store = store.name_any(),
        execution = ended.id,
        job = ended.job_id,
        number = ended.number,
        runtime_seconds = ended.runtime().map(|runtime| runtime.num_seconds()),
        started_at = ended.started_at.map(|at| at.to_rfc3339()),
        deadline = ended.deadline.map(|at| at.to_rfc3339()),
        source = ended.source,
        reason = ended.reason,
        "{} a stale execution",
        if ended.cancelled { "cancelled" } else { "failed" }
    );
}

/// The health line of a sweep.
pub(super) fn tell_swept(store: &ExecutionStore, swept: &Swept, pulse: &Pulse, figures: &Figures) {
    let live = figures.live.as_ref();
    tracing::info!(
        namespace = store.namespace().unwrap_or_default(),
        store = store.name_any(),
        trigger = swept.sweep.trigger,
        failed = swept.ended,
        remaining = pulse.stale,
        took_ms = swept.took.as_millis(),
        next_deadline = pulse.next_deadline.map(|deadline| deadline.to_rfc3339()),
        running = live.map(|live| live.running),
        long_running = live.map(|live| live.long_running),
        oldest = live.and_then(|live| live.oldest).map(|start| start.to_rfc3339()),
        scheduled = figures.census.map(|census| census.scheduled),
        recent_24h = figures.census.map(|census| census.recent),
        "swept"
    );
}
