//! A clean-up at a person's request. A clean-up by the policies is the operator's own sweep; a threshold or ids also end executions
//! that no rule considers stale. The dry run finds rows with the same statement parts as the sweep, and judges each with the same
//! predicate.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::held::{self, Held};
use super::manual_request::{ForceOptions, ManualRequest, UNDECIDED};
use super::mapping::ID_BYTES;
use super::own::Fault;
use super::running::{self, Execution, Which};
use super::staleness::{Reason, Suspicion};
use super::sweep::{self, Ended, Known, Sweep, Trigger};
use super::{Database, DbError, Ending, Ledger, StalenessPredicate, identity, ledger};
use crate::api::duration::NEVER;
use crate::api::{OnStale, Phase, duration};

/// The number of rows on one page of a dry run. The first page is small so that it arrives at once; later pages grow, because under
/// many rules finding some rows costs as much as finding all of them.
const FIRST: u32 = 500;
const MANY: u32 = 2_500;
const MOST: u32 = 10_000;

/// The maximum number of rows on all pages of the process that are larger than the first, where each row takes 2 KiB. With less
/// memory pages are smaller, and nobody waits: otherwise a clean-up of many large stores would take more memory than the operator
/// has.
static ROOM: Semaphore = Semaphore::const_new(MOST as usize);

/// Returns the number of rows for the next page, and a permit that reserves the memory for them until it is dropped.
fn room(wanted: u32) -> (u32, Option<SemaphorePermit<'static>>) {
    let large = [wanted, wanted.min(MANY)].into_iter().filter(|size| *size > FIRST);
    let mut large = large.filter_map(|size| Some((size, Some(ROOM.try_acquire_many(size).ok()?))));
    large.next().unwrap_or((FIRST, None))
}

/// The executions to end. Without `older_than`, `ids` and `suspicion`: those that are stale by the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Executions that have run at least this long. It replaces the store's default: executions that an object governs are left
    /// alone.
    pub older_than: Option<TimeDelta>,
    /// These executions, by their ids in canonical form.
    pub ids: Vec<String>,
    /// With `older_than` or `ids`: include executions that a policy, an extension or `AlertOnly` governs.
    pub include_governed: bool,
    /// Executions with this suspicion, and nothing else. It cannot be combined with the options above.
    pub suspicion: Option<Suspicion>,
    /// Change nothing, and only report what would be done.
    pub dry_run: bool,
    /// The tool that makes the request, for the record, for example `CommandLine`.
    pub source: &'static str,
    /// The person who makes the request, for the record.
    pub actor: Option<String>,
}

/// An execution that was ended or, in a dry run, would be; or one that is not ended, with the reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The row's id.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// Its number within the job.
    pub execution_number: Option<i64>,
    /// Its start.
    pub started_at: Option<DateTime<Utc>>,
    /// Its runtime so far, in seconds.
    pub runtime_seconds: Option<f64>,
    /// Its deadline.
    pub deadline: Option<DateTime<Utc>>,
    /// The time at which it was ended, by the database's clock; `None` in a dry run.
    pub completed_at: Option<DateTime<Utc>>,
    /// The action that was or would be taken, `Failed` or `Cancelled`; `None` if there is none.
    pub action: Option<Cow<'static, str>>,
    /// The reason: evidence such as `DeadlineExceeded`, or `ManualCleanup` if a person decided.
    pub reason: Option<String>,
    /// The object that decides it, or the tool through which a person requested it.
    pub source: Option<String>,
    /// The reason why nothing is done about it.
    pub skipped: Option<Skipped>,
}

/// The reason why a row is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// One word: `Governed`, `Extended`, `Undecided`, `AlertOnly`, `TooYoung`, `NotRunning`, `NotFound`, `Locked`, `Late`,
    /// `Refused`, `IdTooLong`.
    pub reason: Cow<'static, str>,
    /// The same for a person.
    pub message: String,
}

/// The reason why nothing is done about an id that no row has.
pub(super) const NOT_FOUND: &str = "NotFound";

impl Skipped {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }

    /// Reports whether no row has the id.
    pub fn is_not_found(&self) -> bool {
        self.reason == NOT_FOUND
    }
}

/// The totals of a clean-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if nothing was changed.
    pub dry_run: bool,
    /// The number of executions that were ended or, in a dry run, would be.
    pub cleaned: u64,
    /// The number of executions that were left as they are.
    pub skipped: u64,
    /// The number of those that do not exist.
    pub not_found: u64,
}

