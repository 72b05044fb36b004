//! Ends every stale execution of a store, in batches of one guarded statement each.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::asked;
use super::connect::LOGIN_PATH;
use super::decode;
use super::judge::{Among, End, NEXT_PARAMETER, Reason, Rules, Take, Times};
use super::mapping::wire;
use super::own::{self, Records};
use super::server_text::line;
use super::{Database, DbError, Judge, Ledger, outbox};
use crate::api::OnStale;

/// How many rows one statement ends. Larger batches are no faster (docs/performance.md) and hold locks longer.
pub const BATCH: u32 = 5_000;

/// Tries of one batch when the server asks for another (deadlock, serialization failure, lock timeout, shutdown).
const TRIES: u32 = 4;

/// How far a sweep looks for the rows that statements are refused for: after so many refused statements it goes on in
/// bigger steps, passing over so many rows that are refused together. The more there are the less exactly are they
/// found, so that a block of them holds up no others.
const GRAINS: [(usize, usize); 3] = [(250, 1), (750, 100), (790, BATCH as usize)];

/// One pass over a store.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Names the pass in `jobexec.sweeps` and in its Event.
    pub id: Uuid,
    /// Why it runs.
    pub trigger: &'static str,
}

/// An execution that a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The row.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// When it started; `None`: only its creation is known.
    pub started_at: Option<DateTime<Utc>>,
    /// When it should have ended.
    pub deadline: Option<DateTime<Utc>>,
    /// When it was ended.
    pub at: DateTime<Utc>,
    /// The object that says so.
    pub source: String,
    /// Why.
    pub reason: String,
    /// Whether it was cancelled, else failed.
    pub cancelled: bool,
    /// Whether that is recorded in `jobexec.events`.
    pub recorded: bool,
}

impl Ended {
    /// How long it ran.
    pub fn runtime(&self) -> Option<TimeDelta> {
        self.started_at.map(|started_at| self.at - started_at)
    }
}

/// A stale execution that the server does not let the operator end, by a constraint or a trigger of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The row.
    pub id: String,
    /// Why, in the server's words.
    pub why: String,
}

/// What is known of such executions before a sweep.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Those that were refused lately.
    pub rows: Vec<Refused>,
    /// Whether to try them again, after all others.
    pub again: bool,
}

/// What one pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many executions were ended.
    pub ended: u64,
    /// Those that could not be.
    pub refused: Vec<Refused>,
    /// How many statements were tried once more.
    pub retries: u64,
    /// Why not all of it was recorded, where the operator's tables are there.
    pub fault: Option<own::Fault>,
}

/// As Events name it, in the same words as `ledger::announcements::unannounced`.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        write!(f, "{} (job {}, #{number}", self.id, self.job_id.as_deref().unwrap_or("?"))?;
        if let Some(runtime) = self.runtime() {
            write!(f, ", {:.1} h", runtime.num_seconds() as f64 / 3600.0)?;
        }
        if self.reason != Reason::DeadlineExceeded.as_str() {
            write!(f, ", {}", self.reason)?;
        }
        f.write_str(if self.cancelled { ", cancelled)" } else { ")" })
    }
}

