//! Facts that were observed about executions and that their columns do not contain. `jobexec.observations` stores since when each
//! has been true, so that a restarted operator and everybody else who reads the tables knows it.

mod kind;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row as _};

pub use self::kind::{Kind, RESUMED, SEEN_PAUSED};
use super::ids::id_of;
use super::staleness::Rules;
use super::{Database, DbError, StalenessPredicate};

/// Observations of one kind, as two queries that return `execution_id` (text) and `started_at` (timestamptz, the start of the
/// execution; NULL if it has none); the first one also returns `detail` (text). Both may use `$1`, the store's id in the operator's
/// tables.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The kind.
    pub kind: Kind,
    /// The executions for which it is true now: each is stored with the time of the first observation.
    pub now: String,
    /// The executions for which it still matters that it was once true; `None`: only those for which it is true now, which the
    /// query calls `seen`. Observations of all other executions are deleted.
    pub matters: Option<String>,
    /// The values that the queries may use as `$2`, `$3` and `$4`, and then must use: a text and two arrays of texts.
    pub parameters: Option<Parameters>,
}

/// The values of a statement for `$2`, `$3` and `$4`.
pub type Parameters = (String, Vec<String>, Vec<String>);

/// Synchronizes the stored observations with the current ones; writes nothing if nothing changed. An execution with another start
/// counts as another execution. Without the operator's tables nothing is stored.
///
/// # Errors
/// Returns the errors of the database; then nothing was written.
pub async fn update(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    seen: &Seen,
) -> Result<(), DbError> {
    let Rules::Table(store_id) = predicate.rules else { return Ok(()) };
    let kind = seen.kind.as_str();
    let bind = |sql| bind(sql, store_id, seen.parameters.as_ref());
    let found = format!(
        include_str!("observations/seen.sql"),
        kind = kind,
        now = seen.now,
        matters = seen.matters.as_deref().unwrap_or("SELECT * FROM seen"),
    );
    let differs = format!(
        include_str!("observations/differs.sql"),
        seen = found,
        of_this_table = predicate.mapping.of_record("$1")
    );
    let write = format!(include_str!("observations/update.sql"), seen = found, kind = kind);
    write_if(database, bind(differs), bind(write)).await
}

/// Writes only if the first statement returns that there is something to write: usually there is nothing.
///
/// # Errors
/// Returns the errors of the database; then nothing was written.
pub(super) async fn write_if(
    database: &Database,
    differs: Statement<'_>,
    write: Statement<'_>,
) -> Result<(), DbError> {
    let mut tx = database.read().await?;
    let differs: bool = differs.try_map(|row: PgRow| row.try_get(0)).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    if differs {
        let mut tx = database.write().await?;
        write.execute(&mut *tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// A statement with its parameters.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Binds the store's id in the operator's tables as `$1`, and the other parameters if the statement uses them.
pub(super) fn bind(sql: String, store_id: i64, parameters: Option<&Parameters>) -> Statement<'static> {
    let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).persistent(false);
    match parameters.cloned() {
        Some((text, first, second)) => query.bind(text).bind(first).bind(second),
        None => query,
    }
}

/// Records since when executions run without a start, in rows that nobody has written since: their time counts from then. The
/// transaction that wrote a row may have finished that run and claimed the row for the next one, which nobody sees between two
/// checks.
///
/// # Errors
/// Returns the errors of [`update`].
pub async fn update_running_without_start(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
) -> Result<(), DbError> {
    let m = predicate.mapping;
    let now = format!(
        include_str!("observations/running_without_start.sql"),
        version = m.version().unwrap_or("NULL::text"),
        id = m.id(),
        table = m.table(),
        running = m.judged(),
        started_at = m.started_column(),
    );
    update(
        database,
        predicate,
        &Seen { kind: Kind::RunningWithoutStart, now, matters: None, parameters: None },
    )
    .await
}

/// Records which executions are paused, and adds up their pauses until they are seen to run again.
///
/// # Errors
/// Returns the errors of [`update`].
pub async fn update_paused(database: &Database, predicate: &StalenessPredicate<'_>) -> Result<(), DbError> {
    let m = predicate.mapping;
    let Rules::Table(store_id) = predicate.rules else { return Ok(()) };
    if !m.pauses() {
        return Ok(());
    }
    let (kind, id, table, start) = (Kind::Paused.as_str(), m.id(), m.table(), m.started_at());
    let noted =
        format!(include_str!("observations/noted_pause.sql"), kind = kind, id = id, started_at = start);
    let rows = |which: String| {
        format!(
            "SELECT {id}::text AS execution_id, {start} AS started_at, {noted} AS detail FROM {table} AS execution WHERE {which}"
        )
    };
    let kept = format!(
        "{id} IN (SELECT {key} FROM jobexec.observations AS observation WHERE observation.store_id = $1 AND observation.kind = '{kind}')",
        key = id_of("observation.execution_id", m.id_type())
    );
    let now =
        rows(format!("{} AND {start} IS NOT NULL AND $1::bigint IS NOT NULL", m.only_handled(m.paused())));
    let matters = rows(format!("{} AND {kept}", m.alive()));
    update(database, predicate, &Seen { kind: Kind::Paused, now, matters: Some(matters), parameters: None })
        .await?;
    let changed = format!(
        include_str!("observations/changed.sql"),
        table = table,
        kind = kind,
        id = id,
        started_at = start,
        observed_id = id_of("observation.execution_id", m.id_type()),
        alive = m.alive(),
        paused = m.paused(),
    );
    let any = format!(
        "SELECT EXISTS (SELECT FROM jobexec.observations AS observation CROSS JOIN LATERAL (SELECT {changed}) AS changed)"
    );
    let write = format!(
        include_str!("observations/paused_or_resumed.sql"),
        resumed = RESUMED,
        seen_paused = SEEN_PAUSED,
        changed = changed,
    );
    let bind = |sql: String| sqlx::query(AssertSqlSafe(sql)).bind(store_id).persistent(false);
    write_if(database, bind(any), bind(write)).await
}
