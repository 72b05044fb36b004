//! The statement of one batch of executions that the operator itself retries.

use super::statement::{BATCH, UNMATCHED, note, recorded, returned, source};
use crate::api::OnStale;
use crate::api::retry::RetryMethod;
use crate::db::ending::Ending;
use crate::db::mapping::{clamp_timestamp, literal};
use crate::db::reason::Reason;
use crate::db::retry::{SHOWN_DUE, backoff, inserted, room};
use crate::db::staleness::evidence::Kind;
use crate::db::staleness::{End, IdFilter, NEXT_PARAMETER, Selection, attempts_before};
use crate::db::{Ledger, Mapping, StalenessPredicate};

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
    let Parts { ended, next_id, unmatched } = parts(predicate, at_once);
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
        own_attempt = m.attempt(),
        counted = m.counted_attempt("own_attempt", "attempt"),
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
        ended = ended,
        next_id = next_id,
        exhausted = Reason::RetriesExhausted.as_str(),
        shown_due = SHOWN_DUE,
        completed = Ending::Completed.as_str(),
        returned = returned(OnStale::Retry),
        as_failed = Ending::Failed.as_str(),
        as_retried = Ending::Retried.as_str(),
        store = NEXT_PARAMETER + 3,
        recorded = recorded(ledger),
        unmatched = unmatched,
    )
}

/// The parts of the statement that depend on how executions run again.
struct Parts {
    /// Ends the rows, as `ended`.
    ended: String,
    /// The execution with the next attempt, if it is there already.
    next_id: &'static str,
    unmatched: String,
}

fn parts(predicate: &StalenessPredicate<'_>, at_once: bool) -> Parts {
    let m = predicate.mapping;
    let fail = m.end_status(OnStale::Fail) + &error(predicate, "failed");
    let completed_at = m.completed_at();
    let failed = |name, which, copies: &str| written(m, name, &fail, which, &completed_at, copies);
    let at_once = at_once && predicate.retries.possible && !predicate.retries_one_by_one();
    match m.retry_method().filter(|_| at_once) {
        Some(RetryMethod::InPlace) => {
            let again = m.retry_assignments("planned.due_at") + &error(predicate, "retried");
            let set_back =
                written(m, "set_back", &again, &format!(" AND {}", is_free("planned.id")), NO_END, "");
            let failed = failed("failed", &format!(" AND NOT ({})", is_free("planned.id")), "");
            Parts {
                ended: format!(
                    "{}, {set_back}, {failed}, ended AS (SELECT * FROM set_back UNION ALL SELECT * FROM failed)",
                    free(predicate)
                ),
                next_id: "CASE ending WHEN 'Retried' THEN ended.id::text END",
                unmatched: String::new(),
            }
        }
        Some(RetryMethod::NewExecution) => Parts {
            ended: format!(
                "{}, {}, wanted AS MATERIALIZED (SELECT * FROM ended WHERE ending = '{}' AND {}), {}",
                free(predicate),
                failed("ended", "", &format!(", {}", m.new_row().copies)),
                Ending::Failed.as_str(),
                is_free("id"),
                inserted(m),
            ),
            // Looked up in an object: joined, each would be compared with each.
            next_id: "(SELECT jsonb_object_agg(id, next_id) FROM matched WHERE next_id IS NOT NULL) ->> ended.id::text",
            unmatched: format!(
                "UNION ALL SELECT '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{UNMATCHED}' \
                 WHERE (SELECT count(*) FROM inserted) <> (SELECT count(next_id) FROM matched)"
            ),
        },
        _ => Parts { ended: failed("ended", "", ""), next_id: "NULL::text", unmatched: String::new() },
    }
}

/// The end of a row that was set back.
const NO_END: &str = "NULL::timestamptz";

/// Returns the rows that may run again now, as the common table expression `free`.
fn free(predicate: &StalenessPredicate<'_>) -> String {
    let has_schedule = predicate.mapping.has_schedule();
    format!(
        include_str!("free.sql"),
        startable = if has_schedule { "true" } else { "due_at <= statement_timestamp()" },
        room = room(predicate, "$4"),
    )
}

/// Returns the condition that the row with this `id` may run again now. Postgres knows nothing of the number of these rows: as a join,
/// it would compare each with each. It hashes a condition that may be NULL.
fn is_free(id: &str) -> String {
    format!("({id} IN (SELECT id FROM free)) IS TRUE")
}

/// Returns the common table expression that writes the rows of `planned` for which `which` is true.
fn written(m: &Mapping, name: &str, assignments: &str, which: &str, ended_at: &str, copies: &str) -> String {
    format!(
        include_str!("written.sql"),
        name = name,
        table = m.table(),
        assignments = assignments,
        id = m.id(),
        which = which,
        running = m.running(),
        ended_at = ended_at,
        ending = m.ending(),
        copies = copies,
    )
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
