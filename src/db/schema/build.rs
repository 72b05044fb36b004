//! Creates the operator's tables, or adds what they lack, in one transaction.

use sqlx::migrate::{MigrateError, Migration, MigrationType};
use sqlx::{AssertSqlSafe, PgConnection, SqlStr};

use super::super::extras::REFUSALS;
use super::super::mapping::literal;
use super::super::{Database, DbError};
use super::error::SchemaError;
use super::migrations::MIGRATIONS;
use super::{grants, trust};

/// Creates the schema only if it is missing. `CREATE SCHEMA IF NOT EXISTS` always requires the right to create schemas, which the
/// owner of an existing schema may lack.
pub(super) const SCHEMA: &str =
    "DO $$ BEGIN IF to_regnamespace('jobexec') IS NULL THEN CREATE SCHEMA jobexec; END IF; END $$;";

/// Creates the table that records which migrations were applied.
pub(super) const NOTES: &str = include_str!("migrations_table.sql");

/// The advisory lock that is held to create or extend the operator's tables.
const TURN: i64 = i64::from_be_bytes(*b"jobexec\0");

/// Creates what does not exist. Runs every migration again, even one that is recorded as applied, so that a table that somebody
/// dropped is created again. Leaves a schema that cannot be trusted unchanged.
///
/// Everything runs in one transaction, whose end releases the lock. sqlx itself locks and unlocks the session: behind `PgBouncer`
/// in transaction mode the two statements may run in different sessions, and then the lock stays forever.
pub(super) async fn build(
    database: &Database,
    owner: Option<&str>,
    statement_timeout: &str,
) -> Result<(), SchemaError> {
    let mut tx = database.write().await.map_err(DbError::from)?;
    run(
        &mut tx,
        &format!(
            "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = {}; \
             SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock({TURN})",
            literal(statement_timeout)
        ),
    )
    .await?;
    // Create a missing schema before the check: otherwise somebody else could create it between the check and this statement.
    run(&mut tx, SCHEMA).await?;
    if let Some(refusal) = trust::read(&mut tx, owner).await?.refusal(true) {
        return Err(SchemaError::Refused(refusal.why));
    }
    run(&mut tx, NOTES).await?;
    let applied: Vec<(i64, bool, Vec<u8>)> =
        sqlx::query_as("SELECT version, success, checksum FROM jobexec._sqlx_migrations")
            .persistent(false)
            .fetch_all(&mut *tx)
            .await
            .map_err(DbError::from)?;
    for migration in migrations() {
        let version = migration.version;
        match applied.iter().find(|(applied, ..)| *applied == version) {
            Some((_, false, _)) => return Err(MigrateError::Dirty(version).into()),
            Some((.., checksum)) if **checksum != *migration.checksum => {
                return Err(MigrateError::VersionMismatch(version).into());
            }
            // Migrations that are newer than this program, for example after a rollback, do not matter: migrations only add.
            _ => {}
        }
        run(&mut tx, migration.sql.as_str()).await?;
        run(&mut tx, &noted(&migration)).await?;
    }
    run(&mut tx, &handed_over()).await?;
    Ok(tx.commit().await.map_err(DbError::from)?)
}

async fn run(tx: &mut PgConnection, sql: &str) -> Result<(), DbError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

/// Returns the statement that records a migration as applied.
fn noted(migration: &Migration) -> String {
    let checksum: String = migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "INSERT INTO jobexec._sqlx_migrations (version, description, installed_on, success, checksum, execution_time)\n\
         VALUES ({version}, {description}, now(), true, '\\x{checksum}', 0) ON CONFLICT DO NOTHING;",
        version = migration.version,
        description = literal(&migration.description),
    )
}

/// Returns the same steps as part of a script, in one transaction.
pub(super) fn script(owner: Option<&str>) -> String {
    let mut out = format!(
        "BEGIN;\n{SCHEMA}\n\n-- Nothing that somebody else made is adopted.\n{}\n\n{NOTES}\n",
        trust::guard(owner)
    );
    for migration in migrations() {
        out.push_str(&format!("{}\n{}\n\n", migration.sql.as_str(), noted(&migration)));
    }
    out.push_str(&format!("{}\n\nCOMMIT;\n", handed_over()));
    out
}

/// Returns the statement that gives everything this login created to the owner of the schema, if that is another role of which the
/// login is a member. Otherwise each member of such a role would own objects that the other members then distrust. The names of the
/// functions and the prefix of the sequences are those of [`super::super::extras`].
pub(super) fn handed_over() -> String {
    let sql = format!(
        include_str!("hand_over.sql"),
        tables = literal(&format!("{{{}}}", grants::tables().join(","))),
        sequences = REFUSALS,
    );
    sql.trim_end().to_owned()
}

fn migrations() -> Vec<Migration> {
    MIGRATIONS
        .into_iter()
        .map(|(version, description, sql)| {
            Migration::new(
                version,
                description.into(),
                MigrationType::Simple,
                SqlStr::from_static(sql),
                false,
            )
        })
        .collect()
}
