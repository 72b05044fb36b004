//! Rules as SQL has them: in `jobexec.rules`, or in a parameter where the operator's tables are not there.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::types::PgInterval;

use super::asked::Asked;
use super::decode::List;
use super::own::{self, Fault};
use super::{Database, DbError, Ledger, extend};
use crate::api::OnStale;
use crate::rules::{Base, Compiled, Rule, Said, Scope, Timeout, Warn};

/// The columns of a rule.
pub(super) const COLUMNS: &str = "scope, key, timeout, timeout_rank, timeout_source, extend_by, extend_source, \
     grace, grace_source, heartbeat, heartbeat_source, on_stale, on_stale_source, \
     warn_after, warn_percent, warn_source, overruled, earliest, fixed";

/// Their types, for reading them from JSON.
pub(super) const TYPES: &str = "scope text, key text, timeout interval, timeout_rank smallint, timeout_source text, \
     extend_by interval, extend_source text, grace interval, grace_source text, \
     heartbeat interval, heartbeat_source text, on_stale text, on_stale_source text, \
     warn_after interval, warn_percent integer, warn_source text, overruled text[], earliest interval, fixed boolean";

/// The condition that no time of a rule is negative: one that is was not written by an operator, and does nothing.
pub(super) const SANE: &str =
    "LEAST(timeout, extend_by, grace, heartbeat, warn_after, earliest) >= interval '0'";

/// Tries of [`replace`].
const TRIES: u32 = 3;

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
    on_stale: Option<&'static str>,
    on_stale_source: Option<&'a str>,
    warn_after: Option<String>,
    warn_percent: Option<i32>,
    warn_source: Option<&'a str>,
    overruled: &'a [String],
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
    /// Of the base: what a person asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<&'a Asked>,
}

