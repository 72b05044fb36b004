//! The statement of one batch.
//!
//! The updates are assembled here: there is one for each reason for which the store ends executions.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::outcome::Ended;
use crate::api::OnStale;
use crate::db::connect::LOGIN_PATH;
use crate::db::ending::{ACTION, Ending};
use crate::db::manual_request;
use crate::db::mapping::clamp_timestamp;
use crate::db::reason::Reason;
use crate::db::staleness::evidence::{ALL, Kind, STORE};
use crate::db::staleness::{End, IdFilter, NEXT_PARAMETER, Selection, Times};
use crate::db::{Ledger, Mapping, StalenessPredicate, decode, outbox};

/// The number of rows that one statement ends. Larger batches are no faster (docs/performance.md) and hold locks longer.
pub const BATCH: u32 = 5_000;

/// The text for a statement that inserted a row of which it is not known which execution it retries. Nothing of it may be committed.
pub(super) const UNMATCHED: &str = "Unmatched";

/// An execution that the statement selected and that keeps running nevertheless.
pub(super) struct Running {
    /// The row.
    pub(super) id: String,
    /// What became of what the statement wrote.
    pub(super) written: Written,
}

/// What became of a write that did not end an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// A trigger prevented it.
    Not,
    /// A trigger left the row running, or gave it a status that the mapping does not know.
    Running,
    /// A trigger completed the row.
    Completed,
    /// It is no row: a row was inserted of which it is not known which execution it retries.
    Unmatched,
}

/// Reads a row that was ended, or one that keeps running. It uses the positions of the columns, which costs less than their names.
pub(super) fn read(row: &PgRow, recorded: bool) -> Result<Result<Ended, Running>, sqlx::Error> {
    let id = row.try_get(0)?;
    let Some(at) = decode::maybe_at(row, 5)? else {
        let written = match row.try_get::<Option<&str>, _>(8)? {
            None => Written::Not,
            Some(text) if text == Ending::Completed.as_str() => Written::Completed,
            Some(UNMATCHED) => Written::Unmatched,
            Some(_) => Written::Running,
        };
        return Ok(Err(Running { id, written }));
    };
    let ending: &str = row.try_get(8)?;
    let ending =
        Ending::parse(ending).ok_or_else(|| sqlx::Error::Protocol(format!("no ending: {ending:?}")))?;
    Ok(Ok(Ended {
        id,
        job_id: row.try_get(1)?,
        number: row.try_get(2)?,
        started_at: decode::maybe_at(row, 3)?,
        deadline: decode::maybe_at(row, 4)?,
        at,
        source: row.try_get(6)?,
        reason: row.try_get(7)?,
        ending,
        recorded,
    }))
}

/// Returns the statement of one batch of executions with this action. `WHERE id = ANY (ARRAY (…))` keeps the update at one index probe for each row; joining the
/// candidates instead took twice the time. `stale` locks the rows, and the guard on the status is checked again on the version that
/// is updated, so a worker that finished a row in between keeps its result. If a row was locked but not ended, a trigger prevented
/// it.
pub(super) fn statement(
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    end: End,
    among: IdFilter,
    action: OnStale,
) -> String {
    let predicate = &predicate.with_action(action);
    let selection = Selection::Lock(BATCH, end, among);
    let kinds: Vec<&dyn Kind> = predicate.kinds().collect();
    let times = Times {
        id: "ended.id".to_owned(),
        start: "ended.started_at".to_owned(),
        created: predicate.mapping.created_at().map(|_| "ended.created_at".to_owned()),
        paused: predicate.mapping.paused_for().map(|_| "ended.paused".to_owned()),
        version: version_judged(predicate),
    };
    let own_limit = predicate
        .mapping
        .row_limit()
        .map_or(String::new(), |limit| predicate.own_limit_of(&as_judged(predicate.mapping, &limit), &times));
    format!(
        include_str!("batch.sql"),
        predicate = predicate.ctes(selection),
        updates = updates(predicate, &kinds, action),
        completed = Ending::Completed.as_str(),
        started_at = clamp_timestamp("ended.started_at"),
        deadline = predicate.deadline_by(&times),
        source = source("ended.reason"),
        note = note(
            predicate,
            &kinds,
            "ended.reason",
            "ended.id::text",
            "COALESCE(ended.started_at, ended.created_at)"
        ),
        recorded = recorded(ledger),
        returned = returned(action),
        rules_of_row = predicate.joins("ended.id", "ended.job_key", "ended.job_type", &own_limit,),
    )
}

/// Returns the end of the statement, which returns the rows.
pub(super) fn returned(action: OnStale) -> String {
    format!(
        include_str!("returned.sql"),
        login_path = LOGIN_PATH,
        action = announced(action),
        completed = Ending::Completed.as_str(),
    )
}

