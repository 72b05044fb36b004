//! The operator's own schema `jobexec`, the index on the application's table and the grants of the operator's role:
//! printed for an administrator, or applied.

use sqlx::migrate::{MigrateError, Migration, MigrationType};
use sqlx::{AssertSqlSafe, SqlStr};

use super::extras::Extra;
use super::mapping::{condition, literal, qualified, quote};
use super::validate::{job_columns, quoted, read_columns, write_columns};
use super::{Database, DbError, Layout};
use crate::api::Table;

/// Version, description and SQL of every migration, in order.
const MIGRATIONS: [(i64, &str, &str); 4] = [
    (1, "jobexec", include_str!("migrations/0001_jobexec.sql")),
    (2, "samples", include_str!("migrations/0002_samples.sql")),
    (3, "notifications", include_str!("migrations/0003_notifications.sql")),
    (4, "sweeps", include_str!("migrations/0004_sweeps.sql")),
];

/// The migration that recording needs: what later ones add, people can be without.
const NEEDED: i64 = 1;

/// The schema, and where it is noted which migrations were applied, as sqlx does it. Who owns the schema need not have the
/// right to create another one.
const BEGINNING: &str =
    "DO $$ BEGIN IF to_regnamespace('jobexec') IS NULL THEN CREATE SCHEMA jobexec; END IF; END $$;
CREATE TABLE IF NOT EXISTS jobexec._sqlx_migrations (
    version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),
    success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL
);";

/// The advisory lock of who creates or extends the operator's tables.
const TURN: i64 = i64::from_be_bytes(*b"jobexec\0");

/// How long a statement of an operator that creates or extends them may take: an index takes a second for a million records,
/// and nothing is recorded meanwhile. A person has any time.
const STATEMENT_TIMEOUT: &str = "1min";

/// The operator's tables and what its role may do with them.
const GRANTS: [(&str, &str); 7] = [
    ("_sqlx_migrations", "SELECT"),
    ("stores", "SELECT, INSERT, UPDATE"),
    ("rules", "SELECT, INSERT, UPDATE, DELETE"),
    ("figures", "SELECT, INSERT, UPDATE, DELETE"),
    ("suspects", "SELECT, INSERT, DELETE"),
    ("sweeps", "SELECT, INSERT, UPDATE"),
    ("events", "SELECT, INSERT"),
];

/// The same for what recording does not need.
const EXTRA_GRANTS: [(&str, &str); 5] = [
    ("samples", "SELECT, INSERT, DELETE"),
    ("events", "DELETE"),
    ("sweeps", "DELETE"),
    ("outbox", "SELECT, INSERT, DELETE"),
    ("messages", "SELECT, INSERT, UPDATE, DELETE"),
];

/// Why the schema could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A migration.
    #[error("cannot bring the schema jobexec up to date: {0}")]
    Migrate(#[from] MigrateError),
    /// Rows are there that the constraint forbids.
    #[error(
        "the constraint holds for what is written from now on, but the table has rows that violate it: {0}. Repair them (the condition Consistent of the ExecutionStore counts them), then run this again"
    )]
    Violated(String),
    /// The role to grant to is not there.
    #[error("there is no role {0}: create it first, for example with CREATE ROLE {quoted} LOGIN PASSWORD '…'", quoted = quote(.0))]
    NoRole(String),
}

/// Makes sure that the operator's tables are there, creating or extending them if the login may. Returns why they
/// are not there, if so.
pub async fn ensure(database: &Database) -> Result<Option<String>, DbError> {
    let hint = "have an administrator run `jobexec schema --apply --role` with this login's name";
    match state(database).await? {
        State::Ready => Ok(None),
        State::Behind { may_create } => {
            let lacks = "the schema jobexec is behind: nobody is notified, no health over time is kept, or indexes are lacking";
            if !may_create {
                tracing::info!("{lacks}; {hint}");
            } else if let Err(error) = build(database, STATEMENT_TIMEOUT).await {
                tracing::warn!(%error, "{lacks}; {hint}");
            }
            Ok(None)
        }
        State::Missing { may_create: true } => match build(database, STATEMENT_TIMEOUT).await {
            Ok(()) => Ok(None),
            Err(error) => Ok(Some(format!("the schema jobexec could not be created ({error}); {hint}"))),
        },
        State::Missing { may_create: false } => Ok(Some(format!(
            "the schema jobexec is missing or too old, and this login may not create it; {hint}"
        ))),
        State::Forbidden(what) => Ok(Some(format!("this login may not use {what}; {hint}"))),
    }
}

/// Why the operator's tables cannot be used by this login as they are, if so. Creates nothing.
pub async fn lacking(database: &Database) -> Result<Option<String>, DbError> {
    Ok(match state(database).await? {
        State::Ready | State::Behind { .. } => None,
        State::Missing { .. } => {
            Some("the schema jobexec is missing or too old: run `jobexec schema --apply`".to_owned())
        }
        State::Forbidden(what) => {
            Some(format!("this login may not use {what}: run `jobexec schema --apply --role` with its name"))
        }
    })
}

