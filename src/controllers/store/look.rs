//! Observe and apply: one look at a store. It opens the connection, brings the rules up to date, takes a sample,
//! sweeps if that is due, and says when to look again. It writes nothing to Kubernetes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use kube::ResourceExt as _;
use uuid::Uuid;

use super::Handle;
use super::memory::Memory;
use crate::api::{ExecutionStore, Mode, SWEEP_REQUESTED};
use crate::controllers::Context;
use crate::controllers::context::until;
use crate::controllers::session::{Credentials, NotReady, Session};
use crate::db::observe::{self, Contradictions, Sample};
use crate::db::sweep::{self, Failed, Sweep};
use crate::db::{DbError, Judge};

/// How long credentials and catalog are trusted before they are looked at again.
const RECHECK: Duration = Duration::from_mins(1);

/// How long a first look waits for all `JobExecution` objects to be seen, so that none of their timeouts is missed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause before stale executions that a sweep had to leave are tried again.
const RETRY_REMAINING: Duration = Duration::from_secs(1);

/// What a look saw.
pub(super) struct Seen {
    /// The session, or why there is none.
    pub(super) session: Result<Current, NotReady>,
    /// The health of the table, taken after the sweep.
    pub(super) sample: Option<Sample>,
    /// Rows that contradict themselves; `None` where they could not be counted.
    pub(super) contradictions: Option<Contradictions>,
    /// The sweep, if one ran.
    pub(super) sweep: Option<Swept>,
    /// The sweep request that the sweep answered.
    pub(super) answered: Option<String>,
    /// What went wrong after the session was there.
    pub(super) error: Option<DbError>,
    /// When to look again.
    pub(super) look_again: Duration,
}

/// The session in use.
pub(super) struct Current {
    pub(super) session: Arc<Session>,
    /// Whether this look opened it.
    pub(super) opened: bool,
}

/// A sweep that ran to its end.
pub(super) struct Swept {
    pub(super) sweep: Sweep,
    pub(super) started_at: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) failed: u64,
    /// The first few, for an Event where nothing is recorded.
    pub(super) first: Vec<Failed>,
}

impl Seen {
    /// Whether the store's executions should be looked at now.
    pub(super) fn worth_telling(&self) -> bool {
        matches!(self.session, Ok(Current { opened: true, .. }))
            || self.sweep.as_ref().is_some_and(|swept| swept.failed > 0)
    }
}

pub(super) async fn look(
    context: &Context,
    store: &ExecutionStore,
    handle: &Handle,
    memory: &mut Memory,
) -> Seen {
    let mut seen = Seen {
        session: session(context, store, handle, memory).await,
        sample: None,
        contradictions: None,
        sweep: None,
        answered: memory.answered.clone(),
        error: None,
        look_again: Duration::ZERO,
    };
    let session = match &seen.session {
        Ok(current) => current.session.clone(),
        Err(why) => {
            handle.close().await;
            seen.look_again = memory.pause_after(why.reason());
            tracing::warn!(store = %store.name_any(), reason = why.reason(), error = %why, "the store is not ready");
            return seen;
        }
    };
    let outcome = work(context, store, &session, memory, &mut seen).await;
    match outcome {
        Ok(look_again) => {
            memory.failure = None;
            seen.look_again = look_again;
        }
        Err(error) => {
            // The next look connects afresh: the server may be another one by then, or the password may have changed.
            tracing::warn!(store = %store.name_any(), reason = error.reason(), %error, "a look at the store failed");
            handle.close().await;
            seen.look_again = memory.pause_after(error.reason());
            seen.error = Some(error);
        }
    }
    seen
}

/// The open session if it still fits, else a new one.
async fn session(
    context: &Context,
    store: &ExecutionStore,
    handle: &Handle,
    memory: &mut Memory,
) -> Result<Current, NotReady> {
    let described = Some((store.uid().unwrap_or_default(), store.metadata.generation));
    let uid = store.uid().unwrap_or_default();
    if memory.uid != uid {
        let last = std::mem::replace(&mut memory.uid, uid);
        *memory = Memory {
            predecessor: Some(last).filter(|last| !last.is_empty()),
            uid: memory.uid.clone(),
            ..Memory::default()
        };
    }
    let fresh = |at: &Instant| at.elapsed() < RECHECK;
    let credentials = match &memory.credentials {
        Some((at, credentials)) if fresh(at) && handle.session().is_some() => credentials.clone(),
        _ => Credentials::read(context, store).await?,
    };
    let unchanged = memory.credentials.as_ref().is_some_and(|(_, last)| *last == credentials);
    if !(unchanged && memory.credentials.as_ref().is_some_and(|(at, _)| fresh(at))) {
        memory.credentials = Some((Instant::now(), credentials.clone()));
    }
    if let Some(session) = handle.session().filter(|_| unchanged && memory.described == described) {
        // What keeps rows from being changed or recorded may be mended at any time.
        if memory.checked.as_ref().is_some_and(fresh) && session.whole() {
            return Ok(Current { session, opened: false });
        }
        if session.still_holds(store).await? {
            memory.checked = Some(Instant::now());
            return Ok(Current { session, opened: false });
        }
    }
    handle.close().await;
    let session = Arc::new(Session::open(store, memory.predecessor.clone(), &credentials).await?);
    handle.replace(Some(session.clone()));
    memory.described = described;
    memory.checked = Some(Instant::now());
    memory.contradictions = None;
    Ok(Current { session, opened: true })
}