/// Returns the part that records the ends.
pub(super) fn recorded(ledger: &Ledger) -> String {
    // The first free parameter holds the ids.
    let next = NEXT_PARAMETER + 1;
    match ledger {
        Ledger::Missing(_) => String::new(),
        Ledger::Tables { .. } => format!(
            include_str!("recorded.sql"),
            posted = outbox::posting(ledger, &format!("${}", next + 2)),
            actor = manual_request::ACTOR,
            sweep = next,
            trigger = next + 1,
            store = next + 2,
        ),
    }
}

/// Returns the version in which the row `ended` was judged: the time since when it ran is known only for the version in which it
/// was first seen running.
fn version_judged(predicate: &StalenessPredicate<'_>) -> Option<String> {
    let m = predicate.mapping;
    Some(as_judged(m, m.version()?))
}

/// Returns an expression over the row `ended` as it was judged: the statement still sees the row as it was before it was ended, and
/// before a trigger changed it. If several running rows have the id, as in a table with children, the value is unknown.
fn as_judged(m: &Mapping, expression: &str) -> String {
    format!(
        "(SELECT CASE count(*) WHEN 1 THEN min({expression}) END FROM {} AS execution WHERE {} = ended.id AND {})",
        m.table(),
        m.id(),
        m.running()
    )
}

/// Returns the note to record with the end of the execution with this reason, id (a text) and beginning.
pub(super) fn note(
    predicate: &StalenessPredicate<'_>,
    kinds: &[&dyn Kind],
    reason: &str,
    id: &str,
    began: &str,
) -> String {
    let notes: Vec<String> = kinds
        .iter()
        .filter_map(|kind| {
            let note = kind.note(predicate, id, began)?;
            Some(format!("WHEN '{}' THEN {note}", kind.reason().as_str()))
        })
        .collect();
    if notes.is_empty() { "NULL::text".to_owned() } else { format!("CASE {reason} {} END", notes.join(" ")) }
}

/// Returns the condition that tells the triggers of the table which action they see. It is always true.
pub(in crate::db) fn announced(action: OnStale) -> String {
    format!("(SELECT pg_catalog.set_config('{ACTION}', '{}', true)) IS NOT NULL", action.as_str())
}

/// Returns the updates: one for each reason, with the texts that it writes.
fn updates(predicate: &StalenessPredicate<'_>, kinds: &[&dyn Kind], action: OnStale) -> String {
    let m = predicate.mapping;
    let forced = predicate.asked.and_then(|asked| asked.end).map(|_| Reason::ManualCleanup);
    let by = predicate.asked.and_then(|asked| asked.actor.as_deref()).unwrap_or("the jobexec operator");
    // A trigger may turn the failure that is written into a retry.
    let done = if action == OnStale::Retry { "ended" } else { Ending::of(action).word() };
    let mut updates = Vec::new();
    let mut all = Vec::new();
    for reason in kinds.iter().map(|kind| kind.reason()).chain(forced) {
        let name = format!("ended_{}", updates.len());
        let explanation = format!("{}: {}, {done} by {by}", reason.as_str(), reason.explanation());
        all.push(format!("SELECT *, '{}' AS reason FROM {name}", reason.as_str()));
        updates.push(format!(
            include_str!("update.sql"),
            name = name,
            table = m.table(),
            assignments = m.end_assignments(action, &explanation),
            id = m.id(),
            reason = reason.as_str(),
            running = m.running(),
            job_key = m.job_key().0,
            job_id = m.job_shown(),
            job_type = m.job_type(),
            number = m.number(),
            started_at = m.started_at(),
            created_at = m.created_at().unwrap_or_else(|| "NULL::timestamptz".to_owned()),
            paused = m.paused_for().unwrap_or_else(|| "NULL::interval".to_owned()),
            ending = m.ending(),
        ));
    }
    format!("{}, ended AS ({})", updates.join(", "), all.join(" UNION ALL "))
}

/// Returns the object that caused the end, by the reason and the `verdict`.
pub(in crate::db) fn source(reason: &str) -> String {
    let of_rules: String = ALL
        .iter()
        .filter(|kind| kind.source() != STORE)
        .map(|kind| format!("WHEN '{}' THEN {} ", kind.reason().as_str(), kind.source()))
        .collect();
    format!(
        "CASE {reason} {of_rules}WHEN '{}' THEN COALESCE({}, {STORE}) ELSE COALESCE({}, {STORE}) END",
        Reason::ManualCleanup.as_str(),
        manual_request::SOURCE,
        manual_request::CONFIRMED_BY,
    )
}
