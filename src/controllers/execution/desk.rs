//! The work on the objects of one store: again and again observe its rows and its objects, and apply what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

use super::apply::{self, Applied, Written};
use super::object::Object;
use super::plan::{self, Plan, Step, View};
use super::verdict::{self, CANCELLED, Sight, Unable};
use super::{Key, taken, unreadable};
use crate::api::store::MirrorStatus;
use crate::api::{ExecutionStore, JobExecution, Mode, Phase};
use crate::controllers::context::{backoff, newer};
use crate::controllers::in_force::InForce;
use crate::controllers::session::Session;
use crate::controllers::store::Handle;
use crate::controllers::{Context, wishes};
use crate::db::cancel::{self, Request};
use crate::db::execution::{self, Executions, Window};
use crate::db::{DbError, observe};
use crate::policy::execution_source;

/// The shortest pause between two passes.
const PACE: Duration = Duration::from_millis(250);

/// Reading rows keeps the server busy for at most 5 % of the time.
const SHARE: u32 = 20;

/// The pause while a store has not been looked at since the operator started.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How often objects without a store are looked at.
const WITHOUT_STORE: Duration = Duration::from_mins(5);

/// How long a store may be away before the objects that the operator made for it are told: a short outage is told by the
/// store alone, and costs no write for each of its executions.
const HOLD: Duration = Duration::from_mins(1);

/// How long what was written is believed if the watch does not tell it.
const BELIEVED: Duration = Duration::from_secs(30);

/// How long a name that another object has is not tried again.
const TAKEN: Duration = Duration::from_mins(10);

/// The shortest pause between two passes while objects cannot be written, whoever asks for one.
const HURT: Duration = Duration::from_secs(5);

/// How a store's objects stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The counts.
    pub status: MirrorStatus,
    /// Why objects are not in step, if they are not: a reason and a message.
    pub trouble: Option<(&'static str, String)>,
}

/// See the module.
pub(super) struct Desk {
    key: Key,
    woken: Notify,
    /// Whether somebody waits for something that should not wait for a long plan.
    urgent: AtomicBool,
}

/// What one pass leaves for the next.
#[derive(Default)]
struct Memory {
    /// What was written and when, as long as the watch has not told it.
    written: BTreeMap<String, (Instant, Written)>,
    /// Names that objects for other rows have, and since when that is known.
    taken: BTreeMap<String, Instant>,
    failures: u32,
    /// Since when the store cannot be seen.
    away: Option<Instant>,
    told: unreadable::Told,
}

/// What a pass came to.
enum Pass {
    /// Another one is due after so long, or when somebody asks.
    Next(Duration),
    /// There is neither a store nor an object.
    Nothing,
}

impl Desk {
    pub(super) fn new(key: Key) -> Self {
        Self { key, woken: Notify::new(), urgent: AtomicBool::new(false) }
    }

    /// Has a pass made soon.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Breaks off a long plan for one that should not wait.
    pub(super) fn hurry(&self) {
        self.urgent.store(true, Ordering::Release);
    }

    /// Whether somebody has asked for a pass that was not made.
    pub(super) fn is_awake(&self) -> bool {
        taken(&self.woken)
    }