enum State {
    Ready,
    /// What is needed is there, what is good to have is not.
    Behind {
        may_create: bool,
    },
    Missing {
        may_create: bool,
    },
    Forbidden(String),
}

/// Reads only the catalog until the rights are known, since asking a table without the right is an error.
async fn state(database: &Database) -> Result<State, DbError> {
    let mut tx = database.read().await?;
    let (exists, usage, may_create): (bool, bool, bool) = sqlx::query_as(
        "SELECT n.oid IS NOT NULL, COALESCE(has_schema_privilege(n.oid, 'USAGE'), false),
                CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
                     ELSE pg_has_role(n.nspowner, 'USAGE') END
         FROM (SELECT) AS one LEFT JOIN pg_namespace AS n ON n.nspname = 'jobexec'",
    )
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    if !exists {
        return Ok(State::Missing { may_create });
    }
    if !usage {
        return Ok(State::Forbidden("the schema jobexec".to_owned()));
    }
    let all_held: Vec<Option<bool>> = sqlx::query_scalar(
        "SELECT (SELECT bool_and(has_table_privilege(c.oid, p)) FROM unnest(string_to_array(g.rights, ', ')) AS p)
         FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS g(name, rights, n)
         LEFT JOIN pg_class AS c ON c.relnamespace = 'jobexec'::regnamespace AND c.relname = g.name ORDER BY g.n",
    )
    .bind(GRANTS.map(|(table, _)| table))
    .bind(GRANTS.map(|(_, rights)| rights))
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    for ((table, rights), held) in GRANTS.iter().zip(all_held) {
        match held {
            None => return Ok(State::Missing { may_create }),
            Some(false) => return Ok(State::Forbidden(format!("jobexec.{table} ({rights})"))),
            Some(true) => {}
        }
    }
    let (version, whole): (Option<i64>, bool) = sqlx::query_as(
        "SELECT (SELECT max(version) FROM jobexec._sqlx_migrations WHERE success),
                (SELECT bool_and(to_regclass('jobexec.' || t) IS NOT NULL) FROM unnest($1::text[]) AS t)",
    )
    .bind(EXTRA_GRANTS.map(|(table, _)| table))
    .persistent(false)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    let newest = MIGRATIONS.last().map(|(version, ..)| *version);
    Ok(match version {
        version if version < Some(NEEDED) => State::Missing { may_create },
        version if version >= newest && whole => State::Ready,
        _ => State::Behind { may_create },
    })
}

/// Creates the operator's tables. Each migration is repeated, also where it is noted as applied: a table that somebody
/// dropped is made again.
///
/// All in one transaction, whose end gives the lock back. sqlx's own way is to lock and unlock the session: behind
/// `PgBouncer` in transaction mode the one may meet another session than the other, and then the lock stays for ever.
async fn build(database: &Database, statement_timeout: &str) -> Result<(), SchemaError> {
    let mut tx = database.write().await.map_err(DbError::from)?;
    run(
        &mut tx,
        &format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL client_min_messages = warning; \
             SELECT pg_advisory_xact_lock({TURN})",
            literal(statement_timeout)
        ),
    )
    .await?;
    run(&mut tx, BEGINNING).await?;
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
            // What is ahead of us after a rollback is no matter: migrations are additive.
            _ => {}
        }
        run(&mut tx, migration.sql.as_str()).await?;
        run(&mut tx, &noted(&migration)).await?;
    }
    Ok(tx.commit().await.map_err(DbError::from)?)
}

async fn run(tx: &mut sqlx::PgConnection, sql: &str) -> Result<(), DbError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

/// Notes that a migration was applied.
fn noted(migration: &Migration) -> String {
    let checksum: String = migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "INSERT INTO jobexec._sqlx_migrations (version, description, success, checksum, execution_time)\n\
         VALUES ({version}, {description}, true, '\\x{checksum}', 0) ON CONFLICT DO NOTHING;",
        version = migration.version,
        description = literal(&migration.description),
    )
}

/// Creates the schema, the index, the grants and `extras`; each step is harmless when it was done before.
pub async fn apply(
    database: &Database,
    layout: &Layout,
    role: Option<&str>,
    extras: &[Extra],
) -> Result<(), SchemaError> {
    let table = &layout.table;
    build(database, "0").await?;
    if let Some(role) = role {
        grant(database, layout, role).await?;
    }
    let partitioned: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'p')",
    )
    .bind(&table.schema.0)
    .bind(&table.name.0)
    .fetch_one(&database.pool())
    .await
    .map_err(DbError::from)?;
    // Built without blocking writers, which Postgres cannot do for a partitioned table.
    for index in indexes(table) {
        execute(database, &if partitioned { index.replace(" CONCURRENTLY", "") } else { index }).await?;
    }
    for statement in extras.iter().flat_map(|extra| extra.statements(table, role)) {
        match execute(database, &statement).await {
            Err(DbError::Statement(text, code)) if code == "23514" => {
                return Err(SchemaError::Violated(text));
            }
            done => done?,
        }
    }
    Ok(())
}

