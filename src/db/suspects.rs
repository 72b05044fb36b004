//! Evidence that must persist for a while before it counts. `jobexec.suspects` stores since when it has been observed, so that a
//! restarted operator and everybody else knows it. Uncertain evidence in it never ends an execution by itself.

use super::observations::{self, Parameters};
use super::staleness::Rules;
use super::{Database, DbError, StalenessPredicate};

/// The executions that are suspects for one reason now.
#[derive(Clone, Debug)]
pub(in crate::db) struct Found {
    pub(in crate::db) reason: &'static str,
    /// A query that returns `execution_id` (text), `began_at` (timestamptz), certain (boolean) and detail (text), and may use
    /// `$1`, the store's id in the operator's tables.
    pub(in crate::db) query: String,
    /// True if a suspect with another detail is another suspect, for whom the time starts again.
    pub(in crate::db) restarts_with_detail: bool,
    /// The values that the query may use as `$2`, `$3` and `$4`, and then must use: a text and two arrays of texts.
    pub(in crate::db) parameters: Option<Parameters>,
}

/// A query that finds no suspects.
pub(in crate::db) const NOBODY: &str = "SELECT NULL::text AS execution_id, NULL::timestamptz AS began_at, NULL::boolean AS certain, \
     NULL::text AS detail WHERE false";

impl Found {
    /// Returns the suspects that `query` finds.
    pub(in crate::db) fn new(reason: &'static str, query: String) -> Self {
        Self { reason, query, restarts_with_detail: false, parameters: None }
    }
}

/// Synchronizes the stored suspects for a reason with those that are found now; writes nothing if nothing changed. Without the
/// operator's tables nothing is stored.
///
/// # Errors
/// Returns the errors of the database; then nothing was written.
pub(in crate::db) async fn replace(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    found: &Found,
) -> Result<(), DbError> {
    let Rules::Table(store_id) = predicate.rules else { return Ok(()) };
    let Found { reason, query, restarts_with_detail, parameters } = found;
    let bind = |sql| observations::bind(sql, store_id, parameters.as_ref());
    let found = format!(include_str!("suspects/found.sql"), query = query, reason = reason);
    let differs = format!(include_str!("suspects/differs.sql"), found = found);
    let same_detail =
        if *restarts_with_detail { " AND suspect.detail IS NOT DISTINCT FROM excluded.detail" } else { "" };
    let write = format!(
        include_str!("suspects/replace.sql"),
        found = found,
        reason = reason,
        same_detail = same_detail
    );
    observations::write_if(database, bind(differs), bind(write)).await
}
