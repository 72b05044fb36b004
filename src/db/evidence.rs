//! What must be seen for a while before it counts: executions whose job is finished. Since when it is seen is kept in
//! `jobexec.suspects`, so that an operator that was started anew knows it, and everybody else too.

use sqlx::AssertSqlSafe;

use super::judge::{Reason, Rules};
use super::{Database, DbError, Judge};

/// Brings the suspects in step with the table; writes nothing where nothing changed.
pub async fn update(database: &Database, judge: &Judge<'_>) -> Result<(), DbError> {
    let m = judge.mapping;
    let (Rules::Table(store_id), Some((finished, _))) = (judge.rules, m.job_finished()) else {
        return Ok(());
    };
    let sql = format!(
        "WITH found AS MATERIALIZED (
             SELECT {id}::text AS execution_id, {began} AS began_at FROM {table} AS t JOIN {jobs} ON {of_job}
             WHERE {running} AND {finished} AND {began} IS NOT NULL),
         gone AS (
             DELETE FROM jobexec.suspects AS s WHERE s.store_id = $1 AND s.reason = '{reason}'
             AND (s.execution_id, s.began_at) NOT IN (SELECT execution_id, began_at FROM found))
         INSERT INTO jobexec.suspects (store_id, reason, execution_id, began_at, since)
         SELECT $1, '{reason}', execution_id, began_at, statement_timestamp() FROM found
         WHERE execution_id NOT IN (
             SELECT execution_id FROM jobexec.suspects WHERE store_id = $1 AND reason = '{reason}')
         ON CONFLICT DO NOTHING",
        id = m.id(),
        began = m.began_at(),
        table = m.table(),
        jobs = m.jobs_table(),
        of_job = m.of_job(),
        running = m.running(),
        reason = Reason::JobFinished.as_str(),
    );
    let mut tx = database.write().await?;
    sqlx::query(AssertSqlSafe(sql)).bind(store_id).persistent(false).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}