/// Ends what is stale until nothing is left that could be taken; each batch is handed to `done` once it is committed,
/// which may say to break off. A row that another transaction holds is passed over: whoever holds it may be finishing
/// it, and the next sweep sees. A row that the server refuses to have ended holds up no other.
///
/// After a first full batch a second connection works from the other end until both meet: two on one range only wait
/// for each other, two on ranges of their own take little more than half the time. What a person asks for takes one
/// connection only: the others are the operator's.
pub async fn run(
    database: &Database,
    judge: &Judge<'_>,
    ledger: &Ledger,
    sweep: &Sweep,
    known: Known,
    mut done: impl FnMut(&[Ended]) -> ControlFlow<()>,
) -> Result<Outcome, DbError> {
    let stop = AtomicBool::new(false);
    let mut todo = if known.again { again(&known.rows) } else { Vec::new() };
    todo.push(Next::Batch);
    let rows = known.rows.into_iter().map(|row| (row.id, row.why)).collect();
    let refusals = Mutex::new(Refusals { rows, statements: 0, retries: 0 });
    let records = Records::new(database, ledger);
    let from = |end, todo| {
        Pass { database, judge, records: &records, sweep, end, refusals: &refusals }
            .batches(todo, &stop)
            .boxed()
    };
    let mut batches = from(End::Oldest, todo);
    let (mut total, mut alone) = (0, true);
    while let Some(batch) = batches.try_next().await? {
        total += batch.len() as u64;
        if done(&batch).is_break() {
            // What is under way is still committed and told.
            stop.store(true, Ordering::Relaxed);
        }
        // One connection is left for counting.
        let may_have_two = judge.asked.is_none() && database.connections() > 2;
        if alone && may_have_two && batch.len() >= BATCH as usize {
            batches = stream::select(batches, from(End::Newest, vec![Next::Batch])).boxed();
            alone = false;
        }
    }
    drop(batches);
    let Refusals { rows, retries, .. } = refusals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let refused = rows.into_iter().map(|(id, why)| Refused { id, why }).collect();
    Ok(Outcome { ended: total, refused, retries, fault: records.fault() })
}

/// What the server has refused in one sweep.
#[derive(Default)]
struct Refusals {
    /// By id, why.
    rows: BTreeMap<String, String>,
    statements: usize,
    /// Statements that the server wanted to have once more.
    retries: u64,
}

/// What the next statement is about.
enum Next {
    /// Whatever is stale, but for what is known to be refused.
    Batch,
    /// These rows of a batch that was refused.
    These(Vec<String>),
}

/// The known ones in pieces, beginning anywhere, so that each time others are looked at one by one.
fn again(rows: &[Refused]) -> Vec<Next> {
    let mut ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let anywhere = usize::from(Uuid::new_v4().as_bytes()[0]) * ids.len() / 256;
    ids.rotate_left(anywhere);
    ids.chunks(BATCH as usize).map(|ids| Next::These(ids.to_vec())).collect()
}

/// What one statement came to.
struct Attempt {
    ended: Vec<Ended>,
    /// The rows that it was about and that run on nevertheless.
    swallowed: Vec<String>,
    /// Whether it was about none, since the record is not that of the table any more.
    of_another: bool,
}

/// One sweep from one end.
#[derive(Clone, Copy)]
struct Pass<'a> {
    database: &'a Database,
    judge: &'a Judge<'a>,
    records: &'a Records<'a>,
    sweep: &'a Sweep,
    end: End,
    refusals: &'a Mutex<Refusals>,
}

