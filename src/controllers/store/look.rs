//! Observe and apply: one look at a store. It opens the connection, brings the rules up to date, takes a sample,
//! sweeps (`enforce`) if that is due, and says when to look again. It writes nothing to Kubernetes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tracing::Instrument as _;
use uuid::Uuid;

use super::breaker::{self, Verdict};
use super::enforce::{self, Swept};
use super::figures::{Counter, Figures, News};
use super::historian::Historian;
use super::memory::Memory;
use super::notifier::Report;
use super::schedule::{RECHECK, RETRY, due, horizon, next_look};
use super::{Handle, adoption};
use crate::api::{ExecutionStore, Mode, SWEEP_REQUESTED};
use crate::controllers::Context;
use crate::controllers::execution::SyncStatus;
use crate::controllers::in_force::InForce;
use crate::controllers::session::{Before, Credentials, NotReady, Session};
use crate::db::adopt::How;
use crate::db::held::{self, Held};
use crate::db::observe::{self, Pulse};
use crate::db::sweep::{Refused, Sweep};
use crate::db::{DbError, Judge, Ledger, again};
use crate::telemetry;

/// How long a first look waits for all `JobExecution` and `ExecutionPolicy` objects to be seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a look saw.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Seen {
    /// The session, or why there is none.
    pub(super) session: Result<Current, NotReady>,
    /// What is left after the sweep.
    pub(super) pulse: Option<Pulse>,
    /// What people want to know of the table.
    pub(super) figures: Figures,
    /// Whether not all `JobExecution` and `ExecutionPolicy` objects have been seen, so that nothing may be judged.
    pub(super) blind: bool,
    /// Why the breaker is open, if it is.
    pub(super) open: Option<String>,
    /// The request to go on that was last read.
    pub(super) resumed: Option<String>,
    /// The request to adopt that was last carried out.
    pub(super) adopted: Option<String>,
    /// Why the request to adopt was not carried out, if one was tried.
    pub(super) unadopted: Option<String>,
    /// Why evidence other than deadlines does not count at present, if it is asked for: a reason and a message.
    pub(super) unseen: Option<(&'static str, String)>,
    /// Whether the table told of a change.
    pub(super) notified: bool,
    /// How the store's `JobExecution` objects stand.
    pub(super) sync_status: Option<SyncStatus>,
    /// Whether other rules are in force than at the last look.
    pub(super) rules_changed: bool,
    /// Whether that may have moved deadlines of executions that have no rule of their own.
    pub(super) deadlines_changed: bool,
    /// The sweep, if one ran that is worth telling.
    pub(super) sweep: Option<Swept>,
    /// The stale executions that the server does not let the operator fail.
    pub(super) refused: Vec<Refused>,
    /// Those that were passed over for long, since another transaction holds them.
    pub(super) held: Vec<Held>,
    /// The sweep request that the sweep answered.
    pub(super) answered: Option<String>,
    /// The sweeps, or bundles of them, that have ended and can be announced.
    pub(super) closed: Vec<Uuid>,
    /// What went wrong after the session was there.
    pub(super) error: Option<DbError>,
    /// How telling people stands, where somebody wants to be told.
    pub(super) notifying: Option<Report>,
    /// When to look again.
    pub(super) look_again: Duration,
}

/// The session in use.
pub(super) struct Current {
    pub(super) session: Arc<Session>,
    /// Whether this look opened it.
    pub(super) opened: bool,
}

impl Seen {
    /// What a look begins with.
    pub(super) fn new(
        session: Result<Current, NotReady>,
        sync_status: Option<SyncStatus>,
        answered: Option<String>,
    ) -> Self {
        Self {
            session,
            pulse: None,
            figures: Figures::default(),
            blind: false,
            open: None,
            resumed: None,
            adopted: None,
            unadopted: None,
            unseen: None,
            notified: false,
            sync_status,
            rules_changed: false,
            deadlines_changed: false,
            sweep: None,
            closed: Vec::new(),
            refused: Vec::new(),
            held: Vec::new(),
            answered,
            error: None,
            notifying: None,
            look_again: Duration::ZERO,
        }
    }

