//! The record of a table of executions, which is found by its oid ([`crate::db::identity`]). Times in the future are treated as
//! missing.

use super::owner::OWNER;
use super::store_identity::{Holder, StoreIdentity};
use crate::db::Mapping;
use crate::db::identity::{self, Left};
use crate::db::own::Fault;

/// The time, in seconds, for which a claim counts that its operator no longer confirms.
const CLAIM_EXPIRY_SECONDS: f64 = 600.0;

/// A claim that was not confirmed for this long, in seconds, was not held without a gap: two confirmations may be missed.
pub(super) const GAP_SECONDS: f64 = 150.0;

/// SQL for the oid of the table whose schema is `$1` and whose name is `$2`.
const TABLE: &str = "(SELECT class.oid FROM pg_catalog.pg_class AS class
      JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
      WHERE namespace.nspname = $1 AND class.relname = $2)";

/// Returns the condition for the row of that table in `jobexec.stores`.
pub(super) fn of_the_table() -> String {
    format!("registry = 'jobexec.stores'::regclass AND table_oid = {TABLE}")
}

/// Returns the records of other tables that were last known by the name of this one.
pub(in crate::db) async fn left_behind(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
    store_id: Option<i64>,
) -> Result<Vec<Left>, sqlx::Error> {
    identity::left(tx, mapping, store_id, &seen_within("$4"), GAP_SECONDS).await
}

/// The record of a table.
pub(in crate::db) struct Registered {
    pub(in crate::db) store_id: i64,
    /// The store that claims it.
    pub(in crate::db) holder: Option<Holder>,
    /// The last recorded name of the table, if it differs from the present one.
    pub(in crate::db) was: Option<String>,
    /// True if a store has ever claimed the table: the command line also registers tables.
    pub(in crate::db) watched: bool,
}

/// A row of [`registered`]: the id, the UID, the namespace, the name, whether the claim counts, whether it is silent, the last
/// recorded name if it differs, and whether a store has ever claimed it.
type Row = (i64, Option<String>, Option<String>, Option<String>, bool, bool, Option<String>, bool);

/// Returns the record of the table, and locks its row. `None`: the table has no record.
pub(in crate::db) async fn registered(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
) -> Result<Option<Registered>, sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let sql = format!(
        include_str!("registered.sql"),
        counts = seen_within("$3"),
        confirmed = seen_within("$4"),
        of_the_table = of_the_table(),
    );
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(table_schema)
        .bind(table_name)
        .bind(CLAIM_EXPIRY_SECONDS)
        .bind(GAP_SECONDS)
        .persistent(false)
        .fetch_optional(tx)
        .await?;
    let Some((store_id, uid, namespace, name, counts, silent, was, watched)) = row else { return Ok(None) };
    let holder = match (uid, namespace, name) {
        (Some(uid), Some(namespace), Some(name)) => Some(Holder {
            claimant: StoreIdentity { uid, predecessor: None, namespace, name },
            counts,
            silent,
        }),
        _ => None,
    };
    Ok(Some(Registered { store_id, holder, was, watched }))
}

/// Returns the condition that a claim was confirmed within the last `seconds` (a parameter), and not in the future, which is
/// impossible. It uses the clock: a transaction that waited for the row sees a claim that was confirmed after its own statement
/// began.
pub(super) fn seen_within(seconds: &str) -> String {
    format!(
        "COALESCE(seen_at > statement_timestamp() - make_interval(secs => {seconds}) AND seen_at <= clock_timestamp(), false)"
    )
}

/// SQL for the time since which the table has been observed without a gap, if that time is possible: finite, and not in the future.
pub(super) const WATCHED_SINCE: &str =
    "CASE WHEN isfinite(watched_since) AND watched_since <= clock_timestamp() THEN watched_since END";

/// The result of registering a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) enum Entered {
    /// The table was not known.
    New,
    /// The table was known.
    Known,
    /// This login may not see the records of the table.
    Hidden,
}

/// Registers the table, if it is not known. The right to UPDATE any column of the table gives access to its records.
pub(in crate::db) async fn enter(
    tx: &mut sqlx::PgConnection,
    mapping: &Mapping,
) -> Result<Entered, sqlx::Error> {
    let (table_schema, table_name) = mapping.relation();
    let may = format!("SELECT COALESCE(has_any_column_privilege({TABLE}, 'UPDATE'), false)");
    let may: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(may))
        .bind(table_schema)
        .bind(table_name)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    if !may {
        return Ok(Entered::Hidden);
    }
    let sql = format!(
        include_str!("register.sql"),
        table_oid = TABLE,
        table_owner = OWNER,
        of_the_table = of_the_table(),
    );
    // If the number is already taken, for example because the sequence was not restored, a later one is free.
    for numbers in [1, NUMBERS] {
        let entered = sqlx::query(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(table_schema)
            .bind(table_name)
            .bind(numbers)
            .persistent(false)
            .execute(&mut *tx)
            .await?;
        let there = format!("SELECT EXISTS (SELECT FROM jobexec.stores WHERE {})", of_the_table());
        let there =
            sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(there)).bind(table_schema).bind(table_name);
        if entered.rows_affected() > 0 {
            return Ok(Entered::New);
        }
        if there.persistent(false).fetch_one(&mut *tx).await? {
            break;
        }
    }
    Ok(Entered::Known)
}

/// The count of numbers to try for a table of executions if the first one is taken: more than there are such tables.
const NUMBERS: i32 = 10_000;

/// Returns the reason why a table has no number.
pub(super) fn unnumbered() -> String {
    Fault::behind("stores", "the table of executions got no number").to_string()
}

/// The reason why nothing is recorded for a login that may not end executions.
pub(in crate::db) const HIDDEN: &str = "what is recorded of a table is seen and written by those who may UPDATE it, and this login may not update \
     any of its columns; grant what `jobexec schema --role` prints";
