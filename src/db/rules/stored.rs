//! Reading of the rules in `jobexec.rules`.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use sqlx::postgres::types::PgInterval;

use super::settings::{ARE_SANE, NAMES};
use crate::api::{Limit, OnStale};
use crate::db::decode::List;
use crate::db::intervals::delta;
use crate::db::{Database, DbError};
use crate::rules::{Retry, Rule, RuleSet, Scope, Sourced, StoreDefaults, Timeout, Warn};

/// A rule in the form of its table. A limit that has a source and is NULL is `Never`.
#[derive(sqlx::FromRow)]
struct Stored {
    scope: String,
    key: String,
    timeout: Option<PgInterval>,
    timeout_rank: Option<i16>,
    timeout_source: Option<String>,
    extend_by: Option<PgInterval>,
    extend_source: Option<String>,
    grace: Option<PgInterval>,
    grace_source: Option<String>,
    heartbeat: Option<PgInterval>,
    heartbeat_source: Option<String>,
    on_stale: Option<String>,
    on_stale_source: Option<String>,
    retry: Option<serde_json::Value>,
    retry_source: Option<String>,
    warn_after: Option<PgInterval>,
    warn_percent: Option<i32>,
    warn_source: Option<String>,
    overruled: Option<List<String>>,
    earliest: Option<PgInterval>,
    fixed: Option<bool>,
}

/// Returns the rules in effect for `store_id` by the table, for the store of this source; `None`: no operator has managed it yet.
pub async fn load(database: &Database, store_id: i64, store: &str) -> Result<Option<RuleSet>, DbError> {
    let (base, rules) = stored(database, store_id, store).await?;
    Ok(base.map(|base| RuleSet { base, rules, conflicts: BTreeMap::new() }))
}

/// Returns the base and the rules in the table for `store_id`. If no operator has managed it, there is no base.
pub async fn stored(
    database: &Database,
    store_id: i64,
    store: &str,
) -> Result<(Option<StoreDefaults>, Vec<Rule>), DbError> {
    let sql = format!(
        "SELECT {} FROM jobexec.rules WHERE store_id = $1 AND {} ORDER BY scope, key",
        *NAMES, *ARE_SANE
    );
    let mut tx = database.read().await?;
    let rows: Vec<Stored> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(store_id).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut base = None;
    let mut rules = Vec::new();
    for row in rows {
        let scope = match row.scope.as_str() {
            "execution" => Scope::Execution,
            "job" => Scope::Job,
            "type" => Scope::Type,
            "store" => {
                base = row.into_base(store);
                continue;
            }
            // The operator writes no other scope.
            _ => continue,
        };
        rules.push(row.into_rule(scope));
    }
    rules.sort_by(|a, b| (a.scope, &a.key).cmp(&(b.scope, &b.key)));
    Ok((base, rules))
}

impl Stored {
    fn into_rule(self, scope: Scope) -> Rule {
        let (warn, on_stale, retry) = (self.warn(), self.on_stale(), self.retry());
        let timeout = limit(self.timeout.as_ref(), self.timeout_source).zip(self.timeout_rank);
        Rule {
            scope,
            key: self.key,
            timeout: timeout.map(|(Sourced { value, source }, rank)| Timeout { value, rank, source }),
            extend_by: both(self.extend_by, self.extend_source),
            grace: both(self.grace, self.grace_source),
            heartbeat: limit(self.heartbeat.as_ref(), self.heartbeat_source),
            on_stale,
            retry,
            warn,
            // If it is missing, the check comes too early, which ends nothing: the statement decides.
            earliest: self.earliest.as_ref().map_or(TimeDelta::zero(), delta),
            fixed: self.fixed.unwrap_or_default(),
            overruled: self.overruled.map_or_else(Vec::new, |list| list.0),
            by: None,
        }
    }

    fn into_base(self, store: &str) -> Option<StoreDefaults> {
        let (warn, on_stale, retry) = (self.warn()?, self.on_stale()?, self.retry());
        Some(StoreDefaults {
            timeout: limit(self.timeout.as_ref(), self.timeout_source)?,
            grace: both(self.grace, self.grace_source)?,
            heartbeat: limit(self.heartbeat.as_ref(), self.heartbeat_source),
            on_stale,
            retry,
            warn,
            overruled: self.overruled.map_or_else(Vec::new, |list| list.0),
            store: store.to_owned(),
        })
    }

    fn warn(&self) -> Option<Sourced<Warn>> {
        let warn = match (&self.warn_after, self.warn_percent) {
            (Some(after), _) => Warn::After(delta(after)),
            (None, Some(percent)) if (0..=100).contains(&percent) => Warn::Percent(percent),
            // The operator does not write a value that no spec can contain.
            (None, Some(_)) => return None,
            (None, None) => Warn::Never,
        };
        Some(Sourced::new(warn, self.warn_source.clone()?))
    }

    /// A value that no operator wrote sets nothing.
    fn retry(&self) -> Option<Sourced<Retry>> {
        let retry = serde_json::from_value(self.retry.clone()?).ok()?;
        Some(Sourced::new(retry, self.retry_source.clone()?))
    }

    fn on_stale(&self) -> Option<Sourced<OnStale>> {
        Some(Sourced::new(OnStale::parse(self.on_stale.as_deref()?)?, self.on_stale_source.clone()?))
    }
}

fn limit(value: Option<&PgInterval>, source: Option<String>) -> Option<Sourced<Limit<TimeDelta>>> {
    Some(Sourced::new(Limit::of(value.map(delta)), source?))
}

fn both(value: Option<PgInterval>, source: Option<String>) -> Option<Sourced<TimeDelta>> {
    Some(Sourced::new(delta(&value?), source?))
}