    /// Works until there is nothing left to do it for, or the operator is asked to stop.
    pub(super) async fn run(self: Arc<Self>, context: Arc<Context>) -> Key {
        let mut memory = Memory::default();
        while !context.stop.is_cancelled() {
            let begun = Instant::now();
            let (pass, read) = Box::pin(self.pass(&context, &mut memory)).await;
            let Pass::Next(next) = pass else { break };
            let pace = if memory.failures > 1 { HURT } else { PACE };
            let pause = pace.max(read * SHARE).saturating_sub(begun.elapsed().saturating_sub(read));
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = async {
                    tokio::time::sleep(pause).await;
                    let _ = tokio::time::timeout(next.saturating_sub(pause), self.woken.notified()).await;
                } => {}
            }
        }
        self.key.clone()
    }

    /// One pass, and how long the database was read for it.
    async fn pass(&self, context: &Context, memory: &mut Memory) -> (Pass, Duration) {
        let Key { namespace, store } = &self.key;
        if store.is_empty() {
            let again = unreadable::tell(context, namespace, &mut memory.told).await;
            let nothing = again.is_none() && memory.told.is_empty();
            let pass = if nothing { Pass::Nothing } else { Pass::Next(again.unwrap_or(WITHOUT_STORE)) };
            return (pass, Duration::ZERO);
        }
        let Some(objects) = memory.objects(context, &self.key).filter(|_| context.stores_seen()) else {
            return (Pass::Next(FIRST_LOOK), Duration::ZERO);
        };
        self.urgent.store(false, Ordering::Release);
        let Some(guarded) = context.store(namespace, store) else {
            memory.away = None;
            // Those that the operator made are collected with the store.
            let theirs: Vec<_> = objects.into_iter().filter(|object| !plan::is_made(object)).collect();
            if theirs.is_empty() {
                return (Pass::Nothing, Duration::ZERO);
            }
            let steps = unseen(&theirs, Sight::StoreNotFound);
            return (self.apply(context, memory, steps, WITHOUT_STORE).await.0, Duration::ZERO);
        };
        let handle = context.known_handle(&ObjectRef::new(store).within(namespace));
        let Some(handle) = handle.filter(|handle| handle.known()) else {
            // An object that cannot be decoded is never looked at.
            let next = if guarded.0.is_ok() { FIRST_LOOK } else { HOLD };
            return (self.away(context, memory, &objects, guarded.0.is_err(), next).await, Duration::ZERO);
        };
        let (Ok(spec), Some(session)) = (&guarded.0, handle.session()) else {
            let next = guarded.0.as_ref().map_or(HOLD, |store| store.spec.poll_interval.get());
            return (self.away(context, memory, &objects, true, next).await, Duration::ZERO);
        };
        if session.describes != (spec.uid(), spec.metadata.generation) {
            // The rows of another table, perhaps: the look that opens the right one is under way.
            return (Pass::Next(FIRST_LOOK), Duration::ZERO);
        }
        self.seen(context, memory, spec, &handle, &session, objects).await
    }

    /// A store that cannot be seen at present.
    async fn away(
        &self,
        context: &Context,
        memory: &mut Memory,
        objects: &[Object],
        tell: bool,
        next: Duration,
    ) -> Pass {
        if !tell {
            return Pass::Next(next);
        }
        let since = memory.away.get_or_insert_with(Instant::now).elapsed();
        let held = |object: &&Object| since < HOLD && plan::is_made(object);
        let told: Vec<_> = objects.iter().filter(|object| !held(object)).cloned().collect();
        let next = if since < HOLD { next.min(HOLD.saturating_sub(since)) } else { next };
        self.apply(context, memory, unseen(&told, Sight::StoreNotReady), next).await.0
    }

    /// A store whose rows can be seen.
    async fn seen(
        &self,
        context: &Context,
        memory: &mut Memory,
        store: &ExecutionStore,
        handle: &Handle,
        session: &Session,
        objects: Vec<Object>,
    ) -> (Pass, Duration) {
        let begun = Instant::now();
        let poll = store.spec.poll_interval.get();
        let observed = match observe(context, store, session, &objects).await {
            Ok(Some(observed)) => observed,
            Ok(None) => return (Pass::Next(FIRST_LOOK), begun.elapsed()),
            Err(error) => {
                tracing::warn!(store = store.name_any(), %error, "the rows of objects could not be read");
                let read = begun.elapsed();
                let status = handle.mirrored().map(|last| last.status).unwrap_or_default();
                let trouble = Some((error.reason(), format!("the rows could not be read: {error}")));
                if handle.keep_mirrored(Mirrored { status, trouble }) {
                    context.nudge_store(&self.key.namespace, &self.key.store);
                }
                return (self.away(context, memory, &objects, true, poll).await, read);
            }
        };
        let read = begun.elapsed();
        memory.away = None;
        memory.taken.retain(|_, since| since.elapsed() < TAKEN);
        let taken = memory.taken.keys().cloned().collect();
        let view = View {
            store,
            id_type: session.mapping.id_type(),
            found: &observed.found,
            objects: &objects,
            taken: &taken,
            unable: &observed.unable,
            now: chrono::Utc::now(),
        };
        let Plan { steps, objects: all, running } = plan::plan(&view);
        if steps.iter().any(is_news) {
            // A new timeout may be the next deadline of its store, whether or not Kubernetes can be told.
            context.nudge_store(&self.key.namespace, &self.key.store);
        }
        let (pass, trouble) = self.apply(context, memory, steps, poll).await;
        let not_mirrored = observed.running.map_or(0, |count| (count - running).max(0));
        let status = MirrorStatus { objects: all, not_mirrored };
        // Where there are no objects and there are to be none, nobody waits to hear it.
        if handle.keep_mirrored(Mirrored { status, trouble }) && (store.spec.mirror.enabled || all > 0) {
            context.nudge_store(&self.key.namespace, &self.key.store);
        }
        (pass, read)
    }

    async fn apply(
        &self,
        context: &Context,
        memory: &mut Memory,
        steps: Vec<Step>,
        next: Duration,
    ) -> (Pass, Option<(&'static str, String)>) {
        let applied = apply::apply(context, &self.key.namespace, steps, &self.urgent).await;
        let Applied { written, taken, error, failures, complete } = applied;
        let now = Instant::now();
        memory.written.extend(written.into_iter().map(|(name, written)| (name, (now, written))));
        memory.taken.extend(taken.iter().map(|name| (name.clone(), now)));
        let Some(error) = error else {
            memory.failures = 0;
            let at_once = !complete || !taken.is_empty();
            return (Pass::Next(if at_once { Duration::ZERO } else { next }), None);
        };
        memory.failures = memory.failures.saturating_add(1);
        tracing::warn!(store = self.key.store, failures, %error, "objects of executions could not be written");
        if memory.failures == 1 {
            // One answer that was lost is no news.
            return (Pass::Next(backoff(1)), None);
        }
        let reason = match error.code() {
            Some(403) => "Forbidden",
            Some(_) => "Refused",
            None => "APIUnavailable",
        };
        let message = format!(
            "{failures} JobExecution objects could not be written: {error}. See that the operator's ServiceAccount may \
             create, patch and delete jobexecutions, and that no quota or admission policy forbids it; it is tried again"
        );
        (Pass::Next(backoff(memory.failures)), Some((reason, message)))
    }
}

