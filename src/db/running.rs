//! Lists executions for a person, page by page. They are found in the order of an index, and judged by the predicate only once they
//! are on the page, so the first page of a million is as fast as that of ten.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::intervals::delta;
use super::manual_request::{GOVERNED, ManualRequest, Place, UNDECIDED};
use super::mapping::clamp_timestamp;
use super::staleness::{Rules, Selection, Suspicion};
use super::{Database, DbError, StalenessPredicate, audit, ledger, sweep};
use crate::api::Phase;

/// The executions to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Executions that run, the longest-running first.
    #[default]
    Running,
    /// Executions that run past their deadline, the longest-running first.
    Overdue,
    /// Executions that are stale by any evidence, the longest-running first.
    Stale,
    /// All executions, whatever their status: the latest start first, then those without a start. Without an index on the start
    /// each page reads the whole table.
    All,
}

/// The filter of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The kind of executions.
    pub which: Which,
    /// Only executions that began at least this long ago.
    pub older_than: Option<TimeDelta>,
    /// Only executions of this job, by its id in canonical form.
    pub job_id: Option<String>,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// The executions.
    pub executions: Vec<Execution>,
    /// The beginning of the next page; `None` if this is the last one.
    pub next: Option<Cursor>,
}

/// The beginning of a page. Its text form can be sent to a client and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    undated: bool,
    start: Option<String>,
    id: String,
}

/// A text that is not a [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in a list: give the one that the page before told, or none")]
pub struct InvalidCursor(String);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}", self.start.as_deref().unwrap_or_default(), self.id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let invalid = || InvalidCursor(text.chars().take(60).collect());
        let (start, id) = text.split_once('~').ok_or_else(invalid)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-:. ".contains(c);
        // An id may be an empty text.
        if !start.chars().all(plain) {
            return Err(invalid());
        }
        let start = (!start.is_empty()).then(|| start.to_owned());
        Ok(Self { undated: start.is_none(), start, id: id.to_owned() })
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An execution in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Execution {
    /// The row's id.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// The type of the job, if known.
    pub job_type: Option<String>,
    /// Its number within the job.
    pub execution_number: Option<i64>,
    /// The status in the table.
    pub status: String,
    /// The phase.
    pub phase: Phase,
    /// Its start.
    pub started_at: Option<DateTime<Utc>>,
    /// Its end.
    pub completed_at: Option<DateTime<Utc>>,
    /// Its runtime, so far or in total, in seconds; `None` without a start.
    pub runtime_seconds: Option<f64>,
    /// The timeout in seconds, without the grace period and an extension; `None`: it is `Never`.
    pub timeout_seconds: Option<f64>,
    /// The object that sets the timeout, or the column of the row.
    pub timeout_source: String,
    /// The extension in seconds.
    pub extended_by_seconds: f64,
    /// The object that sets the extension.
    pub extend_source: Option<String>,
    /// Its deadline; for an execution that has ended, the recorded deadline.
    pub deadline: Option<DateTime<Utc>>,
    /// The action once it is stale: `Fail`, `Cancel` or `AlertOnly`.
    pub on_stale: String,
    /// True if it has run for longer than expected.
    pub long_running: bool,
    /// The reason why it is stale, or why it was ended if that is recorded.
    pub reason: Option<String>,
    /// The object that decides it.
    pub source: Option<String>,
    /// The rule that governs it in addition to the store's default: `Governed` (its timeout), `Extended` or `AlertOnly`.
    pub governed: Option<String>,
    /// The suspicion, if it runs and is not stale: only a person can have it ended for that.
    pub suspected: Option<String>,
    /// Its position in the list, if it is from a page.
    #[serde(skip)]
    pub place: Option<Cursor>,
    /// The action if it is stale: a person may request another action than a rule.
    #[serde(skip)]
    pub action: Option<String>,
}

impl Execution {
    /// Reports whether it runs without a deadline, because its timeout is `Never`.
    pub fn never_ends(&self) -> bool {
        self.phase == Phase::Running && self.timeout_seconds.is_none()
    }
}

