//! Writing of the rules in effect to `jobexec.rules`.

use super::columns::{Row, json};
use super::settings::{NAMES, TYPED, columns};
use crate::db::granted::SOURCE;
use crate::db::own::{self, Fault};
use crate::db::{Database, DbError, Ledger};
use crate::rules::RuleSet;

/// The maximum number of tries of [`replace`].
const TRIES: u32 = 3;

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
    effective_rules: &RuleSet,
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
    effective_rules: &RuleSet,
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
        include_str!("replace.sql"),
        columns = *NAMES,
        typed_columns = *TYPED,
        merged_columns = merged(),
        unset_columns = nothing(),
        new_values = excluded(),
        moved = if notes { include_str!("moved.sql") } else { "" },
    )
}

/// Returns the columns that replace the existing ones. An extension that a person has made without an object since this statement
/// began stays as well.
fn excluded() -> String {
    let column = |column: &str| match column {
        "extend_by" | "extend_source" => format!(
            "CASE WHEN rule.extend_source LIKE $4 AND COALESCE(excluded.extend_source LIKE $4, true)
                  THEN rule.{column} ELSE excluded.{column} END"
        ),
        _ => format!("excluded.{column}"),
    };
    columns().into_iter().map(|(name, _)| column(name)).collect::<Vec<_>>().join(", ")
}

/// Returns the merged columns of a rule `in_effect` and the rule of a person (`by_hand`). An extension that a person made without an
/// object stays next to the settings of an object, unless these contain an extension too.
fn merged() -> String {
    let column = |column: &str| match column {
        "scope" | "key" => column.to_owned(),
        "extend_by" | "extend_source" => {
            format!(
                "CASE WHEN in_effect.extend_by IS NULL THEN by_hand.{column} ELSE in_effect.{column} END AS {column}"
            )
        }
        _ => format!("in_effect.{column}"),
    };
    columns().into_iter().map(|(name, _)| column(name)).collect::<Vec<_>>().join(", ")
}

/// Returns the columns that a rule of a person does not set.
fn nothing() -> String {
    let own = ["scope", "key", "extend_by", "extend_source", "overruled", "earliest", "fixed"];
    let columns: Vec<String> = columns()
        .into_iter()
        .filter(|(name, _)| !own.contains(name))
        .map(|(name, type_)| format!("NULL::{type_} AS {name}"))
        .collect();
    columns.join(", ")
}
