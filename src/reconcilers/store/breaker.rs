//! The circuit breaker: a sweep that would end more executions than the spec allows does not begin until somebody resumes
//! the store.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::api::conditions::{ConditionType, find};
use crate::api::{ExecutionStore, RESUME};
use crate::db::observe::{self, DeadlineSnapshot};
use crate::db::{DbError, Ledger, ledger};
use crate::session::session::Session;

/// The reason of `EnforcementPaused` while the breaker is open.
pub(super) const OPEN: &str = "BreakerOpen";

/// A percentage applies only if at least this many executions run.
const SHARE_FROM: i64 = 20;

/// The state of the circuit breaker.
#[derive(Default)]
pub(super) struct Breaker {
    /// The reason why it is open, if it is.
    why: Option<String>,
    /// The generation of the spec that was last judged.
    generation: Option<i64>,
    /// True once the database was read: an operator before this one may have opened the breaker.
    known: bool,
    /// The value of the annotation that was last read.
    resumed: Option<String>,
    /// True if somebody has resumed the store and no sweep has finished since: a sweep that breaks off must not wait to
    /// be resumed a second time.
    allowed: bool,
}

impl Breaker {
    /// Reads the database again at the next reconcile. The generation that was judged is kept, since a new spec may close
    /// the breaker.
    pub(super) fn ask_again(&mut self) {
        self.known = false;
    }

    #[cfg(test)]
    pub(super) fn open_for_test(&mut self, why: &str) {
        self.why = Some(why.to_owned());
    }

    #[cfg(test)]
    pub(super) fn why_for_test(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Records that a sweep has finished, which uses up the permission to resume.
    pub(super) fn swept(&mut self) {
        self.allowed = false;
    }

    /// The value of the annotation that was last read.
    pub(super) fn resumed(&self) -> Option<String> {
        self.resumed.clone()
    }
}

/// The decision of the circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Sweep.
    Closed,
    /// Somebody has resumed the store, and no sweep has finished since: sweep, however many executions are stale.
    Resumed,
    /// It has just opened: do not sweep, for this reason.
    JustOpened(String),
    /// Do not sweep, for this reason.
    Open(String),
}

/// Judges the stale executions, and records the outcome in the database.
pub(super) async fn check(
    store: &ExecutionStore,
    session: &Session,
    breaker: &mut Breaker,
    pulse: &DeadlineSnapshot,
) -> Result<Verdict, DbError> {
    let status = store.status.clone().unwrap_or_default();
    let told = find(&status.conditions, ConditionType::EnforcementPaused)
        .filter(|condition| condition.reason == OPEN);
    if !breaker.known || breaker.why.is_some() {
        // Somebody may have closed it in the database.
        breaker.why = match session.ledger {
            Ledger::Tables { store_id, .. } => {
                session.database.within(ledger::breaker::paused(&session.database, store_id)).await?
            }
            Ledger::Missing(_) => {
                let told = told.filter(|_| !breaker.allowed);
                breaker.why.take().or_else(|| told.map(|condition| condition.message.clone()))
            }
        };
        // The spec may have changed while no operator ran.
        breaker.generation =
            breaker.generation.or_else(|| told.and_then(|condition| condition.observed_generation));
        breaker.known = true;
    }
    let generation = store.metadata.generation;
    if let Some(request) = store.annotations().get(RESUME)
        && breaker.resumed.as_ref() != Some(request)
        && status.observed_resume.as_ref() != Some(request)
    {
        // While nothing is paused, the annotation allows nothing: it may have been copied with the object.
        if breaker.why.is_some() {
            // Set before it is recorded: the database may record it without the answer arriving here.
            breaker.allowed = true;
            note(session, None).await?;
            breaker.why = None;
        }
        // Set last: if the database could not record it, the next reconcile reads the annotation again.
        breaker.resumed = Some(request.clone());
        if breaker.allowed {
            breaker.generation = generation;
            return Ok(Verdict::Resumed);
        }
    }
    let same_spec = breaker.generation.is_none_or(|judged| Some(judged) == generation);
    // The permission was given under another spec, or another operator has opened the breaker since.
    breaker.allowed &= same_spec && breaker.why.is_none();
    if let Some(why) = breaker.why.clone().filter(|_| same_spec) {
        breaker.generation = generation;
        return Ok(Verdict::Open(why));
    }
    breaker.generation = generation;
    let now = match limit(store, session, pulse).await? {
        Some((limit, of)) if pulse.stale > limit => Some(why(store, pulse.stale, limit, of)),
        _ => None,
    };
    if breaker.allowed && now.is_some() {
        return Ok(Verdict::Resumed);
    }
    breaker.allowed = false;
    let was_open = breaker.why.is_some();
    if now.is_some() != was_open {
        note(session, now.as_deref()).await?;
    }
    breaker.why.clone_from(&now);
    Ok(match now {
        None => Verdict::Closed,
        Some(why) if was_open => Verdict::Open(why),
        Some(why) => Verdict::JustOpened(why),
    })
}

async fn note(session: &Session, why: Option<&str>) -> Result<(), DbError> {
    let Ledger::Tables { store_id, outbox } = session.ledger else { return Ok(()) };
    let paused = ledger::breaker::pause(&session.database, store_id, outbox, why);
    session.note_fault(session.database.within(paused).await?);
    Ok(())
}

/// The number of executions that a sweep may end, and the number of running executions if the limit is a percentage.
async fn limit(
    store: &ExecutionStore,
    session: &Session,
    pulse: &DeadlineSnapshot,
) -> Result<Option<(i64, Option<i64>)>, DbError> {
    if pulse.stale == 0 {
        return Ok(None);
    }
    match &store.spec.max_failures_per_sweep {
        IntOrString::Int(limit) => Ok(Some((i64::from(*limit), None))),
        IntOrString::String(share) => {
            // The API server has validated the percentage.
            let percent: i64 = share.trim_end_matches('%').parse().unwrap_or(100);
            let running = observe::running(&session.database, &session.mapping);
            let running = session.database.within(running).await?;
            Ok((running >= SHARE_FROM).then(|| (running.saturating_mul(percent) / 100, Some(running))))
        }
    }
}

fn why(store: &ExecutionStore, stale: i64, limit: i64, running: Option<i64>) -> String {
    let of = running.map_or(String::new(), |running| format!(" of {running} running"));
    let allowed = match &store.spec.max_failures_per_sweep {
        IntOrString::Int(_) => String::new(),
        IntOrString::String(share) => format!(", {share} of them"),
    };
    format!(
        "a sweep would end {stale}{of} executions, and spec.maxFailuresPerSweep allows {limit}{allowed}: see why they \
         are stale; then let it go on with `kubectl annotate executionstore {} {RESUME}=$(date +%s) --overwrite`, or \
         raise the limit",
        store.name_any()
    )
}