/// The same for all objects.
fn unseen(objects: &[Object], sight: Sight<'_>) -> Vec<Step> {
    let now = chrono::Utc::now();
    objects.iter().filter_map(|object| plan::update(object, &sight, now)).collect()
}

/// Whether a person's spec is told of for the first time.
fn is_news(step: &Step) -> bool {
    match step {
        Step::Update { object, status: Some(status), .. } => {
            let before = object.status.as_ref().and_then(|before| before.observed_generation);
            object.spec.asks() && before != status.observed_generation
        }
        _ => false,
    }
}

impl Memory {
    /// The objects of a store, as the watch or the last writes have them, whichever is newer.
    fn objects(&mut self, context: &Context, key: &Key) -> Option<Vec<Object>> {
        let guarded = context.executions(&key.namespace, &key.store)?;
        let written = &mut self.written;
        written.retain(|_, (at, _)| at.elapsed() < BELIEVED);
        let mut objects = Vec::with_capacity(guarded.len());
        for guarded in guarded {
            let Some(cached) = Object::readable(guarded) else { continue };
            match written.remove(&cached.name_any()) {
                Some((at, Written::Put(put)))
                    if newer(
                        put.metadata.resource_version.as_ref(),
                        cached.metadata.resource_version.as_ref(),
                    ) =>
                {
                    objects.push(put.clone());
                    written.insert(put.name_any(), (at, Written::Put(put)));
                }
                Some((at, Written::Gone(uid))) if uid == cached.uid() => {
                    written.insert(cached.name_any(), (at, Written::Gone(uid)));
                }
                _ => objects.push(cached),
            }
        }
        Some(objects)
    }
}

/// What is seen of a store's rows.
struct Observed {
    found: Executions,
    /// What became of the wishes to cancel executions, by id.
    unable: BTreeMap<String, Unable>,
    /// How many rows run, where they are to have objects.
    running: Option<i64>,
}