async fn grant(database: &Database, layout: &Layout, role: &str) -> Result<(), SchemaError> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&database.pool())
        .await
        .map_err(DbError::from)?;
    if !exists {
        return Err(SchemaError::NoRole(role.to_owned()));
    }
    for grant in grants(layout, role) {
        execute(database, &grant).await?;
    }
    Ok(())
}

async fn execute(database: &Database, sql: &str) -> Result<(), DbError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.pool()).await?;
    Ok(())
}

/// What [`apply`] does, as a script for psql that may be run again.
pub fn script(layout: &Layout, role: Option<&str>, extras: &[Extra]) -> String {
    let table = &layout.table;
    let mut out = format!(
        "-- The jobexec operator's own schema, the index that its sweep uses, and the grants of its role.\n\
         -- It may be run again: what is there is left as it is.\n\n\
         SET client_min_messages = warning;\n{BEGINNING}\n\n",
    );
    for migration in migrations() {
        out.push_str(&format!("{}\n{}\n\n", migration.sql.as_str(), noted(&migration)));
    }
    if let Some(role) = role {
        out.push_str(&format!(
            "\n-- Create the role first: CREATE ROLE {} LOGIN PASSWORD '…';\n",
            quote(role)
        ));
        for grant in grants(layout, role) {
            out.push_str(&grant);
            out.push_str(";\n");
        }
    }
    out.push_str(&format!(
        "\n-- Found and ordered by this index, stale executions cost the same in a table of any size. For a partitioned\n\
         -- table leave CONCURRENTLY out. Those that begin with the job or its type serve policies.\n{};\n\n\
         -- Worth having on a large table, for the figures in the status; the sweep does not need them:\n\
         -- CREATE INDEX CONCURRENTLY ON {table} ({start});\n\
         -- CREATE INDEX CONCURRENTLY ON {table} ({end}); -- for dynamic timeouts and objects of finished executions too\n\
         -- CREATE INDEX CONCURRENTLY ON {table} ({status}) WHERE {scheduled};\n",
        indexes(table).join(";\n"),
        start = quote(&table.columns.started_at.0),
        end = quote(&table.columns.completed_at.0),
        status = quote(&table.columns.status.0),
        scheduled = condition(&quote(&table.columns.status.0), &table.statuses.scheduled),
        table = qualified(table),
    ));
    for extra in extras {
        out.push_str(&format!("\n-- {}\n", extra.purpose()));
        for statement in extra.statements(table, role) {
            out.push_str(&format!("{statement};\n"));
        }
    }
    out
}

/// The partial indexes that serve the sweep: running rows by their start, by their job or its type and their start, and
/// by their last heartbeat.
fn indexes(table: &Table) -> Vec<String> {
    let c = &table.columns;
    let start = quote(&c.started_at.0);
    let mut on =
        vec![("running", start.clone()), ("running_job", format!("{}, {start}", quote(&c.job_id.0)))];
    on.extend(c.job_type.as_ref().map(|type_| ("running_type", format!("{}, {start}", quote(&type_.0)))));
    on.extend(c.heartbeat_at.as_ref().map(|at| ("running_heartbeat", quote(&at.0))));
    // Cut so that the name with its suffix stays within Postgres' 63 bytes; names of mapped tables are ASCII.
    let name: String = table.name.0.chars().take(45).collect();
    on.into_iter()
        .map(|(suffix, columns)| {
            format!(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} ({columns}) WHERE {}",
                quote(&format!("{name}_{suffix}")),
                qualified(table),
                condition(&quote(&c.status.0), &table.statuses.running),
            )
        })
        .collect()
}

/// Exactly the rights that the operator needs: to read the mapped columns, to write those that end an execution,
/// and its own tables.
fn grants(layout: &Layout, role: &str) -> Vec<String> {
    let (table, role) = (&layout.table, quote(role));
    let (read, write) = (quoted(&read_columns(table)), quoted(&write_columns(table)));
    let mut grants = vec![
        format!("GRANT USAGE ON SCHEMA {}, jobexec TO {role}", quote(&table.schema.0)),
        format!("GRANT SELECT ({read}), UPDATE ({write}) ON {} TO {role}", qualified(table)),
    ];
    if let Some(jobs) = &layout.jobs {
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", quote(&jobs.schema.0)));
        let columns = quoted(&job_columns(jobs));
        let (schema, name) = (quote(&jobs.schema.0), quote(&jobs.name.0));
        grants.push(format!("GRANT SELECT ({columns}) ON {schema}.{name} TO {role}"));
    }
    grants.extend(
        GRANTS
            .iter()
            .chain(&EXTRA_GRANTS)
            .map(|(table, rights)| format!("GRANT {rights} ON jobexec.{table} TO {role}")),
    );
    grants
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
