//! Rules as SQL has them: in `jobexec.rules`, or in a parameter where the operator's tables are not there.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use super::{Database, DbError};
use crate::api::OnTimeout;
use crate::policy::{Base, Compiled, Rule, Said, Scope, Timeout, Warn};

/// The columns of a rule.
pub(super) const COLUMNS: &str = "scope, key, timeout, timeout_rank, timeout_source, extend_by, extend_source, \
     grace, grace_source, heartbeat, heartbeat_source, on_timeout, on_timeout_source, \
     warn_after, warn_percent, warn_source, earliest, fixed";

/// Their types, for reading them from JSON.
pub(super) const TYPES: &str = "scope text, key text, timeout interval, timeout_rank smallint, timeout_source text, \
     extend_by interval, extend_source text, grace interval, grace_source text, \
     heartbeat interval, heartbeat_source text, on_timeout text, on_timeout_source text, \
     warn_after interval, warn_percent integer, warn_source text, earliest interval, fixed boolean";

/// A rule, by the names of its columns.
#[derive(Default, Serialize)]
struct Row<'a> {
    scope: &'static str,
    key: &'a str,
    timeout: Option<String>,
    timeout_rank: Option<i16>,
    timeout_source: Option<&'a str>,
    extend_by: Option<String>,
    extend_source: Option<&'a str>,
    grace: Option<String>,
    grace_source: Option<&'a str>,
    heartbeat: Option<String>,
    heartbeat_source: Option<&'a str>,
    on_timeout: Option<&'static str>,
    on_timeout_source: Option<&'a str>,
    warn_after: Option<String>,
    warn_percent: Option<i32>,
    warn_source: Option<&'a str>,
    earliest: String,
    fixed: bool,
    /// Of a rule that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    /// Of the base: the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a str>,
    /// Of the base: since when evidence of life counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    watched: Option<DateTime<Utc>>,
}

impl<'a> Row<'a> {
    fn of(rule: &'a Rule) -> Self {
        // Taken apart in full, so that a new field cannot be forgotten.
        let Rule { scope, key, timeout, extend_by, grace, heartbeat, on_timeout, warn, earliest, fixed, by } =
            rule;
        let mut row = Self {
            scope: scope.as_str(),
            key,
            earliest: interval(*earliest),
            fixed: *fixed,
            actor: by.as_deref(),
            ..Self::default()
        };
        if let Some(Timeout { value, rank, source }) = timeout {
            (row.timeout, row.timeout_rank, row.timeout_source) =
                (Some(interval(*value)), Some(*rank), Some(source.as_str()));
        }
        (row.extend_by, row.extend_source) = said(extend_by.as_ref());
        (row.grace, row.grace_source) = said(grace.as_ref());
        (row.heartbeat, row.heartbeat_source) = said(heartbeat.as_ref());
        if let Some(Said { value, source }) = on_timeout {
            (row.on_timeout, row.on_timeout_source) = (Some(value.as_str()), Some(source.as_str()));
        }
        row.warn(warn.as_ref());
        row
    }

    fn of_base(base: &'a Base) -> Self {
        let Base { timeout, grace, heartbeat, on_timeout, warn, store: _ } = base;
        let mut row = Self {
            scope: "store",
            timeout: Some(interval(timeout.value)),
            timeout_rank: Some(40),
            timeout_source: Some(&timeout.source),
            on_timeout: Some(on_timeout.value.as_str()),
            on_timeout_source: Some(&on_timeout.source),
            earliest: interval(base.total()),
            fixed: true,
            ..Self::default()
        };
        (row.grace, row.grace_source) = said(Some(grace));
        (row.heartbeat, row.heartbeat_source) = said(heartbeat.as_ref());
        row.warn(Some(warn));
        row
    }

    fn warn(&mut self, warn: Option<&'a Said<Warn>>) {
        let Some(Said { value, source }) = warn else { return };
        self.warn_source = Some(source);
        match value {
            Warn::After(after) => self.warn_after = Some(interval(*after)),
            Warn::Percent(percent) => self.warn_percent = Some(*percent),
        }
    }
}

