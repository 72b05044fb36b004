//! Stage 5, apply: the sweep, and its log lines.

use std::ops::ControlFlow;
use std::time::Instant;

use kube::ResourceExt as _;
use tracing::Instrument as _;

use super::decide::Decision;
use super::held::{forget_held, note_held};
use super::observe::{self, Observed};
use super::state::StoreState;
use super::swept::{SAMPLE, Swept};
use crate::api::{ExecutionStore, SWEEP_REQUESTED};
use crate::db::DbError;
use crate::db::observe::DeadlineSnapshot;
use crate::db::staleness::Reason;
use crate::db::sweep::{self, Ended, Outcome, Refused, Sweep, Trigger};
use crate::metrics::End;
use crate::runtime::cluster::Cluster;
use crate::session::counts::HealthCounts;
use crate::session::session::Session;
use crate::telemetry;

/// The outcome of the stage.
pub(super) struct Applied {
    /// The stale executions and the next deadline after the sweep.
    pub(super) pulse: DeadlineSnapshot,
    /// The sweep, if one ran.
    pub(super) sweep: Option<Swept>,
    /// The stale executions that could not be ended.
    pub(super) refused: Vec<Refused>,
}

/// Applies the decision. `may_write`: stale executions may be ended.
pub(super) async fn apply(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    state: &mut StoreState,
    observed: &Observed,
    decision: &Decision,
    may_write: bool,
) -> Result<Applied, DbError> {
    let Decision::Sweep(trigger) = *decision else {
        if !may_write || observed.pulse.stale == 0 {
            // The rows are released: nobody must be led to end the sessions that held them.
            state.passed_over = forget_held(session, state).await;
            state.noted = true;
        }
        return Ok(Applied { pulse: observed.pulse, sweep: None, refused: Vec::new() });
    };
    let mut swept = sweep_once(cluster, store, session, state, observed, trigger).await?;
    let refused = std::mem::take(&mut swept.refused);
    let pulse = if swept.ended > 0 {
        observe::pulse(store, session, &observed.rules, observed.evidence).await?
    } else {
        observed.pulse
    };
    state.passed_over = note_held(session, state, &observed.predicate(session), &pulse, &refused).await;
    state.noted = true;
    if pulse.stale > 0 && observed.evidence {
        // Executions that are stale by evidence are tried again soon too.
        state.evidence.ask();
    }
    Ok(Applied { pulse, sweep: Some(swept), refused })
}

/// Sweeps, logs every execution that it ends, and records the sweep in the state.
async fn sweep_once(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    state: &mut StoreState,
    observed: &Observed,
    trigger: Trigger,
) -> Result<Swept, DbError> {
    let started_at = observed.pulse.now;
    let sweep = Sweep { id: state.batcher.id(Instant::now(), trigger != Trigger::Deadline), trigger };
    let known = state.session.refused.known(trigger == Trigger::Requested);
    let (again, refused_before) = (known.again, known.rows.len());
    let (predicate, begun) = (observed.predicate(session), Instant::now());
    let mut ends = Ends { cluster, store, session, unrecorded: 0, first: Vec::new() };
    let outcome =
        sweep::run(&session.database, &predicate, &session.ledger, &sweep, known, |batch| ends.note(batch))
            .instrument(telemetry::sweep(sweep.id, trigger))
            .await?;
    let Outcome { ended, refused, retries, fault } = outcome;
    let (Ends { unrecorded, first, .. }, took) = (ends, begun.elapsed());
    session.note_fault(fault);
    session.counters.swept(started_at.timestamp(), took, retries);
    if refused.len() > refused_before {
        log_refused(store, &refused);
    }
    state.breaker.swept();
    state.swept = Some(Instant::now());
    state.answered = store.annotations().get(SWEEP_REQUESTED).cloned();
    if ended > 0 {
        state.batcher.failed(Instant::now());
    }
    state.session.refused.keep(&refused, again, took);
    Ok(Swept { sweep, started_at, took, ended, unrecorded, first, refused })
}

/// Takes note of the executions that a sweep ends, batch by batch.
struct Ends<'a> {
    cluster: &'a Cluster,
    store: &'a ExecutionStore,
    session: &'a Session,
    /// The number of ended executions that are recorded nowhere.
    unrecorded: u64,
    /// The first few of them.
    first: Vec<Ended>,
}

impl Ends<'_> {
    fn note(&mut self, batch: &[Ended]) -> ControlFlow<()> {
        for ended in batch {
            log_ended(self.store, ended);
        }
        self.session.counters.ended(batch.iter().map(end));
        let nowhere = || batch.iter().filter(|ended| !ended.recorded);
        self.unrecorded += nowhere().count() as u64;
        let room = usize::from(SAMPLE).saturating_sub(self.first.len());
        self.first.extend(nowhere().take(room).cloned());
        // If the spec is corrected during a sweep, the correction applies to the rest of the sweep too.
        let ours = !self.cluster.stop.is_cancelled() && self.cluster.owns_store(self.store);
        if ours && self.cluster.is_current(self.store) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

/// Logs some executions that a sweep could not end. The caller leaves out refusals that were logged before.
fn log_refused(store: &ExecutionStore, refused: &[Refused]) {
    for Refused { id, why } in refused.iter().take(SAMPLE.into()) {
        tracing::warn!(
            store = store.name_any(),
            execution = id,
            why,
            of = refused.len(),
            "a stale execution cannot be ended"
        );
    }
}

/// The counters for an ended execution. The lag is measured for timeouts only: other evidence has no deadline to miss.
fn end(ended: &Ended) -> End<'_> {
    let deadline = ended.deadline.filter(|_| ended.reason == Reason::DeadlineExceeded.as_str());
    End {
        reason: &ended.reason,
        ending: ended.ending,
        lag: deadline.map(|deadline| (ended.at - deadline).to_std().unwrap_or_default()),
    }
}

fn log_ended(store: &ExecutionStore, ended: &Ended) {
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
        ended.ending.word()
    );
}

/// Logs the result of a sweep and the health of the store.
pub(super) fn log_sweep(
    store: &ExecutionStore,
    swept: &Swept,
    pulse: &DeadlineSnapshot,
    counts: &HealthCounts,
) {
    let live = counts.live.as_ref();
    tracing::info!(
        namespace = store.namespace().unwrap_or_default(),
        store = store.name_any(),
        trigger = swept.sweep.trigger.as_str(),
        failed = swept.ended,
        remaining = pulse.stale,
        took_ms = swept.took.as_millis(),
        next_deadline = pulse.next_deadline.map(|deadline| deadline.to_rfc3339()),
        running = live.map(|live| live.running),
        long_running = live.map(|live| live.long_running),
        oldest = live.and_then(|live| live.oldest).map(|start| start.to_rfc3339()),
        scheduled = counts.census.map(|census| census.scheduled),
        recent_24h = counts.census.map(|census| census.recent),
        "swept"
    );
}