/// Cleans up, or reports what that would do. Passes rows to `told` as soon as they are committed or found; `told` may break off.
/// Skips a row that another transaction has locked, because that transaction may be finishing it. Also returns the reason if the
/// operator's tables exist but reject some records.
pub async fn run(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    options: &Options,
    mut told: impl FnMut(&[Row]) -> ControlFlow<()>,
) -> Result<(Report, Option<Fault>), DbError> {
    let begun = database.within(ledger::now(database)).await?;
    let asked = asked(options, begun);
    let predicate = predicate.asked(&asked);
    let plan = Plan { database, predicate: &predicate, options };
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    let mut count = |rows: Vec<Row>| {
        for row in &rows {
            report.count(row);
        }
        if rows.is_empty() { ControlFlow::Continue(()) } else { told(&rows) }
    };
    if options.dry_run {
        plan.rows(&mut count).await?;
        return Ok((report, None));
    }
    let (mut done, mut broken) = (BTreeSet::new(), false);
    let sweep = Sweep { id: Uuid::new_v4(), trigger: Trigger::Cleanup(options.source) };
    let outcome = sweep::run(database, &predicate, ledger, &sweep, Known::default(), |batch| {
        if !options.ids.is_empty() {
            done.extend(batch.iter().map(|ended| ended.id.clone()));
        }
        let told = count(batch.iter().map(Row::ended).collect());
        broken = told.is_break();
        told
    })
    .await?;
    let fault = outcome.fault;
    if !broken {
        let held = match ledger {
            Ledger::Tables { store_id, .. } => database.within(held::known(database, *store_id)).await?,
            Ledger::Missing(_) => BTreeMap::new(),
        };
        let refused = outcome.refused.into_iter().map(|row| (row.id, row.why)).collect();
        plan.rows(&mut |rows| count(left(rows, &done, &refused, &held, begun))).await?;
    }
    Ok((report, fault))
}

/// Builds the request for the predicate. The threshold becomes a fixed time, so that no row grows into it meanwhile.
fn asked(options: &Options, begun: DateTime<Utc>) -> ManualRequest {
    let forced = options.older_than.is_some() || !options.ids.is_empty();
    ManualRequest {
        begun_by: options.older_than.map(|age| begun - age),
        ids: (!options.ids.is_empty()).then(|| options.ids.clone()),
        actor: options.actor.clone(),
        source: Some(options.source.to_owned()),
        end: forced.then_some(ForceOptions { include_governed: options.include_governed }),
        suspicion: options.suspicion,
        ..ManualRequest::default()
    }
}

/// Returns the rows that are still unchanged after the clean-up ended everything it could. Executions that became stale after the
/// clean-up began are left to the next one.
fn left(
    rows: Vec<Row>,
    done: &BTreeSet<String>,
    refused: &BTreeMap<String, String>,
    held: &BTreeMap<String, Held>,
    begun: DateTime<Utc>,
) -> Vec<Row> {
    let late = |row: &Row| {
        let by_deadline = row.reason.as_deref() == Some(Reason::DeadlineExceeded.as_str());
        row.skipped.is_none() && by_deadline && row.deadline.is_some_and(|deadline| deadline > begun)
    };
    let explain = |mut row: Row| {
        if row.skipped.is_none() {
            let why = refused.get(&row.id);
            row.skipped = Some(match (why, held.get(&row.id)) {
                (Some(why), _) => Skipped::new("Refused", why),
                (None, Some(held)) => Skipped::new("Locked", format!("another transaction holds {held}")),
                (None, None) => passed_over(&row),
            });
            row.action = None;
        }
        row
    };
    rows.into_iter().filter(|row| !done.contains(&row.id) && !late(row)).map(explain).collect()
}

/// Explains why a stale row was not taken although nothing refuses it. It is not reported since when evidence other than time
/// counts.
fn passed_over(row: &Row) -> Skipped {
    let by_time = [Reason::DeadlineExceeded.as_str(), Reason::ManualCleanup.as_str()];
    if row.reason.as_deref().is_some_and(|reason| by_time.contains(&reason)) {
        return Skipped::new("Locked", "another transaction holds it, perhaps to finish it: run this again");
    }
    let why = "it became stale while this ran, or another transaction holds it: run this again";
    Skipped::new("Late", why)
}

/// The rows that a clean-up would end or skip.
struct Plan<'a> {
    database: &'a Database,
    predicate: &'a StalenessPredicate<'a>,
    options: &'a Options,
}