/// Returns when to look again.
async fn work(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    memory: &mut Memory,
    seen: &mut Seen,
) -> Result<Duration, DbError> {
    let spec = &store.spec;
    if memory.swept.is_none() {
        context.executions_seen(PATIENCE).await;
    }
    let Some(rules) = session.rules_in_force(context, store).await? else {
        return Ok(RETRY_REMAINING);
    };
    let judge = session.judge(&rules);
    let long_after = spec.long_running.after.to_chrono();
    let sampled = || session.database.within(observe::sample(&session.database, &judge, long_after));
    let mut sample = sampled().await?;
    let may_write = spec.mode == Mode::Enforce && session.unwritable.is_none() && !session.read_only;
    let request = store.annotations().get(SWEEP_REQUESTED);
    if let Some(trigger) = due(store, memory, &sample, request).filter(|_| may_write) {
        let swept = sweep(store, session, &judge, trigger, sample.now).await?;
        memory.swept = Some(Instant::now());
        memory.answered = request.cloned();
        seen.answered = request.cloned();
        if swept.failed > 0 {
            sample = sampled().await?;
        }
        health(store, trigger, &swept, &sample);
        seen.sweep = Some(swept);
    }
    contradictions(store, session, memory, seen).await;
    let mut look_again = spec.poll_interval.get().min(session.shortest_timeout(&rules));
    if let Some(deadline) = sample.next_deadline {
        look_again = look_again.min(until(sample.now, deadline));
    }
    if may_write && sample.stale > 0 {
        look_again = look_again.min(RETRY_REMAINING);
    }
    seen.sample = Some(sample);
    // Never more than 20 looks a second, whatever the timeouts are.
    Ok(look_again.max(Duration::from_millis(50)))
}

/// Why a sweep is due now, if it is.
fn due(
    store: &ExecutionStore,
    memory: &Memory,
    sample: &Sample,
    request: Option<&String>,
) -> Option<&'static str> {
    let told = store.status.as_ref().and_then(|s| s.observed_sweep_request.as_ref());
    if request.is_some() && request != memory.answered.as_ref() && request != told {
        return Some("Requested");
    }
    match memory.swept {
        None => Some("Startup"),
        Some(_) if sample.stale > 0 => Some("Deadline"),
        Some(at) if at.elapsed() >= store.spec.sweep_interval.get() => Some("Interval"),
        Some(_) => None,
    }
}

async fn sweep(
    store: &ExecutionStore,
    session: &Session,
    judge: &Judge<'_>,
    trigger: &'static str,
    started_at: DateTime<Utc>,
) -> Result<Swept, DbError> {
    let sweep = Sweep { id: Uuid::new_v4(), trigger };
    let begun = Instant::now();
    let mut first = Vec::new();
    let failed = sweep::run(&session.database, judge, &session.ledger, &sweep, |batch| {
        for failed in batch {
            tell(store, failed);
        }
        first.extend(
            batch.iter().take(usize::from(super::report::SAMPLE).saturating_sub(first.len())).cloned(),
        );
    })
    .await?;
    Ok(Swept { sweep, started_at, took: begun.elapsed(), failed, first })
}

fn tell(store: &ExecutionStore, failed: &Failed) {
    tracing::warn!(
        namespace = store.namespace().unwrap_or_default(),
        store = store.name_any(),
        execution = failed.id,
        job = failed.job_id,
        number = failed.number,
        runtime_seconds = failed.runtime().num_seconds(),
        started_at = %failed.started_at.to_rfc3339(),
        deadline = %failed.deadline.to_rfc3339(),
        source = failed.source,
        reason = sweep::DEADLINE_EXCEEDED,
        "failed a stale execution"
    );
}

fn health(store: &ExecutionStore, trigger: &str, swept: &Swept, sample: &Sample) {
    tracing::info!(
        namespace = store.namespace().unwrap_or_default(),
        store = store.name_any(),
        trigger,
        failed = swept.failed,
        remaining = sample.stale,
        took_ms = swept.took.as_millis(),
        running = sample.running,
        scheduled = sample.scheduled,
        long_running = sample.long_running,
        recent_24h = sample.recent,
        "swept"
    );
}

/// Rows that contradict themselves are counted at each sweep, at most every other poll interval, and kept in between:
/// counting reads the whole table. That it cannot be done is no reason to stop anything else.
async fn contradictions(store: &ExecutionStore, session: &Session, memory: &mut Memory, seen: &mut Seen) {
    let stale =
        memory.contradictions.as_ref().is_none_or(|(at, _)| at.elapsed() >= store.spec.sweep_interval.get());
    if stale || seen.sweep.is_some() {
        match session.database.within(observe::contradictions(&session.database, &session.mapping)).await {
            Ok(found) => memory.contradictions = Some((Instant::now(), found)),
            Err(error) => {
                tracing::warn!(store = store.name_any(), %error, "rows that contradict themselves could not be counted");
            }
        }
    }
    seen.contradictions = memory.contradictions.as_ref().map(|(_, found)| found.clone());
}