    /// Whether the store's executions should be looked at now.
    pub(super) fn worth_telling(&self) -> bool {
        matches!(self.session, Ok(Current { opened: true, .. }))
            || self.sweep.as_ref().is_some_and(|swept| swept.ended > 0)
    }
}

/// Where nothing records who looks after the table, at least no two stores of this operator may.
fn unrivalled(context: &Context, store: &ExecutionStore, current: Current) -> Result<Current, NotReady> {
    let own = ObjectRef::new(&store.name_any()).within(&store.namespace().unwrap_or_default());
    match (&current.session.ledger, context.rival(&own, &current.session.identity)) {
        (Ledger::Missing(_), Some(rival)) => Err(NotReady::TableClaimed(rival)),
        _ => Ok(current),
    }
}

pub(super) async fn look(
    context: &Context,
    store: &ExecutionStore,
    handle: &Handle,
    memory: &mut Memory,
) -> Seen {
    let session =
        session(context, store, handle, memory).await.and_then(|current| unrivalled(context, store, current));
    let mut seen = Seen::new(session, handle.sync_status(), memory.answered.clone());
    seen.adopted.clone_from(&memory.adopted);
    seen.unadopted = adoption::told(store, memory);
    let session = match &seen.session {
        Ok(current) => current.session.clone(),
        Err(why) => {
            if let NotReady::Database(error) = why {
                handle.tally.failed(error.reason());
            }
            handle.looked();
            // Who did not get his turn has learnt nothing of the database.
            if !why.is_busy() {
                handle.give_up(why.of_connection(), memory.notifier.leave());
            }
            seen.look_again = memory.pause_after(why.reason());
            tracing::warn!(store = %store.name_any(), reason = why.reason(), error = %why, "the store is not ready");
            return seen;
        }
    };
    seen.notified = handle.changed.swap(false, Ordering::AcqRel);
    let wanted = handle.wanted.swap(false, Ordering::AcqRel);
    let told = if seen.notified || wanted { News::Changed } else { News::None };
    let outcome = work(context, store, &session, memory, told, &mut seen).await;
    handle.looked();
    seen.closed = memory.bundles.take_closed(Instant::now());
    match outcome {
        Ok(look_again) => {
            memory.failure = None;
            seen.look_again = look_again;
        }
        Err(error) => {
            tracing::warn!(store = %store.name_any(), reason = error.reason(), %error, "a look at the store failed");
            handle.tally.failed(error.reason());
            // Who did not get his turn has learnt nothing of the database.
            if !matches!(error, DbError::Busy(_)) {
                handle.give_up(error.of_connection(), memory.notifier.leave());
            }
            seen.look_again = memory.pause_after(error.reason());
            memory.outage |= !error.answered();
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
    let uid = store.uid().unwrap_or_default();
    if memory.uid != uid {
        let last = std::mem::replace(&mut memory.uid, uid);
        *memory = Memory {
            predecessor: Some(last).filter(|last| !last.is_empty()),
            uid: memory.uid.clone(),
            // What was recorded of the table may count for its next object too.
            recorded: memory.recorded,
            ..Memory::default()
        };
        handle.keep(None);
    }
    // `tell` reads them again from time to time.
    let credentials = if let Some(known) = handle.credentials(&store.spec.connection) {
        known
    } else {
        let read = Arc::new(Credentials::read(context, store).await?);
        handle.keep(Some(read.clone()));
        read
    };
    let described = Some((memory.uid.clone(), store.metadata.generation, credentials.clone()));
    let fresh = |at: &Instant| at.elapsed() < RECHECK;
    let adopt = adoption::asked(store, memory);
    let due = adopt.as_ref().is_some_and(|request| adoption::is_due(request, memory));
    if let Some(session) = handle.session().filter(|_| memory.described == described && !due) {
        // What keeps rows from being changed or recorded may be mended at any time.
        if memory.checked.as_ref().is_some_and(fresh) && session.whole() {
            return Ok(Current { session, opened: false });
        }
        match session.still_holds(store).await {
            Ok(true) => {
                memory.checked = Some(Instant::now());
                return Ok(Current { session, opened: false });
            }
            Ok(false) => {}
            // Others use all connections. It is asked again at the next look.
            Err(busy) if busy.is_busy() => return Ok(Current { session, opened: false }),
            Err(error) => return Err(error),
        }
    }
    handle.give_up(false, memory.notifier.leave());
    let (changed, nudge) = (handle.changed.clone(), context.nudger(store));
    let changed = move || {
        changed.store(true, Ordering::Release);
        nudge();
    };
    let (outage, tally) = (memory.outage, handle.tally.clone());
    let before = Before {
        predecessor: memory.predecessor.clone(),
        outage,
        recorded: memory.recorded,
        adopt: adopt.as_deref().map(How::of),
    };
    let opened = Session::open(&context.pools, store, before, &credentials, tally, changed).await;
    memory.outage = match &opened {
        // Nobody can write a heartbeat to it either.
        Ok(session) => session.read_only,
        Err(NotReady::Database(error)) => outage || !error.answered(),
        Err(_) => outage,
    };
    let session = Arc::new(opened?);
    handle.replace(Some(session.clone()));
    memory.recorded |= matches!(session.ledger, Ledger::Tables { .. });
    adoption::note(memory, adopt, session.adopted.as_ref());
    memory.described = described;
    memory.checked = Some(Instant::now());
    memory.counter = Counter::default();
    memory.historian = Historian::default();
    memory.notifier = memory.notifier.anew();
    memory.breaker.ask_again();
    memory.in_force = None;
    memory.refused = super::memory::RefusedRows::default();
    Ok(Current { session, opened: true })
}

/// Returns when to look again.
async fn work(
    context: &Context,
    store: &ExecutionStore,
    session: &Arc<Session>,
    memory: &mut Memory,
    mut news: News,
    seen: &mut Seen,
) -> Result<Duration, DbError> {
    let Some(in_force) = rules(context, store, session, memory).await? else {
        seen.blind = true;
        return Ok(RETRY);
    };
    session.check_fault().await?;
    memory.notifier.announce(store, session, &in_force).await;
    let may_write = store.spec.mode == Mode::Enforce && session.unwritable.is_none() && !session.read_only;
    let gathered = gather(context, store, session, memory, &in_force, may_write).await;
    let (in_force, evidence, mut pulse) =
        sample(context, store, session, memory, in_force, gathered, may_write).await?;
    seen.unseen.clone_from(&memory.witness.unseen);
    memory.now = Some(pulse.now);
    seen.rules_changed = memory.in_force.as_ref() != Some(&in_force);
    seen.deadlines_changed =
        memory.in_force.as_ref().is_some_and(|last| !last.compiled.same_policies(&in_force.compiled));
    if seen.rules_changed && news == News::None {
        news = News::Changed;
    }
    memory.in_force = Some(in_force.clone());
    let trigger = if may_write { trigger(store, session, memory, &pulse, seen).await? } else { None };
    let mut swept = None;
    if let Some(trigger) = trigger {
        let judge = session.judge(&in_force).with_evidence(evidence);
        let mut sweep = sweep(context, store, session, memory, &judge, trigger, pulse.now).await?;
        seen.answered.clone_from(&memory.answered);
        seen.refused = std::mem::take(&mut sweep.refused);
        if sweep.ended > 0 {
            pulse = observe(store, session, &in_force, evidence).await?;
            news = News::Changed;
        }
        let judge = session.judge(&in_force).with_evidence(evidence);
        memory.passed_over = passed_over(session, memory, &judge, &pulse, &seen.refused).await;
        memory.noted = true;
        if pulse.stale > 0 && evidence {
            // What is stale by evidence is tried again soon too.
            memory.witness.ask();
        }
        if trigger == "Requested" {
            news = News::Requested;
        }
        swept = Some(sweep);
    } else if !may_write || pulse.stale == 0 {
        // Whoever held a row has let it go, and must not be ended for it.
        memory.passed_over = let_go(session, memory).await;
        memory.noted = true;
    }
    seen.held = memory.passed_over.clone().unwrap_or_default();
    seen.figures = memory.counter.figures(store, session, &in_force, news, context.nudger(store)).await;
    if let Some(swept) = swept {
        enforce::tell_swept(store, &swept, &pulse, &seen.figures);
        let again = memory.held > 0 && swept.ended == 0 && swept.sweep.trigger == "Deadline";
        let stuck = pulse.stale > 0 && swept.ended == 0;
        memory.held = if stuck { memory.held.saturating_add(1) } else { 0 };
        // Another try at rows that are still held is no news.
        seen.sweep = Some(swept).filter(|_| !again);
    }
    memory.notifier.recover(store, session, seen).await;
    seen.notifying = memory.notifier.report(store, session, &in_force);
    let look_again = next_look(store, memory, &in_force, &pulse, may_write && seen.open.is_none());
    seen.pulse = Some(pulse);
    Ok(look_again)
}

/// The stale executions that this sweep and those of the last minutes have passed over, since another transaction holds them.
/// `None`: there is nothing noted of any. That it could not be noted is no reason to stop anything else.
async fn passed_over(
    session: &Session,
    memory: &Memory,
    judge: &Judge<'_>,
    pulse: &Pulse,
    refused: &[Refused],
) -> Option<Vec<Held>> {
    let Ledger::Tables { store_id, .. } = session.ledger else { return None };
    let database = &session.database;
    let left = usize::try_from(pulse.stale).unwrap_or_default() > refused.len();
    let noted = if left {
        let refused = refused.iter().map(|row| row.id.clone()).collect();
        database.within(held::update(database, judge, refused)).await.map(Some)
    } else if memory.passed_over.is_some() || !memory.noted {
        database.within(held::forget(database, store_id)).await.map(|()| None)
    } else {
        return None;
    };
    noted.unwrap_or_else(|error| {
        session.tally.failed(error.reason());
        tracing::info!(%error, "who holds stale executions is not known");
        memory.passed_over.clone()
    })
}

/// Forgets who held stale executions: nothing is stale, or nobody sweeps.
async fn let_go(session: &Session, memory: &Memory) -> Option<Vec<Held>> {
    let Ledger::Tables { store_id, .. } = session.ledger else { return None };
    if memory.passed_over.is_none() && memory.noted || session.read_only || session.is_borrowed() {
        return None;
    }
    if let Err(error) = session.database.within(held::forget(&session.database, store_id)).await {
        session.tally.failed(error.reason());
        tracing::info!(%error, "who held stale executions could not be forgotten");
        return memory.passed_over.clone();
    }
    None
}

/// What is in force, with what history says to it; `None`: not all wishes have been seen.
async fn rules(
    context: &Context,
    store: &ExecutionStore,
    session: &Arc<Session>,
    memory: &mut Memory,
) -> Result<Option<Arc<InForce>>, DbError> {
    if memory.swept.is_none() {
        context.wishes_seen(&store.namespace().unwrap_or_default(), PATIENCE).await;
    }
    let Some(in_force) = session.bring_in_force(context, store, false).await? else { return Ok(None) };
    if ask_history(context, store, session, memory, &in_force).await {
        return session.bring_in_force(context, store, false).await;
    }
    Ok(Some(in_force))
}

/// Gathers evidence where that is due. Returns whether it did: that it cannot be had is no reason to miss a deadline.
async fn gather(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    memory: &mut Memory,
    in_force: &InForce,
    may_write: bool,
) -> bool {
    let requested = store.annotations().get(SWEEP_REQUESTED) != memory.answered.as_ref();
    let sweeps = may_write && (memory.swept.is_none() || requested);
    let due = sweeps || memory.witness.is_due(store);
    due && memory.witness.gather(context, store, session, &session.judge(in_force)).await
}

/// What is stale, by evidence too where that was gathered and can be judged, and what is in force then.
async fn sample(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    memory: &mut Memory,
    in_force: Arc<InForce>,
    gathered: bool,
    may_write: bool,
) -> Result<(Arc<InForce>, bool, Pulse), DbError> {
    let (evidence, pulse) = match observe(store, session, &in_force, gathered).await {
        Err(error) if gathered && error.answered() => {
            session.tally.failed(error.reason());
            memory.witness.fail(store, error.reason(), &error);
            (false, observe(store, session, &in_force, false).await?)
        }
        pulse => (gathered, pulse?),
    };
    if !may_write || pulse.stale == 0 {
        return Ok((in_force, evidence, pulse));
    }
    let judge = session.judge(&in_force).with_evidence(evidence);
    // What cannot be noted is no reason not to end an execution.
    if let Err(error) = session.database.within(again::note(&session.database, &judge)).await {
        session.tally.failed(error.reason());
        tracing::warn!(store = store.name_any(), %error, "executions that run again with the same start could not be noted");
    }
    // Before a row is ended its rule is held against what people wish, in case another operator changed it.
    let in_force = session.bring_in_force(context, store, true).await?.unwrap_or(in_force);
    let pulse = observe(store, session, &in_force, evidence).await?;
    Ok((in_force, evidence, pulse))
}

/// Why to sweep now, if it is time and the breaker is closed.
async fn trigger(
    store: &ExecutionStore,
    session: &Session,
    memory: &mut Memory,
    pulse: &Pulse,
    seen: &mut Seen,
) -> Result<Option<&'static str>, DbError> {
    let due = due(store, memory, pulse, store.annotations().get(SWEEP_REQUESTED));
    let verdict = breaker::judge(store, session, memory, pulse).await?;
    seen.resumed = memory.breaker.resumed();
    Ok(match verdict {
        Verdict::Closed => due,
        Verdict::Resumed => Some("Resumed"),
        Verdict::Opened(why) => {
            session.tally.opened();
            seen.open = Some(why);
            None
        }
        Verdict::Open(why) => {
            seen.open = Some(why);
            None
        }
    })
}

async fn sweep(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    memory: &mut Memory,
    judge: &Judge<'_>,
    trigger: &'static str,
    now: DateTime<Utc>,
) -> Result<Swept, DbError> {
    let sweep = Sweep { id: memory.bundles.id(Instant::now(), trigger != "Deadline"), trigger };
    let known = memory.refused.known(trigger == "Requested");
    let again = known.again;
    let span = telemetry::sweep(sweep.id, trigger);
    let swept = enforce::sweep(context, store, session, judge, sweep, known, now).instrument(span).await?;
    memory.breaker.swept();
    memory.swept = Some(Instant::now());
    memory.answered = store.annotations().get(SWEEP_REQUESTED).cloned();
    if swept.ended > 0 {
        memory.bundles.failed(Instant::now());
    }
    memory.refused.keep(&swept.refused, again, swept.took);
    Ok(swept)
}

/// Has history asked where that is due. Returns whether it has answered.
async fn ask_history(
    context: &Context,
    store: &ExecutionStore,
    session: &Arc<Session>,
    memory: &mut Memory,
    in_force: &InForce,
) -> bool {
    // The database's time as it was at the last look is near enough, or when the session was opened.
    let now = memory.now.unwrap_or(session.opened);
    let nudge = context.nudger(store);
    memory.historian.ask(&store.name_any(), session, in_force, now, nudge).await
}

async fn observe(
    store: &ExecutionStore,
    session: &Session,
    in_force: &InForce,
    evidence: bool,
) -> Result<Pulse, DbError> {
    let judge = session.judge(in_force).with_evidence(evidence);
    let horizon = TimeDelta::from_std(horizon(store, in_force)).unwrap_or(TimeDelta::MAX);
    session.database.within(observe::pulse(&session.database, &judge, horizon)).await
}
