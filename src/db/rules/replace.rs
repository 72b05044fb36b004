//! Writing of the rules in effect to `jobexec.rules`.

use super::columns::{COLUMNS, Row, TYPES, json};
use crate::db::granted::SOURCE;
use crate::db::own::{self, Fault};
use crate::db::{Database, DbError, Ledger};
use crate::rules::Compiled;

/// The maximum number of tries of [`replace`].
const TRIES: u32 = 3;

/// The part of the statement in [`replaced`] that records which deadlines were moved.
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

/// Makes the rules of `store_id`, and the [`mapping`](crate::db::stores) by which they are applied, equal to the rules in effect.
/// One statement writes only the differences, and records in `jobexec.events` which executions got another deadline from a person.
/// Rules from a source in `kept` stay as they are, and so do extensions that a person made without an object. Returns whether
/// anything differed; and, if the operator's tables accept the rules but not the record, why moved deadlines are not recorded.
///
/// # Errors
/// Those of the database; then the rules are as they were.
pub async fn replace(
    database: &Database,
    store_id: i64,
    effective_rules: &Compiled,
    kept: &[String],
    mapping: &serde_json::Value,
) -> Result<(bool, Option<Fault>), DbError> {
    let ledger = Ledger::Tables { store_id, outbox: false };
    own::recorded(database, &ledger, |ledger| {
        let notes = matches!(ledger, Ledger::Tables { .. });
        replaced(database, store_id, effective_rules, kept, mapping, notes)
    })
    .await
}

/// Does the work of [`replace`], with or without a record of moved deadlines.
async fn replaced(
    database: &Database,
    store_id: i64,
    effective_rules: &Compiled,
    kept: &[String],
    mapping: &serde_json::Value,
    notes: bool,
) -> Result<bool, DbError> {
    let rows: Vec<Row<'_>> =
        effective_rules.rules.iter().map(Row::of).chain([Row::of_base(&effective_rules.base)]).collect();
    let sql = statement(notes);
    let (rows, mapping, mut differed) = (json(&rows), json(mapping), false);
    // If a person has extended a rule that was to be deleted since the statement began, another try sees that rule as it is.
    for _ in 0..TRIES {
        let mut tx = database.write().await?;
        let (changed, left): (bool, bool) = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(store_id)
            .bind(&rows)
            .bind(kept)
            .bind(format!("{SOURCE}%"))
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

/// Returns the statement that writes the differences, with or without a record of moved deadlines.
fn statement(notes: bool) -> String {
    format!(
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
        excluded = excluded(),
        merged = merged(),
        nothing = nothing(),
    )
}

/// Returns the columns that replace the existing ones. An extension that a person has made without an object since this statement
/// began stays as well.
fn excluded() -> String {
    let column = |column: &str| match column {
        "extend_by" | "extend_source" => format!(
            "CASE WHEN r.extend_source LIKE $4 AND COALESCE(excluded.extend_source LIKE $4, true)
                  THEN r.{column} ELSE excluded.{column} END"
        ),
        _ => format!("excluded.{column}"),
    };
    COLUMNS.split(", ").map(column).collect::<Vec<_>>().join(", ")
}

/// Returns the merged columns of a rule `s` in effect and a rule `h` of a person. An extension that a person made without an object
/// stays next to the settings of an object, unless these contain an extension too.
fn merged() -> String {
    let column = |column: &str| match column {
        "scope" | "key" => column.to_owned(),
        "extend_by" | "extend_source" => {
            format!("CASE WHEN s.extend_by IS NULL THEN h.{column} ELSE s.{column} END AS {column}")
        }
        _ => format!("s.{column}"),
    };
    COLUMNS.split(", ").map(column).collect::<Vec<_>>().join(", ")
}

/// Returns the columns that a rule of a person does not set.
fn nothing() -> String {
    let own = ["scope", "key", "extend_by", "extend_source", "overruled", "earliest", "fixed"];
    let columns: Vec<String> = TYPES
        .split(", ")
        .filter_map(|column| column.split_once(' '))
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, type_)| format!("NULL::{type_} AS {name}"))
        .collect();
    columns.join(", ")
}
