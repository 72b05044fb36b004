//! The retries of executions that were ended. The statement that ends an execution records its retry in `jobexec.retries`; what may
//! not start at once waits there until it is due, its worker is gone and there is room in the budget. The key of the record makes a
//! second retry of the same attempt impossible.

mod latest;
mod pending;
mod request;
mod start;

pub use self::latest::{Latest, State, latest};
pub use self::pending::{Pending, pending};
pub use self::request::{NotPossible, Request, Row, Which, request};
pub use self::start::{Started, start};
use super::ending::Ending;
use super::mapping::NewRow;
use super::{Mapping, StalenessPredicate};

/// The time `due_at` for people.
pub(in crate::db) const SHOWN_DUE: &str =
    "to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// Returns the time between this `attempt` and the next one by these `settings`, in milliseconds. It varies at random.
pub(in crate::db) fn backoff(settings: &str, attempt: &str) -> String {
    let of = |setting: &str| format!("({settings} ->> '{setting}')::float8");
    format!(
        // Beyond a hundred attempts the factor makes no difference, and the power would overflow.
        "LEAST({max}, {initial} * power({factor} / 100, LEAST({attempt}, 100) - 1)) * (1 + {jitter} / 100 * (2 * random() - 1))",
        max = of("max_ms"),
        initial = of("initial_ms"),
        factor = of("factor_percent"),
        jitter = of("jitter_percent"),
    )
}

/// Returns the condition that a row still has the end that its record, the alias `retry`, says. A view may round the time.
fn same_end(retry: &str, completed_at: &str) -> String {
    let second = "interval '1 second'";
    format!(
        "CASE WHEN {retry}.ended_at IS NULL THEN {completed_at} IS NULL \
         ELSE {completed_at} BETWEEN {retry}.ended_at - {second} AND {retry}.ended_at + {second} END"
    )
}

/// Returns how many retries may start now; NULL: any number.
pub(in crate::db) fn room(predicate: &StalenessPredicate<'_>, store_id: &str) -> String {
    let Some(budget) = predicate.retries.budget else { return "NULL::bigint".to_owned() };
    format!("GREATEST({budget} - {}, 0)", last_hour(store_id))
}

/// Returns how many retries were started within the last hour, without those that people asked for.
fn last_hour(store_id: &str) -> String {
    format!(
        "(SELECT count(*) FROM jobexec.retries AS retry WHERE retry.store_id = {store_id} \
         AND retry.decided_at > statement_timestamp() - interval '1 hour' AND retry.outcome = '{}' AND NOT retry.forced)",
        Ending::Retried.as_str()
    )
}

/// Locks what the budget is counted by, so that two batches do not use the same room. Returns false if another one has it.
pub(in crate::db) async fn take_turn(
    tx: &mut sqlx::PgConnection,
    predicate: &StalenessPredicate<'_>,
    store_id: i64,
) -> Result<bool, sqlx::Error> {
    if predicate.retries.budget.is_none() {
        return Ok(true);
    }
    let lock = "SELECT true FROM jobexec.stores WHERE store_id = $1 FOR NO KEY UPDATE SKIP LOCKED";
    let locked: Option<bool> =
        sqlx::query_scalar(lock).bind(store_id).persistent(false).fetch_optional(tx).await?;
    Ok(locked.is_some())
}

/// Returns the common table expressions that insert the rows of the next attempts of `wanted`: `inserted`, and `matched` (id,
/// `next_id`; NULL: the table refused it).
pub(in crate::db) fn inserted(m: &Mapping) -> String {
    let NewRow { columns, values, created_key, numbered_key, latest, copies: _ } = m.new_row();
    format!(
        include_str!("inserted.sql"),
        latest = latest,
        table = m.table(),
        columns = columns,
        values = values,
        created_id = m.created_id(),
        created_key = created_key,
        numbered_key = numbered_key,
    )
}