impl<'a> Row<'a> {
    fn of(rule: &'a Rule) -> Self {
        let Rule { scope, key, timeout, extend_by, grace, heartbeat, on_stale, warn, .. } = rule;
        let Rule { earliest, fixed, overruled, by, .. } = rule;
        let mut row = Self {
            scope: scope.as_str(),
            key,
            overruled,
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
        if let Some(Said { value, source }) = on_stale {
            (row.on_stale, row.on_stale_source) = (Some(value.as_str()), Some(source.as_str()));
        }
        row.warn(warn.as_ref());
        row
    }

    fn of_base(base: &'a Base) -> Self {
        let Base { timeout, grace, heartbeat, on_stale, warn, overruled, store: _ } = base;
        let mut row = Self {
            scope: "store",
            timeout: Some(interval(timeout.value)),
            timeout_rank: Some(40),
            timeout_source: Some(&timeout.source),
            on_stale: Some(on_stale.value.as_str()),
            on_stale_source: Some(&on_stale.source),
            overruled,
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
pub(super) fn base_parameter(base: &Base, watched: DateTime<Utc>, asked: Option<&Asked>) -> String {
    json(&Row { store: Some(&base.store), watched: Some(watched), asked, ..Row::of_base(base) })
}

/// The part of [`replaced`] that notes whose deadline was moved.
const MOVED: &str = "moved AS (
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source, actor, note)
             SELECT statement_timestamp(), $1, d.key, 'DeadlineMoved', 'SpecChanged',
                    COALESCE(d.extend_source, d.timeout_source), n.actor,
                    concat_ws(', ', 'timeout ' || d.timeout::text, 'extended by ' || d.extend_by::text)
             FROM differing AS d JOIN new AS n USING (scope, key) LEFT JOIN old AS o USING (scope, key)
             WHERE scope = 'execution' AND (o.timeout, o.extend_by) IS DISTINCT FROM (d.timeout, d.extend_by)
             UNION ALL
             SELECT statement_timestamp(), $1, key, 'DeadlineMoved', 'SpecRemoved',
                    COALESCE(extend_source, timeout_source), NULL, NULL FROM unwanted WHERE scope = 'execution'),";

/// Makes the rules of `store_id`, and the [`mapping`](super::stores) by which they are applied, equal to what is in force, in one
/// statement that writes only what differs, and notes in `jobexec.events` whose deadline a person has moved. Rules from a source in
/// `kept` stay as they are, and so does what a person extended without an object. Returns whether anything differed, and why whose deadline was moved is not noted,
/// where the operator's tables take the rules and not the record.
///
/// # Errors
/// Those of the database; then the rules are as they were.
pub async fn replace(
    database: &Database,
    store_id: i64,
    in_force: &Compiled,
    kept: &[String],
    mapping: &serde_json::Value,
) -> Result<(bool, Option<Fault>), DbError> {
    let ledger = Ledger::Tables { store_id, outbox: false };
    own::recorded(database, &ledger, |ledger| {
        let notes = matches!(ledger, Ledger::Tables { .. });
        replaced(database, store_id, in_force, kept, mapping, notes)
    })
    .await
}

/// The same, with a note of it or without.
async fn replaced(
    database: &Database,
    store_id: i64,
    in_force: &Compiled,
    kept: &[String],
    mapping: &serde_json::Value,
    notes: bool,
) -> Result<bool, DbError> {
    let rows: Vec<Row<'_>> =
        in_force.rules.iter().map(Row::of).chain([Row::of_base(&in_force.base)]).collect();
    // A person may have extended without an object since this statement began: that stays too.
    let excluded = |column: &str| match column {
        "extend_by" | "extend_source" => format!(
            "CASE WHEN r.extend_source LIKE $4 AND COALESCE(excluded.extend_source LIKE $4, true)
                  THEN r.{column} ELSE excluded.{column} END"
        ),
        _ => format!("excluded.{column}"),
    };
    let excluded: Vec<String> = COLUMNS.split(", ").map(excluded).collect();
    // What a person extended without an object stays, also beside what an object says, unless that is an extension too.
    let merge = |column: &str| match column {
        "scope" | "key" => column.to_owned(),
        "extend_by" | "extend_source" => {
            format!("CASE WHEN s.extend_by IS NULL THEN h.{column} ELSE s.{column} END AS {column}")
        }
        _ => format!("s.{column}"),
    };
    let merged: Vec<String> = COLUMNS.split(", ").map(merge).collect();
    let own = ["scope", "key", "extend_by", "extend_source", "overruled", "earliest", "fixed"];
    let nothing: Vec<String> = TYPES
        .split(", ")
        .filter_map(|column| column.split_once(' '))
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, type_)| format!("NULL::{type_} AS {name}"))
        .collect();
    let sql = format!(
        "WITH said AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($2::jsonb) AS n ({TYPES}, actor text)),
         old AS MATERIALIZED (SELECT * FROM jobexec.rules WHERE store_id = $1),
         byhand AS MATERIALIZED (SELECT scope, key, extend_by, extend_source FROM old WHERE extend_source LIKE $4),
         new AS MATERIALIZED (
             SELECT {merged}, s.actor FROM said AS s LEFT JOIN byhand AS h USING (scope, key)
             UNION ALL
             SELECT {COLUMNS}, NULL FROM (
                 SELECT h.scope, h.key, h.extend_by, h.extend_source, '{{}}'::text[] AS overruled,
                        interval '0' AS earliest, false AS fixed, {nothing}
                 FROM byhand AS h WHERE NOT EXISTS (SELECT FROM said AS s WHERE s.scope = h.scope AND s.key = h.key)
             ) AS h),
         differing AS MATERIALIZED (SELECT {COLUMNS} FROM new EXCEPT SELECT {COLUMNS} FROM old),
         unwanted AS MATERIALIZED (
             SELECT * FROM old AS o
             WHERE NOT EXISTS (SELECT FROM new AS n WHERE n.scope = o.scope AND n.key = o.key)
               AND (COALESCE(timeout_source = ANY ($3), false) OR COALESCE(extend_source = ANY ($3), false)
                    OR COALESCE(grace_source = ANY ($3), false) OR COALESCE(heartbeat_source = ANY ($3), false)
                    OR COALESCE(on_stale_source = ANY ($3), false) OR COALESCE(warn_source = ANY ($3), false))
                   IS FALSE),
         {moved}
         gone AS (
             DELETE FROM jobexec.rules AS r USING unwanted AS u
             WHERE r.store_id = $1 AND r.scope = u.scope AND r.key = u.key AND (r.extend_source LIKE $4) IS NOT TRUE
             RETURNING r.key),
         put AS (
             INSERT INTO jobexec.rules AS r (store_id, {COLUMNS}) SELECT $1, {COLUMNS} FROM differing
             ON CONFLICT (store_id, scope, key) DO UPDATE SET ({COLUMNS}) = ROW ({excluded}) RETURNING r.key),
         mapped AS (
             UPDATE jobexec.stores SET mapping = $5::jsonb
             WHERE store_id = $1 AND mapping IS DISTINCT FROM $5::jsonb RETURNING store_id)
         SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM put) + (SELECT count(*) FROM mapped) > 0,
                (SELECT count(*) FROM gone) < (SELECT count(*) FROM unwanted)",
        moved = if notes { MOVED } else { "" },
        excluded = excluded.join(", "),
        merged = merged.join(", "),
        nothing = nothing.join(", "),
    );
    let (rows, mapping, mut differed) = (json(&rows), json(mapping), false);
    // A rule that was to go, and that a person has extended since the statement began, is seen as it is by another try.
    for _ in 0..TRIES {
        let mut tx = database.write().await?;
        let (changed, left): (bool, bool) = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(store_id)
            .bind(&rows)
            .bind(kept)
            .bind(format!("{}%", extend::SOURCE))
            .bind(&mapping)
            .persistent(false)
            .fetch_one(&mut *tx)
            .await?;
        if changed {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        differed |= changed;
        if !left {
            break;
        }
    }
    Ok(differed)
}

