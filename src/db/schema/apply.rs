//! Applies everything that an administrator sets up at once, or prints it as a script: the schema, the index on the application's
//! table, the grants of the operator's role, and the additions to the table.

use sqlx::{AssertSqlSafe, PgConnection};

use super::super::extras::{self, Extra, Retries};
use super::super::mapping::{condition, filtered, literal, qualified, quote};
use super::super::set_up::{SEARCH_PATH, build_indexes, execute, known};
use super::super::{Database, DbError, Layout};
use super::build::{self, build};
use super::error::SchemaError;
use super::grants;
use crate::api::Table;

/// Creates the schema, the index, the grants and `extras`; each step is harmless if it was done before. Returns whether running
/// executions were found that went back to waiting, which the transitions then allow.
pub async fn apply(
    database: &Database,
    layout: &Layout,
    role: Option<&str>,
    extras: &[Extra],
) -> Result<Retries, SchemaError> {
    let table = &layout.table;
    if let Some(role) = role {
        known(database, role).await??;
    }
    build(database, layout.schema_owner.as_deref(), "0").await?;
    let mut connection = database.outside().await.map_err(DbError::from)?;
    // Set for the whole connection: an index cannot be built in a transaction.
    execute(&mut connection, &format!("SET {SEARCH_PATH}")).await?;
    if let Some(role) = role {
        for grant in grants::statements(layout, role) {
            execute(&mut connection, &grant).await?;
        }
    }
    let kind: Option<String> = sqlx::query_scalar(
        "SELECT c.relkind::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(&table.schema.0)
    .bind(&table.name.0)
    .fetch_optional(&mut *connection)
    .await
    .map_err(DbError::from)?;
    let view = kind.as_deref() == Some("v");
    if (view || layout.adapter.is_some()) && !extras.is_empty() {
        return Err(SchemaError::NoAdditions(qualified(table)));
    }
    // An adapter has its own indexes, and a view has none; those of the tables beneath it serve.
    if !view && layout.adapter.is_none() {
        let mut indexes = indexes(layout);
        if kind.as_deref() == Some("p") {
            // `CONCURRENTLY` does not block writers, but Postgres does not support it for a partitioned table.
            indexes = indexes.iter().map(|index| index.replace(" CONCURRENTLY", "")).collect();
        }
        build_indexes(&mut connection, &table.schema.0, &indexes).await??;
    }
    let retries = if extras.contains(&Extra::Transitions) {
        retries(&mut connection, table).await?
    } else {
        Retries::Unknown
    };
    for statement in extras.iter().flat_map(|extra| extra.statements(table, role, retries)) {
        match execute(&mut connection, &statement).await {
            Err(DbError::Statement(text, code)) if code == "23514" => {
                return Err(SchemaError::Violated(text));
            }
            done => done?,
        }
    }
    if !extras.is_empty() {
        execute(&mut connection, &build::handed_over()).await?;
    }
    Ok(retries)
}

/// Reports whether running executions go back to waiting. A table whose finished executions are started again would break under the
/// trigger, which exists to keep finished executions unchanged.
async fn retries(connection: &mut PgConnection, table: &Table) -> Result<Retries, SchemaError> {
    let (requeued, revived): (bool, bool) = sqlx::query_as(AssertSqlSafe(extras::seen(table)))
        .fetch_one(connection)
        .await
        .map_err(DbError::from)?;
    if revived {
        return Err(SchemaError::Revived(qualified(table)));
    }
    Ok(if requeued { Retries::Seen } else { Retries::by_name(table) })
}

/// Returns the steps of [`apply`] as a script for psql that can be run repeatedly.
pub fn script(layout: &Layout, role: Option<&str>, extras: &[Extra]) -> String {
    let table = &layout.table;
    let mut out = format!(
        "-- The jobexec operator's own schema, the index that its sweep uses, and the grants of its role, for psql.\n\
         -- It may be run again: what is there is left as it is. It ends at the first error.\n\n\
         \\set ON_ERROR_STOP on\nSET {SEARCH_PATH};\nSET client_min_messages = warning;\n\n{}\n",
        build::script(layout.schema_owner.as_deref()),
    );
    if let Some(role) = role {
        out.push_str(&format!(
            "\n-- Create the role first: CREATE ROLE {} LOGIN PASSWORD '…';\n",
            quote(role)
        ));
        for grant in grants::statements(layout, role) {
            out.push_str(&grant);
            out.push_str(";\n");
        }
    }
    if layout.adapter.is_some() {
        return out;
    }
    out.push_str(&format!(
        "\n-- Found and ordered by this index, stale executions cost the same in a table of any size. For a partitioned\n\
         -- table leave CONCURRENTLY out. Those that begin with the job or its type serve policies. A view has no indexes: give\n\
         -- those of the same columns to the tables beneath it.\n\
         SELECT relkind = 'v' AS is_view FROM pg_class WHERE oid = {oid}::regclass \\gset\n\\if :is_view\n\\else\n{};\n\\endif\n\n\
         -- Worth having on a large table, for the figures in the status; the sweep does not need them:\n\
         -- CREATE INDEX CONCURRENTLY ON {table} ({start});\n\
         -- CREATE INDEX CONCURRENTLY ON {table} ({end}); -- for dynamic timeouts and objects of finished executions too\n\
         -- CREATE INDEX CONCURRENTLY ON {table} ({status}) WHERE {scheduled};\n",
        indexes(layout).join(";\n"),
        oid = literal(&qualified(table)),
        start = quote(&table.columns.started_at.0),
        end = quote(&table.columns.completed_at.0),
        status = quote(&table.columns.status.0),
        scheduled =
            filtered(condition(&quote(&table.columns.status.0), &table.statuses.scheduled), table, ""),
        table = qualified(table),
    ));
    for extra in extras {
        out.push_str(&format!("\n-- {}\n", extra.purpose()));
        for statement in extra.statements(table, role, Retries::by_name(table)) {
            out.push_str(&format!("{statement};\n"));
        }
    }
    if !extras.is_empty() {
        out.push_str(&format!("\n{}\n", build::handed_over()));
    }
    out
}

/// Returns the statements for the partial indexes that serve the sweep: running rows by their start, by their job or its type and
/// their start, by their last heartbeat, and by their last checkpoint.
fn indexes(layout: &Layout) -> Vec<String> {
    let table = &layout.table;
    let c = &table.columns;
    let start = quote(&c.started_at.0);
    let mut on =
        vec![("running", start.clone()), ("running_job", format!("{}, {start}", quote(&c.job_id.0)))];
    on.extend(c.job_type.as_ref().map(|type_| ("running_type", format!("{}, {start}", quote(&type_.0)))));
    on.extend(c.deadline_at.as_ref().map(|at| ("running_deadline", quote(&at.0))));
    on.extend(c.heartbeat_at.as_ref().map(|at| ("running_heartbeat", quote(&at.0))));
    // With those of workers, it is no heartbeat.
    let progress = c.checkpoint_at.as_ref().filter(|_| layout.heartbeat.is_none());
    on.extend(progress.map(|at| ("running_progress", quote(&at.0))));
    // Truncated so that the name with its suffix stays within Postgres' 63 bytes; names of mapped tables are ASCII.
    let name: String = table.name.0.chars().take(45).collect();
    on.into_iter()
        .map(|(suffix, columns)| {
            format!(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} ({columns}) WHERE {}",
                quote(&format!("{name}_{suffix}")),
                qualified(table),
                filtered(condition(&quote(&c.status.0), &table.statuses.running), table, ""),
            )
        })
        .collect()
}