impl<'a> Pass<'a> {
    /// Batches until one comes back short or `stop` is set. A batch that is refused is split until the rows are found
    /// that it is refused for.
    fn batches(
        self,
        todo: Vec<Next>,
        stop: &'a AtomicBool,
    ) -> impl Stream<Item = Result<Vec<Ended>, DbError>> + Send + 'a {
        stream::try_unfold(todo, move |mut todo| async move {
            while let Some(next) = todo.pop().filter(|_| !stop.load(Ordering::Relaxed)) {
                let again = || self.refusals().retries += 1;
                let (version, ledger) = self.records.ledger();
                match with_retries(self.database, || self.attempt(&next, &ledger), again).await {
                    Ok(Attempt { of_another: true, .. }) => return Err(DbError::TableReplaced),
                    Ok(Attempt { ended, swallowed, .. }) => {
                        // Each rule takes up to BATCH rows, so a short batch is one that is short for every rule.
                        if matches!(next, Next::Batch) && ended.len() + swallowed.len() >= BATCH as usize {
                            todo.push(Next::Batch);
                        }
                        self.note(&next, swallowed);
                        return Ok(Some((ended, todo)));
                    }
                    Err(error) if self.records.at_fault(version, &error).await? => todo.push(next),
                    Err(error) if error.of_a_row() => self.split(next, error, &mut todo).await?,
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        })
    }

    /// Puts the halves of what was refused on the list, or notes the one row that is refused for itself.
    async fn split(&self, next: Next, error: DbError, todo: &mut Vec<Next>) -> Result<(), DbError> {
        let ids = match next {
            Next::These(ids) => ids,
            Next::Batch => {
                let ids = self.database.within(async { Ok(self.candidates().await?) }).await?;
                todo.push(Next::Batch);
                ids
            }
        };
        // Without a row it is something else that the server objects to, as where a right was taken away.
        if ids.is_empty() {
            return Err(error);
        }
        let mut refusals = self.refusals();
        refusals.statements += 1;
        let grain = GRAINS.iter().find(|(statements, _)| refusals.statements <= *statements);
        if grain.is_none() {
            // Enough for one sweep; the next one goes on behind what is known by then.
            todo.clear();
        }
        if grain.is_some_and(|(_, grain)| ids.len() > *grain) {
            let (first, second) = ids.split_at(ids.len() / 2);
            todo.push(Next::These(second.to_vec()));
            todo.push(Next::These(first.to_vec()));
            return Ok(());
        }
        let many = if ids.len() > 1 { "refused together with others: " } else { "" };
        let why = format!("{many}{error}");
        // The other end may have been faster to find one.
        for id in ids {
            refusals.rows.entry(id).or_insert_with(|| why.clone());
        }
        Ok(())
    }

    /// Notes what a statement that was not refused says of rows that are.
    fn note(&self, next: &Next, swallowed: Vec<String>) {
        let mut refusals = self.refusals();
        if let Next::These(ids) = next {
            for id in ids {
                refusals.rows.remove(id);
            }
        }
        let why = "a trigger of the table leaves it running";
        refusals.rows.extend(swallowed.into_iter().map(|id| (id, why.to_owned())));
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self, next: &Next, ledger: &Ledger) -> Result<Attempt, sqlx::Error> {
        let (among, ids) = match next {
            Next::Batch => (Among::Others, self.refused()),
            Next::These(ids) => (Among::These, ids.clone()),
        };
        let statement = statement(self.judge, ledger, self.end, among);
        let mut tx = self.database.write().await?;
        let mut query = self.judge.bind(sqlx::query(AssertSqlSafe(statement.as_str()))).bind(ids);
        let recorded = if let Ledger::Tables { store_id, .. } = ledger {
            query = query.bind(self.sweep.id).bind(self.sweep.trigger).bind(store_id);
            true
        } else {
            false
        };
        // Each row is read while the server is still at the next ones.
        let rows = query.persistent(false).try_map(|row| read(&row, recorded)).fetch_all(&mut *tx).await?;
        let (mut ended, mut swallowed) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(row) => ended.push(row),
                Err(id) => swallowed.push(id),
            }
        }
        let none = ended.is_empty() && swallowed.is_empty();
        let of_another = none && !self.is_own(&mut tx).await?;
        if ended.is_empty() {
            // Nothing is to be kept, and a trigger that tells of changes must not tell of none.
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(Attempt { ended, swallowed, of_another })
    }

    /// Whether the record by which rows are judged is still that of the table.
    async fn is_own(&self, tx: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let Rules::Table(store_id) = self.judge.rules else { return Ok(true) };
        let sql = format!("SELECT COALESCE({}, false)", self.judge.mapping.of_record("$1"));
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(store_id).persistent(false).fetch_one(tx).await
    }

    /// The rows that the next batch would be about.
    async fn candidates(&self) -> Result<Vec<String>, sqlx::Error> {
        let ctes = self.judge.ctes(Take::LookAt(BATCH, self.end, Among::Others));
        let sql = format!("WITH {ctes} SELECT id::text FROM stale");
        let mut tx = self.database.read().await?;
        let query = self.judge.bind(sqlx::query(AssertSqlSafe(sql.as_str())));
        let query = query.bind(self.refused()).persistent(false);
        let ids = query.try_map(|row: PgRow| row.try_get(0)).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(ids)
    }

    /// The ids of the rows that are known to be refused.
    fn refused(&self) -> Vec<String> {
        self.refusals().rows.keys().cloned().collect()
    }
}