/// A rule as the table has it.
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
    warn_after: Option<PgInterval>,
    warn_percent: Option<i32>,
    warn_source: Option<String>,
    overruled: Option<List<String>>,
    earliest: Option<PgInterval>,
    fixed: Option<bool>,
}

/// What is in force for `store_id` according to the table, for the store of this source; `None`: an operator has not
/// looked after it yet.
pub async fn load(database: &Database, store_id: i64, store: &str) -> Result<Option<Compiled>, DbError> {
    let (base, rules) = stored(database, store_id, store).await?;
    Ok(base.map(|base| Compiled { base, rules, conflicts: BTreeMap::new() }))
}

/// The base and the rules that the table has for `store_id`. Without an operator there is no base.
pub async fn stored(
    database: &Database,
    store_id: i64,
    store: &str,
) -> Result<(Option<Base>, Vec<Rule>), DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM jobexec.rules WHERE store_id = $1 AND {SANE} ORDER BY scope, key");
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
            // Nothing of the operator's has another scope.
            _ => continue,
        };
        rules.push(row.into_rule(scope));
    }
    rules.sort_by(|a, b| (a.scope, &a.key).cmp(&(b.scope, &b.key)));
    Ok((base, rules))
}

impl Stored {
    fn into_rule(self, scope: Scope) -> Rule {
        let (warn, on_stale) = (self.warn(), self.on_stale());
        let timeout = self.timeout.zip(self.timeout_rank).zip(self.timeout_source);
        Rule {
            scope,
            key: self.key,
            timeout: timeout.map(|((value, rank), source)| Timeout { value: delta(&value), rank, source }),
            extend_by: both(self.extend_by, self.extend_source),
            grace: both(self.grace, self.grace_source),
            heartbeat: both(self.heartbeat, self.heartbeat_source),
            on_stale,
            warn,
            // Without them it is looked too early, which ends nothing: that is for the statement to decide.
            earliest: self.earliest.as_ref().map_or(TimeDelta::zero(), delta),
            fixed: self.fixed.unwrap_or_default(),
            overruled: self.overruled.map_or_else(Vec::new, |list| list.0),
            by: None,
        }
    }

    fn into_base(self, store: &str) -> Option<Base> {
        let (warn, on_stale) = (self.warn()?, self.on_stale()?);
        Some(Base {
            timeout: both(self.timeout, self.timeout_source)?,
            grace: both(self.grace, self.grace_source)?,
            heartbeat: both(self.heartbeat, self.heartbeat_source),
            on_stale,
            warn,
            overruled: self.overruled.map_or_else(Vec::new, |list| list.0),
            store: store.to_owned(),
        })
    }

    fn warn(&self) -> Option<Said<Warn>> {
        let after = self.warn_after.as_ref().map(|after| Warn::After(delta(after)));
        // What no spec can say is none of the operator's.
        let percent = self.warn_percent.filter(|percent| (0..=100).contains(percent));
        let warn = after.or(percent.map(Warn::Percent))?;
        Some(Said::new(warn, self.warn_source.clone()?))
    }

    fn on_stale(&self) -> Option<Said<OnStale>> {
        let all = [OnStale::Fail, OnStale::Cancel, OnStale::AlertOnly];
        let how = all.into_iter().find(|how| self.on_stale.as_deref() == Some(how.as_str()))?;
        Some(Said::new(how, self.on_stale_source.clone()?))
    }
}

fn both(value: Option<PgInterval>, source: Option<String>) -> Option<Said<TimeDelta>> {
    Some(Said::new(delta(&value?), source?))
}

/// The longest and the shortest length that a rule can have, whatever the table says: more than a spec can say, and so little that it can
/// be added to any instant that is told.
const FARTHEST: i64 = 1_000_000 * 3_600 * 1_000_000;

/// The operator writes rules in hours and less. An interval of somebody else may have days and months, which count as Postgres
/// compares them, and may be longer than any time.
pub(super) fn delta(interval: &PgInterval) -> TimeDelta {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(interval.months) * 30 + i64::from(interval.days);
    let micros = days.saturating_mul(DAY).saturating_add(interval.microseconds);
    TimeDelta::microseconds(micros.clamp(-FARTHEST, FARTHEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_somebody_else_can_be_added_to_any_instant() {
        let of = |months, days, microseconds| delta(&PgInterval { months, days, microseconds });
        assert_eq!(of(0, 0, 90_000_000), TimeDelta::seconds(90));
        assert_eq!(of(1, 1, 1), TimeDelta::days(31) + TimeDelta::microseconds(1));
        assert_eq!(of(i32::MAX, i32::MAX, i64::MAX), TimeDelta::hours(1_000_000));
        assert_eq!(of(i32::MIN, i32::MIN, i64::MIN), TimeDelta::hours(-1_000_000));
    }

    #[test]
    fn intervals_keep_their_length() {
        assert_eq!(interval(TimeDelta::milliseconds(90_061_007)), "25:01:01.007000");
        assert_eq!(interval(TimeDelta::hours(799_992)), "799992:00:00.000000");
    }
}
