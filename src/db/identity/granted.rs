//! The extensions that people granted in records left behind. One that only this store can have written counts without a person's
//! decision; an execution with any other is not ended until a person decides.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Left, is_trusted};
use crate::db::Mapping;
use crate::db::granted::{SOURCE, granted_in};
use crate::db::ids::id_of;
use crate::db::ledger::OWNER;
use crate::db::observations::Kind;

/// The record of another table, last known by the present name of this table, in which people granted something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) struct Granting {
    /// Its number.
    pub(in crate::db) store_id: i64,
    /// True if it counts for this store without a person's decision.
    trusted: bool,
    /// True if a person extended an execution in it that has no extension in the table's own record.
    pub(in crate::db) open: bool,
}

/// Returns all such records, for the store with this UID.
pub(in crate::db) async fn granting(
    tx: &mut PgConnection,
    mapping: &Mapping,
    store_id: Option<i64>,
    uid: &str,
) -> Result<Vec<Granting>, sqlx::Error> {
    let (schema, name) = mapping.relation();
    let sql = format!(
        include_str!("granting.sql"),
        table_owner = OWNER,
        granted = granted_in("rule", "$4"),
        extended_elsewhere = extended_elsewhere("$4", "$3"),
    );
    let rows: Vec<(i64, bool, bool, Option<String>, bool)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(schema)
        .bind(name)
        .bind(store_id)
        .bind(format!("{SOURCE}%"))
        .persistent(false)
        .fetch_all(tx)
        .await?;
    let granting = |(store_id, dumped, same_owner, its, open): (i64, bool, bool, Option<String>, bool)| {
        Granting { store_id, trusted: is_trusted(dumped, same_owner, its.as_deref(), uid), open }
    };
    Ok(rows.into_iter().map(granting).collect())
}

/// Returns the condition that a person extended an execution by the `rule` of another record, and that the table's own record has
/// no extension of it. `source` is the pattern for the sources of such rules, and `own` is the number of the table's own record.
pub(in crate::db) fn extended_elsewhere(source: &str, own: &str) -> String {
    format!(
        "rule.scope = 'execution' AND rule.extend_source LIKE {source}
         AND NOT EXISTS (SELECT FROM jobexec.rules AS own WHERE own.store_id = {own} AND own.scope = 'execution' AND own.key = rule.key
                           AND own.extend_by IS NOT NULL)"
    )
}

/// Returns the records from which the store with this UID has to [`keep`] something. Executions may move into a table that was
/// claimed before, so each claim checks the records in which people granted something. `first`: the table was never claimed by this
/// name, so that pauses are kept as well, which any record may contain.
pub(in crate::db) fn to_keep_from(left: &[Left], granting: &[Granting], uid: &str, first: bool) -> Vec<i64> {
    let granted = granting.iter().filter(|granting| granting.trusted).map(|granting| granting.store_id);
    let seen = left.iter().filter(|left| first && left.is_trusted(uid)).map(|left| left.store_id);
    let mut records: Vec<i64> = granted.chain(seen).collect();
    records.sort_unstable();
    records.dedup();
    records
}

/// Makes two things in the records `from` count for executions that are alive: what people granted, and observed pauses. A new oid
/// of a table is no reason to end one of its executions. What people have granted to an execution since then stays. Any other
/// observation could end an execution, so a person has to adopt it.
pub(in crate::db) async fn keep(
    tx: &mut PgConnection,
    mapping: &Mapping,
    store_id: i64,
    from: &[i64],
) -> Result<(), sqlx::Error> {
    if from.is_empty() {
        return Ok(());
    }
    let alive = format!(
        "EXISTS (SELECT FROM {} AS execution WHERE {} = {} AND {})",
        mapping.table(),
        mapping.id(),
        id_of("other.key", mapping.id_type()),
        mapping.unfinished_anywhere(),
    );
    let needed = format!(include_str!("still_needed.sql"), alive = alive);
    let paused = format!("other.kind = '{}' AND {alive}", Kind::Paused.as_str());
    for sql in [copy_granted(&needed, "rule.extend_by IS NULL"), copy_seen(&paused)] {
        execute(tx, sql, store_id, from).await?;
    }
    Ok(())
}

/// Adds to `store_id` everything that people granted and that was observed in the records `from`, with the longer of two
/// extensions, and the timeouts that were computed from their history.
pub(in crate::db) async fn copy(
    tx: &mut PgConnection,
    store_id: i64,
    from: &[i64],
) -> Result<(), sqlx::Error> {
    let figures = include_str!("copy_figures.sql").to_owned();
    let longer =
        "(rule.extend_by IS NULL OR rule.extend_source LIKE $3 AND excluded.extend_by > rule.extend_by)";
    for sql in [copy_granted("true", longer), copy_seen("true"), figures] {
        execute(tx, sql, store_id, from).await?;
    }
    Ok(())
}

async fn execute(tx: &mut PgConnection, sql: String, store_id: i64, from: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql))
        .bind(store_id)
        .bind(from)
        .bind(format!("{SOURCE}%"))
        .persistent(false)
        .execute(tx)
        .await?;
    Ok(())
}

/// Returns the statement that adds what people granted to the rules of the record `$1`. A rule that already exists for the
/// execution keeps its settings. It gets an extension if the condition `lacks` holds for the `rule`, and a promise to a later
/// run, or a longer one to the same run. A promise counts only if it was made for no more than the extension; a rule with neither
/// an extension nor a promise gets it too, because an object may still bring the extension.
fn copy_granted(wanted: &str, lacks: &str) -> String {
    let extends = format!("(COALESCE(excluded.extend_source LIKE $3, false) AND {lacks})");
    format!(
        include_str!("copy_granted.sql"),
        granted = granted_in("other", "$3"),
        wanted = wanted,
        promises = format!(include_str!("promises.sql"), extends = extends),
        extends = extends,
    )
}

/// Returns the statement that adds observations. If an execution was observed in both records, the longer pause counts.
fn copy_seen(wanted: &str) -> String {
    format!(include_str!("copy_seen.sql"), wanted = wanted)
}

#[cfg(test)]
mod tests {
    use super::super::tests::left;
    use super::*;

    #[test]
    fn each_claim_keeps_what_was_granted_and_the_first_one_pauses_too() {
        let records = [left(Some("a"), None, false)];
        let granting = |store_id, trusted| Granting { store_id, trusted, open: true };
        let found = [granting(7, true), granting(8, false), granting(3, true)];
        assert_eq!(to_keep_from(&records, &found, "a", true), [3, 7]);
        assert_eq!(to_keep_from(&records, &[], "a", true), [3]);
        assert_eq!(to_keep_from(&records, &found[..2], "a", false), [7]);
        assert!(to_keep_from(&records, &[], "b", true).is_empty());
    }
}