/// A row that was ended, or the id of one that runs on nevertheless. By the places of the columns, which costs less
/// than by their names.
fn read(row: &PgRow, recorded: bool) -> Result<Result<Ended, String>, sqlx::Error> {
    let id = row.try_get(0)?;
    let Some(at) = decode::maybe_at(row, 5)? else { return Ok(Err(id)) };
    Ok(Ok(Ended {
        id,
        job_id: row.try_get(1)?,
        number: row.try_get(2)?,
        started_at: decode::maybe_at(row, 3)?,
        deadline: decode::maybe_at(row, 4)?,
        at,
        source: row.try_get(6)?,
        reason: row.try_get(7)?,
        cancelled: row.try_get(8)?,
        recorded,
    }))
}

/// The statement of one batch. `WHERE id = ANY (ARRAY (…))` keeps the update an index probe a row; joining the
/// candidates instead took twice the time. The rows are locked by `stale`, and the guard on the status is checked
/// again on the version that is updated, so a worker that finished a row in between keeps its result. What was locked and
/// is not ended all the same, a trigger has kept from it.
fn statement(judge: &Judge<'_>, ledger: &Ledger, end: End, among: Among) -> String {
    // The first free one is the ids'.
    let next = NEXT_PARAMETER + 1;
    let recorded = match ledger {
        Ledger::Missing(_) => String::new(),
        Ledger::Tables { .. } => format!(
            ", recorded AS (
                 INSERT INTO jobexec.events (at, store_id, sweep_id, execution_id, job_id, execution_number,
                                             action, reason, source, actor, note, started_at, deadline)
                 SELECT at, ${store}, ${sweep}, id, job_id, number,
                        CASE WHEN cancelled THEN 'Cancelled' ELSE 'Failed' END, reason, source, {actor}, note,
                        started_at, deadline FROM judged
                 RETURNING event_id),
             tallied AS (
                 INSERT INTO jobexec.sweeps AS s (sweep_id, store_id, trigger, started_at, failed, uid)
                 SELECT ${sweep}, ${store}, ${trigger}, statement_timestamp(), count(*),
                        (SELECT uid FROM jobexec.stores WHERE store_id = ${store}) FROM judged
                 HAVING count(*) > 0
                 ON CONFLICT (sweep_id) DO UPDATE SET failed = s.failed + excluded.failed){posted}",
            posted = outbox::posting(ledger, &format!("${}", next + 2)),
            actor = asked::ACTOR,
            sweep = next,
            trigger = next + 1,
            store = next + 2,
        ),
    };
    format!(
        // The first thing that is evaluated is the path: triggers of the table find what they know.
        "WITH {ctes},
         {updates},
         judged AS MATERIALIZED (
             SELECT f.id::text AS id, f.job_id, f.number, {shown} AS started_at, statement_timestamp() AS at,
                    {deadline} AS deadline, f.reason, f.cancelled, {source} AS source,
                    {note} AS note
             FROM ended AS f {joins} WHERE NOT f.running){recorded}
         SELECT id, job_id, number, started_at, deadline, at, source, reason, cancelled FROM judged WHERE {LOGIN_PATH}
         UNION ALL
         SELECT id::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM stale
         WHERE id::text NOT IN (SELECT id FROM judged)",
        ctes = judge.ctes(Take::Lock(BATCH, end, among)),
        updates = updates(judge),
        shown = wire("f.started_at"),
        deadline = judge.deadline_by(&Times {
            id: "f.id".to_owned(),
            start: "f.started_at".to_owned(),
            created: judge.mapping.created_at().map(|_| "f.created_at".to_owned()),
            paused: judge.mapping.paused_for().map(|_| "f.paused".to_owned()),
            version: version_judged(judge),
        }),
        source = source("f.reason"),
        note = note(judge),
        joins = Judge::joins("f.id", "f.job_key", "f.job_type"),
    )
}

/// The version in which the row `f` was judged: none but the one in which it was first seen running says since when it ran. The
/// statement still sees the row as it was before it was ended.
fn version_judged(judge: &Judge<'_>) -> Option<String> {
    let m = judge.mapping;
    let version = m.version()?;
    Some(format!("(SELECT {version} FROM {} AS t WHERE {} = f.id)", m.table(), m.id()))
}

