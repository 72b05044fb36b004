//! Keeps the time that people granted: the deadline of an extended run is recorded before the rules change, and when the run is
//! extended without an object. No later rule moves the deadline before that.

use chrono::Utc;
use sqlx::AssertSqlSafe;

use super::connect::Tx;
use super::staleness::Rules;
use super::{Database, DbError, Mapping, StalenessPredicate, rules};
use crate::rules::RuleSet;

/// Records the promised deadlines by the rules that the table has for `store_id`, for the store of this source. Call it before the
/// rules are replaced.
///
/// # Errors
/// Returns the errors of the database. Then the rules must stay as they are.
pub async fn keep(database: &Database, m: &Mapping, store_id: i64, store: &str) -> Result<(), DbError> {
    let any = "SELECT EXISTS (SELECT FROM jobexec.rules WHERE store_id = $1 AND scope = 'execution'
                              AND (extend_by IS NOT NULL OR promised_start IS NOT NULL))";
    let mut tx = database.read().await?;
    let any: bool = sqlx::query_scalar(any).bind(store_id).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    // Without a base, no operator has judged by these rules.
    let effective_rules = if any { rules::load(database, store_id, store).await? } else { None };
    let Some(effective_rules) = effective_rules else { return Ok(()) };
    let mut tx = database.write().await?;
    if note(&mut tx, m, &effective_rules, store_id).await? {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(())
}

/// Records the promised deadlines by the base of `effective_rules` and the rules that the transaction sees. Returns whether
/// anything was recorded.
pub(super) async fn note(
    tx: &mut Tx,
    mapping: &Mapping,
    effective_rules: &RuleSet,
    store_id: i64,
) -> Result<bool, sqlx::Error> {
    let predicate = StalenessPredicate::new(mapping, effective_rules, Rules::Table(store_id), Utc::now())
        .with_evidence(false);
    let sql = predicate.promise();
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false);
    Ok(query.execute(&mut **tx).await?.rows_affected() > 0)
}