fn said(field: Option<&Said<TimeDelta>>) -> (Option<String>, Option<&str>) {
    field.map_or((None, None), |said| (Some(interval(said.value)), Some(said.source.as_str())))
}

/// As Postgres reads an interval of any length: hours may have many digits, other units only as many as fit 32 bits.
pub(super) fn interval(length: TimeDelta) -> String {
    let micros = length.num_microseconds().unwrap_or(i64::MAX);
    let (hours, rest) = (micros / 3_600_000_000, micros % 3_600_000_000);
    let (minutes, rest) = (rest / 60_000_000, rest % 60_000_000);
    format!("{hours}:{minutes:02}:{:02}.{:06}", rest / 1_000_000, rest % 1_000_000)
}

fn json(rows: &impl Serialize) -> String {
    // Texts, numbers and null only: there is nothing in it that JSON cannot have.
    serde_json::to_string(rows).unwrap_or_default()
}

/// The rules as a parameter.
pub(super) fn parameter(rules: &[Rule]) -> String {
    json(&rules.iter().map(Row::of).collect::<Vec<_>>())
}

/// The base as a parameter.
pub(super) fn base_parameter(base: &Base, watched: DateTime<Utc>) -> String {
    json(&Row { store: Some(&base.store), watched: Some(watched), ..Row::of_base(base) })
}

/// Makes the rules of `store_id` equal to what is in force, in one statement that writes only what differs, and notes
/// in `jobexec.events` whose deadline a person has moved. Rules from a source in `kept` stay as they are. Returns
/// whether anything differed.
pub async fn replace(
    database: &Database,
    store_id: i32,
    in_force: &Compiled,
    kept: &[String],
) -> Result<bool, DbError> {
    let rows: Vec<Row<'_>> =
        in_force.rules.iter().map(Row::of).chain([Row::of_base(&in_force.base)]).collect();
    let excluded: Vec<String> = COLUMNS.split(", ").map(|column| format!("excluded.{column}")).collect();
    let sql = format!(
        "WITH new AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($2::jsonb) AS n ({TYPES}, actor text)),
         old AS MATERIALIZED (SELECT * FROM jobexec.rules WHERE store_id = $1),
         differing AS MATERIALIZED (SELECT {COLUMNS} FROM new EXCEPT SELECT {COLUMNS} FROM old),
         unwanted AS MATERIALIZED (
             SELECT * FROM old AS o
             WHERE NOT EXISTS (SELECT FROM new AS n WHERE n.scope = o.scope AND n.key = o.key)
               AND (COALESCE(timeout_source = ANY ($3), false) OR COALESCE(extend_source = ANY ($3), false)
                    OR COALESCE(grace_source = ANY ($3), false) OR COALESCE(heartbeat_source = ANY ($3), false)
                    OR COALESCE(on_timeout_source = ANY ($3), false) OR COALESCE(warn_source = ANY ($3), false))
                   IS FALSE),
         moved AS (
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source, actor, note)
             SELECT statement_timestamp(), $1, d.key, 'DeadlineMoved', 'SpecChanged',
                    COALESCE(d.extend_source, d.timeout_source), n.actor,
                    concat_ws(', ', 'timeout ' || d.timeout::text, 'extended by ' || d.extend_by::text)
             FROM differing AS d JOIN new AS n USING (scope, key) LEFT JOIN old AS o USING (scope, key)
             WHERE scope = 'execution' AND (o.timeout, o.extend_by) IS DISTINCT FROM (d.timeout, d.extend_by)
             UNION ALL
             SELECT statement_timestamp(), $1, key, 'DeadlineMoved', 'SpecRemoved',
                    COALESCE(extend_source, timeout_source), NULL, NULL FROM unwanted WHERE scope = 'execution'),
         gone AS (
             DELETE FROM jobexec.rules AS r USING unwanted AS u
             WHERE r.store_id = $1 AND r.scope = u.scope AND r.key = u.key RETURNING r.key),
         put AS (
             INSERT INTO jobexec.rules (store_id, {COLUMNS}) SELECT $1, {COLUMNS} FROM differing
             ON CONFLICT (store_id, scope, key) DO UPDATE SET ({COLUMNS}) = ROW ({excluded}) RETURNING key)
         SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put) > 0",
        excluded = excluded.join(", "),
    );
    let mut tx = database.write().await?;
    let differed = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(store_id)
        .bind(json(&rows))
        .bind(kept)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if differed {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(differed)
}