/// Reads the rows, after what people ask of them is in force or done. `None`: not all that people ask is known yet.
async fn observe(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    objects: &[Object],
) -> Result<Option<Observed>, DbError> {
    let Some(in_force) = in_force(context, store, session, objects).await? else { return Ok(None) };
    let id_type = session.mapping.id_type();
    let ids: BTreeSet<String> =
        objects.iter().filter_map(|object| id_type.canonical(&object.spec.execution_id)).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let mirror = &store.spec.mirror;
    let limit = u32::try_from(mirror.limit).unwrap_or_default();
    let window = mirror.enabled.then(|| Window { limit, finished: mirror.finished_ttl.to_chrono() });
    let unable = cancel(store, session, objects).await?;
    let judge = session.judge(&in_force);
    let read = async |evidence| {
        let judge = judge.with_evidence(evidence);
        let rows = execution::read(&session.database, &judge, &session.ledger, &ids, window);
        session.database.within(rows).await
    };
    let found = match read(true).await {
        // Evidence that cannot be had is told by the store.
        Err(error) if error.answered() => read(false).await?,
        found => found?,
    };
    let picked = found.rows.iter().filter(|row| row.picked && row.phase == Phase::Running).count();
    let running = match window {
        None => None,
        Some(window) if picked <= window.limit as usize => i64::try_from(picked).ok(),
        Some(_) => {
            Some(session.database.within(observe::running(&session.database, &session.mapping)).await?)
        }
    };
    Ok(Some(Observed { found, unable, running }))
}

/// What is in force, with what the objects wish: it is written before any of them reports it as applied.
async fn in_force(
    context: &Context,
    store: &ExecutionStore,
    session: &Session,
    objects: &[Object],
) -> Result<Option<Arc<InForce>>, DbError> {
    let id_type = session.mapping.id_type();
    let holds = |known: &InForce| {
        objects.iter().all(|object| {
            let wish = wishes::execution(object, id_type);
            let Some(id) = id_type.canonical(&object.spec.execution_id) else { return true };
            known.holds(&object.name_any(), &id, wish.as_ref())
        })
    };
    match session.in_force().await.filter(|known| holds(known)) {
        Some(known) => Ok(Some(known)),
        None => session.bring_in_force(context, store, false).await,
    }
}

/// Cancels what people want cancelled. Returns what became of each wish, by id.
async fn cancel(
    store: &ExecutionStore,
    session: &Session,
    objects: &[Object],
) -> Result<BTreeMap<String, Unable>, DbError> {
    let finished = |object: &JobExecution| {
        object.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::finished)
    };
    let requests: Vec<Request> = objects
        .iter()
        // What is being deleted asks no more, whatever holds it up.
        .filter(|object| object.metadata.deletion_timestamp.is_none())
        .filter(|object| verdict::to_cancel(object, finished(object)))
        .filter_map(|object| {
            Some(Request {
                key: session.mapping.id_type().canonical(&object.spec.execution_id)?,
                source: execution_source(&object.name_any()),
                actor: wishes::actor(&object.metadata),
                started: verdict::started(object),
            })
        })
        .collect();
    if let Some(unable) = unable(store, session) {
        return Ok(requests.into_iter().map(|request| (request.key, unable.clone())).collect());
    }
    let outcome = cancel::cancel(&session.database, &session.mapping, &session.ledger, &requests);
    let outcome = match session.database.within(outcome).await {
        // That is no reason not to read any row.
        Err(error) if error.answered() => {
            tracing::warn!(store = store.name_any(), %error, "executions could not be cancelled");
            let unable = (error.reason(), format!("it could not be cancelled and is tried again: {error}"));
            return Ok(requests.into_iter().map(|request| (request.key, unable.clone())).collect());
        }
        outcome => outcome?,
    };
    for cancelled in &outcome.cancelled {
        tracing::info!(
            namespace = store.namespace().unwrap_or_default(),
            store = store.name_any(),
            execution = cancelled.id,
            job = cancelled.job_id,
            source = cancelled.source,
            "cancelled an execution as a person asked"
        );
    }
    let told =
        |why: String| ("ExecutionRefused", format!("the database does not let it be cancelled: {why}"));
    let refused = outcome.refused.into_iter().map(|(id, why)| (id, told(why)));
    let cancelled = outcome.cancelled.into_iter().map(|row| (row.id, (CANCELLED, String::new())));
    Ok(refused.chain(cancelled).collect())
}

/// Why nothing can be cancelled in this store, if that is so.
fn unable(store: &ExecutionStore, session: &Session) -> Option<Unable> {
    if store.spec.mode == Mode::Observe {
        let message = "spec.mode of the ExecutionStore is Observe, which changes no row: set it to Enforce";
        return Some(("Observing", message.to_owned()));
    }
    if !session.mapping.can_cancel() {
        let message = "table.statuses.cancelled of the ExecutionStore is empty or too long for the column";
        return Some(("NotSupported", message.to_owned()));
    }
    if session.read_only {
        return Some(("DatabaseReadOnly", "the database is read-only".to_owned()));
    }
    session.unwritable.as_ref().map(|problem| (problem.reason(), problem.to_string()))
}
