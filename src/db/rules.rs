//! Keeps `jobexec.rules` in step with the rules that are in force.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use sqlx::postgres::types::PgInterval;

use super::{Database, DbError};
use crate::policy::Rule;

/// Makes the rules of `store_id` equal to `rules`, in one transaction and writing only what differs. Rules from a source
/// in `kept` stay as they are. Returns whether anything differed.
pub async fn replace(
    database: &Database,
    store_id: i32,
    rules: &[Rule],
    kept: &[String],
) -> Result<bool, DbError> {
    let mut tx = database.write().await?;
    let present: Vec<(String, Option<PgInterval>, Option<PgInterval>, String)> = sqlx::query_as(
        "SELECT key, timeout, grace, source FROM jobexec.rules WHERE store_id = $1 AND scope = 'execution'",
    )
    .bind(store_id)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    let mut present: BTreeMap<String, Rule> = present
        .into_iter()
        .map(|(key, timeout, grace, source)| {
            (
                key.clone(),
                Rule { key, timeout: timeout.map(|i| delta(&i)), grace: grace.map(|i| delta(&i)), source },
            )
        })
        .collect();
    let wanted: Vec<&Rule> =
        rules.iter().filter(|rule| present.remove(&rule.key).as_ref() != Some(*rule)).collect();
    // What was removed above is wanted, as it was or changed; the rest is wanted no more.
    let unwanted: Vec<String> =
        present.into_values().filter(|rule| !kept.contains(&rule.source)).map(|rule| rule.key).collect();
    let differed = !(unwanted.is_empty() && wanted.is_empty());
    if !unwanted.is_empty() {
        sqlx::query(
            "DELETE FROM jobexec.rules WHERE store_id = $1 AND scope = 'execution' AND key = ANY ($2)",
        )
        .bind(store_id)
        .bind(unwanted)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    }
    if !wanted.is_empty() {
        sqlx::query(
            "INSERT INTO jobexec.rules (store_id, scope, key, timeout, grace, source)
             SELECT $1, 'execution', * FROM unnest($2::text[], $3::interval[], $4::interval[], $5::text[])
             ON CONFLICT (store_id, scope, key)
             DO UPDATE SET timeout = excluded.timeout, grace = excluded.grace, source = excluded.source",
        )
        .bind(store_id)
        .bind(wanted.iter().map(|r| r.key.clone()).collect::<Vec<_>>())
        .bind(wanted.iter().map(|r| r.timeout).collect::<Vec<_>>())
        .bind(wanted.iter().map(|r| r.grace).collect::<Vec<_>>())
        .bind(wanted.iter().map(|r| r.source.clone()).collect::<Vec<_>>())
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(differed)
}

/// The operator writes rules in microseconds only, so an interval has no months or days to account for.
fn delta(interval: &PgInterval) -> TimeDelta {
    TimeDelta::microseconds(interval.microseconds)
}