/// What is in force by the database, over `base`.
pub async fn load(database: &Database, store_id: i32, mut base: Base) -> Result<Compiled, DbError> {
    let mut tx = database.read().await?;
    let sql = format!("SELECT {COLUMNS} FROM jobexec.rules WHERE store_id = $1 ORDER BY scope, key");
    let rows =
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(store_id).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut rules = Vec::new();
    for row in rows {
        let scope = match row.try_get("scope")? {
            "execution" => Some(Scope::Execution),
            "job" => Some(Scope::Job),
            "type" => Some(Scope::Type),
            _ => None,
        };
        let rule = read(&row, scope.unwrap_or(Scope::Type))?;
        if scope.is_some() {
            rules.push(rule);
            continue;
        }
        base.timeout = rule.timeout.map_or(base.timeout, |t| Said::new(t.value, t.source));
        base.grace = rule.grace.unwrap_or(base.grace);
        base.heartbeat = rule.heartbeat;
        base.on_timeout = rule.on_timeout.unwrap_or(base.on_timeout);
        base.warn = rule.warn.unwrap_or(base.warn);
    }
    Ok(Compiled { base, rules, conflicts: std::collections::BTreeMap::new() })
}

fn read(row: &PgRow, scope: Scope) -> Result<Rule, sqlx::Error> {
    let length = |column: &str| -> Result<Option<TimeDelta>, sqlx::Error> {
        // They were written with hours as the greatest unit.
        let interval: Option<PgInterval> = row.try_get(column)?;
        Ok(interval.map(|interval| TimeDelta::microseconds(interval.microseconds)))
    };
    let said = |value: &str, source: &str| -> Result<Option<Said<TimeDelta>>, sqlx::Error> {
        let source: Option<String> = row.try_get(source)?;
        Ok(length(value)?.zip(source).map(|(value, source)| Said::new(value, source)))
    };
    let rank: Option<i16> = row.try_get("timeout_rank")?;
    let on_timeout: Option<&str> = row.try_get("on_timeout")?;
    let on_timeout = on_timeout.map(|text| match text {
        "Cancel" => OnTimeout::Cancel,
        "AlertOnly" => OnTimeout::AlertOnly,
        _ => OnTimeout::Fail,
    });
    let percent: Option<i32> = row.try_get("warn_percent")?;
    let warn = length("warn_after")?.map(Warn::After).or(percent.map(Warn::Percent));
    Ok(Rule {
        timeout: said("timeout", "timeout_source")?.map(|Said { value, source }| Timeout {
            value,
            rank: rank.unwrap_or_default(),
            source,
        }),
        extend_by: said("extend_by", "extend_source")?,
        grace: said("grace", "grace_source")?,
        heartbeat: said("heartbeat", "heartbeat_source")?,
        on_timeout: on_timeout
            .zip(row.try_get("on_timeout_source")?)
            .map(|(value, source): (_, String)| Said::new(value, source)),
        warn: warn
            .zip(row.try_get("warn_source")?)
            .map(|(value, source): (_, String)| Said::new(value, source)),
        ..Rule::new(scope, row.try_get("key")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_keep_their_length() {
        assert_eq!(interval(TimeDelta::milliseconds(90_061_007)), "25:01:01.007000");
        assert_eq!(interval(TimeDelta::hours(799_992)), "799992:00:00.000000");
    }
}