/// Returns the page of at most `limit` executions that begins at `after`, or the first page.
pub async fn page(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Page, DbError> {
    let begun_by = match filter.older_than {
        Some(age) => Some(ledger::now(database).await? - age),
        None => None,
    };
    let asked = ManualRequest { begun_by, job: filter.job_id.clone(), ..ManualRequest::default() };
    let (places, next) = places(database, predicate, filter.which, asked, after, limit).await?;
    let ids = places.iter().map(|place| place.id.clone()).collect();
    let mut executions = look(database, predicate, ids).await?;
    let mut places: HashMap<String, Cursor> =
        places.into_iter().map(|place| (place.id.clone(), place)).collect();
    for execution in &mut executions {
        execution.place = places.remove(&execution.id);
    }
    if filter.which != Which::All {
        // It may have ended since.
        executions.retain(|execution| execution.phase == Phase::Running);
    }
    if matches!(filter.which, Which::Overdue | Which::Stale) {
        executions.retain(|execution| execution.reason.is_some());
    }
    Ok(Page { executions, next })
}

/// Returns the ids of up to `limit` executions after a position, and where the next page begins.
pub(super) async fn keys(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    which: Which,
    asked: ManualRequest,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<(Vec<String>, Option<Cursor>), DbError> {
    let (places, next) = places(database, predicate, which, asked, after, limit).await?;
    Ok((places.into_iter().map(|place| place.id).collect(), next))
}

/// Returns the positions of the executions, and where the next page begins.
async fn places(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    which: Which,
    asked: ManualRequest,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<(Vec<Cursor>, Option<Cursor>), DbError> {
    // One more row shows whether there are more.
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let newest_first = which == Which::All;
    let at = |undated| match after {
        Some(c) if c.undated == undated => {
            Place { undated, start: c.start.clone(), id: Some(c.id.clone()), newest_first }
        }
        _ => Place { undated, newest_first, ..Place::default() },
    };
    let mut found = Vec::new();
    for undated in [false, true] {
        if found.len() < wanted && !after.is_some_and(|c| c.undated && !undated) {
            let asked = ManualRequest { place: Some(at(undated)), ..asked.clone() };
            let rest = limit.saturating_add(1) - u32::try_from(found.len()).unwrap_or(limit);
            found.extend(part(database, &predicate.asked(&asked), which, undated, rest).await?);
        }
    }
    let more = found.len() == wanted;
    if more {
        found.pop();
    }
    let next = found.last().filter(|_| more).cloned();
    Ok((found, next))
}

/// Returns the positions of up to `limit` executions, either with a start or without.
async fn part(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    which: Which,
    undated: bool,
    limit: u32,
) -> Result<Vec<Cursor>, DbError> {
    let m = predicate.mapping;
    let narrow = predicate.asked.map_or(Vec::new(), |asked| predicate.alternatives(asked)).join(" OR ");
    let (ctes, stale, condition) = match which {
        Which::All => {
            (predicate.rules(), String::new(), m.only_handled(format!("({narrow}) AND {}", m.exists())))
        }
        Which::Running => (predicate.rules(), String::new(), format!("{} AND ({narrow})", m.judged())),
        Which::Overdue | Which::Stale => {
            let predicate = predicate.with_evidence(predicate.evidence && which == Which::Stale);
            (
                predicate.ctes(Selection::Page(limit)),
                format!("JOIN stale ON stale.id = {}", m.id()),
                "true".to_owned(),
            )
        }
    };
    let sql = format!(
        include_str!("running/places.sql"),
        predicate = ctes,
        start = m.started_column(),
        id = m.id(),
        table = m.table(),
        stale = stale,
        condition = condition,
        direction = if which == Which::All { "DESC" } else { "ASC" },
        limit = limit,
    );
    let mut tx = database.read().await?;
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).persistent(false);
    let rows = query.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let key = |row: PgRow| Ok(Cursor { undated, start: row.try_get("start")?, id: row.try_get("id")? });
    rows.into_iter().map(key).collect()
}

/// Returns the executions with these ids (in canonical form) as they are now, in this order. Ids that do not exist are left out.
pub async fn look(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ids: Vec<String>,
) -> Result<Vec<Execution>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = statement(predicate);
    let mut tx = database.read().await?;
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).bind(&ids).persistent(false);
    let rows = query.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut found = HashMap::new();
    for row in rows {
        let execution = read(predicate, &row)?;
        found.insert(execution.id.clone(), execution);
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

fn statement(predicate: &StalenessPredicate<'_>) -> String {
    let m = predicate.mapping;
    let store_id = match predicate.rules {
        Rules::Memory => None,
        Rules::Table(_) => Some("$4"),
    };
    format!(
        include_str!("running/look.sql"),
        predicate = predicate.ctes(Selection::LookAtThese),
        exists = m.exists(),
        id = m.id(),
        id_type = m.id_type().sql(),
        job_id = m.job_shown(),
        job_type = m.type_shown(),
        number = m.number(),
        status = m.status_shown(),
        started_at = clamp_timestamp(&m.started_at()),
        completed_at = clamp_timestamp(&m.completed_at()),
        running = m.running(),
        deadline = predicate.deadline(),
        long_running = predicate.runs_long(),
        source = sweep::source("stale.reason"),
        action = predicate.action_at_once("stale.action"),
        table = m.table(),
        rules_of_row = predicate.joined(),
        recorded = audit::end_of_row(m, &format!("NOT {}", m.running()), store_id),
        suspected = suspected(predicate),
        governed = predicate.undecided().map_or_else(
            || GOVERNED.to_owned(),
            |undecided| format!("CASE WHEN {undecided} THEN '{UNDECIDED}' ELSE {GOVERNED} END"),
        ),
    )
}

/// Returns the suspicion about the row `execution`, as an SQL expression.
fn suspected(predicate: &StalenessPredicate<'_>) -> String {
    let m = predicate.mapping;
    let job = predicate.job_suspected().map(|suspected| {
        format!(
            "WHEN NOT {certain} AND EXISTS (SELECT FROM {jobs} WHERE {of_job} AND {suspected}) THEN '{what}'",
            certain = predicate.job_certain(),
            jobs = m.jobs_table(),
            of_job = m.of_job(),
            what = Suspicion::JobFinished.as_str(),
        )
    });
    let workload = predicate
        .workload_made_again()
        .map(|again| format!("WHEN {again} THEN '{}'", Suspicion::WorkloadRecreated.as_str()));
    let known: Vec<String> = job.into_iter().chain(workload).collect();
    if known.is_empty() {
        return "NULL::text".to_owned();
    }
    format!("CASE WHEN stale.reason IS NOT NULL OR NOT ({}) THEN NULL {} END", m.judged(), known.join(" "))
}

fn read(predicate: &StalenessPredicate<'_>, row: &PgRow) -> Result<Execution, sqlx::Error> {
    let status: Option<String> = row.try_get("status")?;
    let length = |column: &str| -> Result<Option<f64>, sqlx::Error> {
        let length: Option<PgInterval> = row.try_get(column)?;
        Ok(length.map(|length| delta(&length).as_seconds_f64()))
    };
    Ok(Execution {
        id: row.try_get("id")?,
        job_id: row.try_get("job_id")?,
        job_type: row.try_get("job_type")?,
        execution_number: row.try_get("number")?,
        phase: status.as_deref().map_or(Phase::Unmapped, |text| predicate.mapping.phase(text)),
        status: status.unwrap_or_else(|| "NULL".to_owned()),
        started_at: decode::maybe_at(row, "started_at")?,
        completed_at: decode::maybe_at(row, "completed_at")?,
        runtime_seconds: row.try_get("runtime")?,
        timeout_seconds: length("timeout")?,
        timeout_source: row.try_get("timeout_source")?,
        extended_by_seconds: length("extend_by")?.unwrap_or_default(),
        extend_source: row.try_get("extend_source")?,
        deadline: decode::maybe_at(row, "deadline")?,
        on_stale: row.try_get("on_stale")?,
        long_running: row.try_get("long_running")?,
        reason: row.try_get("reason")?,
        source: row.try_get("source")?,
        governed: row.try_get("governed")?,
        suspected: row.try_get("suspected")?,
        action: row.try_get("action")?,
        place: None,
    })
}