impl Plan<'_> {
    /// Passes all rows to `told`, page by page.
    async fn rows(&self, told: &mut impl FnMut(Vec<Row>) -> ControlFlow<()>) -> Result<(), DbError> {
        if !self.options.ids.is_empty() {
            for ids in self.options.ids.chunks(FIRST as usize) {
                if told(self.named(ids).await?).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let asked = self.predicate.asked.cloned().unwrap_or_default();
        let (mut after, mut wanted) = (None, FIRST);
        loop {
            let (size, _room) = room(wanted);
            let page = async {
                let (database, predicate) = (self.database, self.predicate);
                let keys =
                    running::keys(database, predicate, Which::Stale, asked.clone(), after.as_ref(), size);
                let (ids, next) = keys.await?;
                Ok((running::look(database, predicate, ids).await?, next))
            };
            let (found, next) = self.database.within(page).await?;
            // An execution that ended or was extended in the meantime no longer matters.
            let found = found.into_iter().filter(|execution| execution.reason.is_some());
            let running = found.filter(|execution| execution.phase == Phase::Running);
            let told = told(running.map(|execution| self.decide(execution)).collect());
            (after, wanted) = (next, wanted.saturating_mul(10).min(MOST));
            if told.is_break() || after.is_none() {
                return Ok(());
            }
        }
    }

    /// Returns the rows with these ids, each with its decision.
    async fn named(&self, ids: &[String]) -> Result<Vec<Row>, DbError> {
        let mut found: BTreeMap<String, Execution> =
            running::look(self.database, self.predicate, ids.to_vec())
                .await?
                .into_iter()
                .map(|execution| (execution.id.clone(), execution))
                .collect();
        let row = |id: &String| match found.remove(id) {
            Some(execution) => self.decide(execution),
            None => Row::missing(id),
        };
        Ok(ids.iter().map(row).collect())
    }

    /// Decides about an execution by the result of the predicate.
    fn decide(&self, execution: Execution) -> Row {
        let forced = execution.reason.as_deref() == Some(Reason::ManualCleanup.as_str());
        let skipped = match (&execution.reason, execution.action.as_deref()) {
            _ if execution.phase != Phase::Running => {
                Some(Skipped::new("NotRunning", format!("it does not run, it is {}", execution.status)))
            }
            _ if execution.governed.as_deref() == Some(UNDECIDED) => {
                Some(Skipped::new(UNDECIDED, identity::left_alone(self.predicate.mapping)))
            }
            (None, _) if execution.id.len() > usize::from(ID_BYTES) => Some(Skipped::new(
                "IdTooLong",
                format!("its id is longer than {ID_BYTES} bytes, and such executions are left alone"),
            )),
            (None, _) => Some(Skipped::new("TooYoung", "it has not run for so long")),
            (Some(_), Some("AlertOnly")) => Some(governed(&execution, "AlertOnly")),
            _ if forced && !self.options.include_governed => {
                execution.governed.as_deref().map(|how| governed(&execution, how))
            }
            _ => None,
        };
        let (action, mapping) = (execution.action.as_deref(), self.predicate.mapping);
        let action = match action.and_then(OnStale::parse) {
            Some(OnStale::Cancel) if mapping.can_cancel() => Ending::Cancelled,
            Some(OnStale::Retry) if mapping.retry_method().is_some() => Ending::Retried,
            _ => Ending::Failed,
        };
        Row {
            action: skipped.is_none().then_some(action.as_str().into()),
            reason: execution.reason.filter(|_| execution.phase == Phase::Running),
            source: execution.source,
            skipped,
            completed_at: execution.completed_at,
            id: execution.id,
            job_id: execution.job_id,
            execution_number: execution.execution_number,
            started_at: execution.started_at,
            runtime_seconds: execution.runtime_seconds,
            deadline: execution.deadline,
        }
    }
}

/// Returns the reason, other than the store's default, that prevents ending a row.
fn governed(execution: &Execution, how: &str) -> Skipped {
    let length = |seconds: f64| duration::format(duration::of_seconds(seconds));
    match how {
        "AlertOnly" => Skipped::new("AlertOnly", "it is only to be reported (onStale AlertOnly)"),
        "Extended" => Skipped::new(
            "Extended",
            format!(
                "{} gives it {} more",
                execution.extend_source.as_deref().unwrap_or("an extension"),
                length(execution.extended_by_seconds)
            ),
        ),
        _ => {
            let gives = match execution.timeout_seconds {
                Some(seconds) => format!("gives it {}", length(seconds)),
                None => format!("gives it no deadline (timeout {NEVER})"),
            };
            Skipped::new("Governed", format!("{} {gives}", execution.timeout_source))
        }
    }
}

impl Report {
    /// Counts a row that was reported.
    pub fn count(&mut self, row: &Row) {
        match &row.skipped {
            None => self.cleaned += 1,
            Some(skipped) => {
                self.skipped += 1;
                self.not_found += u64::from(skipped.is_not_found());
            }
        }
    }
}

impl Row {
    fn ended(ended: &Ended) -> Self {
        Self {
            id: ended.id.clone(),
            job_id: ended.job_id.clone(),
            execution_number: ended.number,
            started_at: ended.started_at,
            runtime_seconds: ended.runtime().map(TimeDelta::as_seconds_f64),
            deadline: ended.deadline,
            completed_at: Some(ended.at),
            action: Some(ended.ending.as_str().into()),
            reason: Some(ended.reason.clone()),
            source: Some(ended.source.clone()),
            skipped: None,
        }
    }

    fn missing(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            job_id: None,
            execution_number: None,
            started_at: None,
            runtime_seconds: None,
            deadline: None,
            completed_at: None,
            action: None,
            reason: None,
            source: None,
            skipped: Some(Skipped::new(NOT_FOUND, "the table has no such execution")),
        }
    }
}