/// What else is to be recorded of the end of `f`.
fn note(judge: &Judge<'_>) -> String {
    let detail = judge.workload_detail("f.id::text", "COALESCE(f.started_at, f.created_at)");
    format!("CASE WHEN f.reason = '{}' THEN {detail} END", Reason::WorkloadGone.as_str())
}

/// The updates, each with what it writes: one for each reason, and for each way to end an execution.
fn updates(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let all_reasons = judge.evidence || judge.confirmed().is_some();
    let evidence = if all_reasons { &Reason::ALL[..] } else { &Reason::ALL[..1] };
    let forced = judge.asked.and_then(|asked| asked.end).map(|_| &Reason::ManualCleanup);
    let by = judge.asked.and_then(|asked| asked.actor.as_deref()).unwrap_or("the jobexec operator");
    let ways = [(OnStale::Fail, "action <> 'Cancel'"), (OnStale::Cancel, "action = 'Cancel'")];
    let ways = if m.can_cancel() { &ways[..] } else { &[(OnStale::Fail, "true")][..] };
    let mut updates = Vec::new();
    let mut all = Vec::new();
    for reason in evidence.iter().chain(forced) {
        for (how, which) in ways {
            let name = format!("ended_{}", updates.len());
            let cancelled = *how == OnStale::Cancel;
            let done = if cancelled { "cancelled" } else { "failed" };
            let explanation = format!("{}: {}, {done} by {by}", reason.as_str(), reason.explanation());
            all.push(format!(
                "SELECT *, '{}' AS reason, {cancelled} AS cancelled FROM {name}",
                reason.as_str()
            ));
            updates.push(format!(
                "{name} AS (
                     UPDATE {table} AS t SET {assignments}
                     WHERE {id} = ANY (ARRAY (SELECT id FROM stale WHERE reason = '{reason}' AND {which})) AND {running}
                     RETURNING {id} AS id, {job_key} AS job_key, {job} AS job_id, {type_} AS job_type,
                               {number}::bigint AS number, {start} AS started_at, {created} AS created_at, {paused} AS paused,
                               {running} AS running)",
                table = m.table(),
                assignments = m.end_assignments(*how, &explanation),
                id = m.id(),
                reason = reason.as_str(),
                running = m.running(),
                job_key = m.job_key().0,
                job = m.job_shown(),
                type_ = m.job_type(),
                number = m.number(),
                start = m.started_at(),
                created = m.created_at().unwrap_or_else(|| "NULL::timestamptz".to_owned()),
                paused = m.paused_for().unwrap_or_else(|| "NULL::interval".to_owned()),
            ));
        }
    }
    format!("{}, ended AS ({})", updates.join(", "), all.join(" UNION ALL "))
}

/// The object that says so, by the reason and the verdict `v`.
pub(super) fn source(reason: &str) -> String {
    format!(
        "CASE {reason} WHEN '{}' THEN v.timeout_source WHEN '{}' THEN v.heartbeat_source \
         WHEN '{}' THEN COALESCE({}, v.store) ELSE COALESCE({}, v.store) END",
        Reason::DeadlineExceeded.as_str(),
        Reason::HeartbeatLost.as_str(),
        Reason::ManualCleanup.as_str(),
        asked::SOURCE,
        asked::CONFIRMED_BY,
    )
}

/// The guard in the statement makes a second try harmless, also when the first one's commit was only not heard of.
async fn with_retries<T, F>(
    database: &Database,
    mut attempt: impl FnMut() -> F,
    again: impl Fn(),
) -> Result<T, DbError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        // The inner result keeps what the server said, which decides whether to try again.
        match database.within(async { Ok(attempt().await) }).await? {
            Err(error) if tries < TRIES && DbError::transient(&error) => {
                tracing::debug!(error = line(&error.to_string()), tries, "trying a batch once more");
                again();
                tokio::time::sleep(Duration::from_millis(20 << tries)).await;
            }
            other => return Ok(other?),
        }
    }
}
