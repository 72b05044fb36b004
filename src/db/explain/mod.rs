//! The explanation why one execution is stale, or is not: its row, each rule that could govern it, the evidence, and the
//! consequence. It uses the same statement parts as the sweep.

mod considered;
mod explanation;
mod records;
mod statement;

use sqlx::{AssertSqlSafe, Row as _};

use self::considered::considered;
pub use self::explanation::{Considered, Explanation};
pub use self::records::{Record, records};
use self::statement::statement;
pub use super::staleness::evidence::Finding as Evidence;
use super::staleness::evidence::{ALL, Finding};
use super::{Database, DbError, StalenessPredicate, decode, retry};
use crate::api::Phase;

/// Explains the execution with this id (in its canonical form); `None` if there is none.
pub async fn explain(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    id: &str,
) -> Result<Option<Explanation>, DbError> {
    let m = predicate.mapping;
    let sql = statement(predicate);
    let mut tx = database.read().await?;
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql))).bind(vec![id.to_owned()]).persistent(false);
    let row = query.fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    let status: Option<String> = row.try_get("status")?;
    let reason: Option<String> = row.try_get("reason")?;
    let evidence = ALL.iter().filter_map(|kind| kind.explain(predicate, &row).transpose());
    let evidence = evidence.collect::<Result<Vec<Finding>, sqlx::Error>>()?;
    Ok(Some(Explanation {
        now: decode::at(&row, "now")?,
        id: id.to_owned(),
        job_id: row.try_get("job_id")?,
        job_type: row.try_get("job_type")?,
        number: row.try_get("number")?,
        phase: status.as_deref().map_or(Phase::Unmapped, |text| m.phase(text)),
        status: status.unwrap_or_else(|| "NULL".to_owned()),
        started_at: decode::maybe_at(&row, "started_at")?,
        created_at: decode::maybe_at(&row, "created_at")?,
        completed_at: decode::maybe_at(&row, "completed_at")?,
        checkpoint_at: match m.checkpoint_at() {
            Some(_) => decode::maybe_at(&row, "checkpoint_at")?,
            None => None,
        },
        considered: considered(&row)?,
        counts_from: decode::maybe_at(&row, "counts_from")?,
        deadline: decode::maybe_at(&row, "deadline")?,
        evidence,
        stale: reason.zip(row.try_get("stale_action")?),
        action: row.try_get("action")?,
        retry: retry::latest(database, predicate, id).await?,
    }))
}

/// Reports whether there is a row with this id (in its canonical form) that is not one of the application's executions, because it
/// does not pass `table.filter`.
pub async fn outside(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    id: &str,
) -> Result<bool, DbError> {
    let m = predicate.mapping;
    if !m.has_filter() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {} AS execution WHERE {} = $1::text::{} AND ({}) IS NOT TRUE)",
        m.table(),
        m.id(),
        m.id_type().sql(),
        m.exists()
    );
    let mut tx = database.read().await?;
    let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(id).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(found)
}
