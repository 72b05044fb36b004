//! The statement of one batch of executions that the operator itself retries.

use super::statement::{BATCH, UNMATCHED, announced, note, recorded, source};
use crate::api::OnStale;
use crate::api::retry::RetryMethod;
use crate::db::connect::LOGIN_PATH;
use crate::db::ending::Ending;
use crate::db::mapping::{clamp_timestamp, literal};
use crate::db::reason::Reason;
use crate::db::retry::{SHOWN_DUE, backoff, inserted, room};
use crate::db::staleness::evidence::Kind;
use crate::db::staleness::{End, IdFilter, NEXT_PARAMETER, Selection, attempts_before};
use crate::db::{Ledger, StalenessPredicate};

/// Returns the statement. `at_once`: executions may run again now; otherwise all retries wait.
pub(super) fn statement(
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    end: End,
    among: IdFilter,
    at_once: bool,
) -> String {
    let predicate = &predicate.with_action(OnStale::Retry);
    let m = predicate.mapping;
    let kinds: Vec<&dyn Kind> = predicate.kinds().collect();
    let Parts { ended, next_id, numbers, unmatched } = parts(predicate, at_once);
    let life = predicate.life();
    format!(
        include_str!("retry_batch.sql"),
        predicate = predicate.ctes(Selection::Lock(BATCH, end, among)),
        id = m.id(),
        job_id = m.job_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        deadline = predicate.deadline(),
        source = source("stale.reason"),
        note = note(predicate, &kinds, "stale.reason", &format!("{}::text", m.id()), &m.began_at()),
        settings = predicate.retry_or_default("verdict.retry"),
        recorded_attempt = attempts_before(&m.id(), "$4"),
        attempt = predicate.attempt(),
        alive_at = life.alive_at,
        silence = life.silence,
        workload_gone = predicate.workload_gone("stale.reason"),
        checked = predicate.heartbeats_checked(),
        table = m.table(),
        rules_of_row = predicate.joined(),
        beats = life.joins,
        lock = m.lock(),
        backoff = backoff("settings", "counted"),
        explanations = explanations(&kinds),
        at_once = ended,
        next_id = next_id,
        is_execution = if numbers {
            format!("COALESCE(' is execution ' || left({NEXT_ID}, 200) || ', and', '')")
        } else {
            "''".to_owned()
        },
        exhausted = Reason::RetriesExhausted.as_str(),
        shown_due = SHOWN_DUE,
        completed = Ending::Completed.as_str(),
        as_failed = Ending::Failed.as_str(),
        as_retried = Ending::Retried.as_str(),
        store = NEXT_PARAMETER + 3,
        recorded = recorded(ledger),
        login_path = LOGIN_PATH,
        action = announced(OnStale::Retry),
        unmatched = unmatched,
    )
}

/// The execution with the next attempt of `ended`, looked up in an object: joined, each would be compared with each.
const NEXT_ID: &str =
    "(SELECT jsonb_object_agg(id, next_id) FROM matched WHERE next_id IS NOT NULL) ->> ended.id::text";

/// The parts of the statement that depend on how executions run again.
struct Parts {
    /// Ends the rows, as `ended`.
    ended: String,
    /// The execution with the next attempt, if it is there already.
    next_id: &'static str,
    /// True if that is another execution.
    numbers: bool,
    unmatched: String,
}

fn parts(predicate: &StalenessPredicate<'_>, at_once: bool) -> Parts {
    let m = predicate.mapping;
    let fail = m.fail_assignments() + &error(predicate, "failed");
    let (table, id, running, ending) = (m.table(), m.id(), m.running(), m.ending());
    let (room, completed_at) = (room(predicate, "$4"), m.completed_at());
    let startable = if m.has_schedule() { "true" } else { "due_at <= statement_timestamp()" };
    let at_once = at_once && predicate.retries.possible && !predicate.retries_one_by_one();
    match m.retry_method().filter(|_| at_once) {
        Some(RetryMethod::InPlace) => Parts {
            ended: format!(
                include_str!("in_place.sql"),
                startable = startable,
                room = room,
                table = table,
                id = id,
                running = running,
                ending = ending,
                fail = fail,
                completed_at = completed_at,
                set_back = m.retry_assignments("planned.due_at") + &error(predicate, "retried"),
            ),
            next_id: "CASE ending WHEN 'Retried' THEN ended.id::text END",
            numbers: false,
            unmatched: String::new(),
        },
        Some(RetryMethod::NewExecution) => Parts {
            ended: format!(
                include_str!("new_execution.sql"),
                startable = startable,
                room = room,
                table = table,
                id = id,
                running = running,
                ending = ending,
                fail = fail,
                completed_at = completed_at,
                copies = m.new_row().copies,
                as_failed = Ending::Failed.as_str(),
                inserted = inserted(m),
            ),
            next_id: NEXT_ID,
            numbers: true,
            unmatched: format!(
                "UNION ALL SELECT '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{UNMATCHED}' \
                 WHERE (SELECT count(*) FROM inserted) <> (SELECT count(next_id) FROM matched)"
            ),
        },
        _ => later(format!(
            include_str!("later.sql"),
            table = table,
            id = id,
            running = running,
            ending = ending,
            fail = fail,
            completed_at = completed_at,
        )),
    }
}

/// Returns the parts of a statement whose retries wait.
const fn later(ended: String) -> Parts {
    Parts { ended, next_id: "NULL::text", numbers: false, unmatched: String::new() }
}

/// Returns the assignment of the error, with a comma before it, if that is mapped.
fn error(predicate: &StalenessPredicate<'_>, done: &str) -> String {
    let by = predicate.asked.and_then(|asked| asked.actor.as_deref()).unwrap_or("the jobexec operator");
    let text = format!(
        "CASE WHEN planned.exhausted THEN '{}: attempt ' || planned.counted || ', ' ELSE planned.reason || ': ' END \
         || planned.explanation || {}",
        Reason::RetriesExhausted.as_str(),
        literal(&format!(", {done} by {by}")),
    );
    predicate.mapping.error_assignment(&text).map_or(String::new(), |set| format!(", {set}"))
}

/// Returns what is wrong with executions that are stale for these reasons.
fn explanations(kinds: &[&dyn Kind]) -> String {
    let of = |reason: Reason| format!("WHEN '{}' THEN {}", reason.as_str(), literal(reason.explanation()));
    kinds.iter().map(|kind| of(kind.reason())).collect::<Vec<_>>().join(" ")
}
