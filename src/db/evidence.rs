//! What must be seen for a while before it counts: executions whose job is finished, or whose workload has failed or is
//! gone. Since when it is seen is kept in `jobexec.suspects`, so that an operator that was started anew knows it, and
//! everybody else too. What is not certain there never ends an execution by itself.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::judge::{Reason, Rules};
use super::observations::{self, Kind};
use super::{Database, DbError, Judge};

/// Which execution an object says runs in which workload, and which workloads there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Those that exist and have not failed, as `Kind/name`.
    pub alive: Vec<String>,
    /// Ids of executions, in the form that Postgres prints,
    pub executions: Vec<String>,
    /// and the workload of each.
    pub named: Vec<String>,
}

/// Brings the suspects whose job is finished in step with the table; writes nothing where nothing changed. Certain are those
/// whose job was seen unfinished while they ran, or finished after they began.
///
/// # Errors
/// Those of the database.
pub async fn update_jobs(database: &Database, judge: &Judge<'_>) -> Result<(), DbError> {
    let m = judge.mapping;
    let Some((finished, _)) = m.job_finished() else { return Ok(()) };
    let rows = format!(
        "SELECT {id}::text AS execution_id, {began} AS started_at FROM {table} AS t JOIN {jobs} ON {of_job}
         WHERE {running} AND {began} IS NOT NULL",
        id = m.id(),
        began = m.began_at(),
        table = m.table(),
        jobs = m.jobs_table(),
        of_job = m.of_job(),
        running = m.judged(),
    );
    // What made a job finished when this was seen may not do so any more: the digest tells.
    let unfinished = observations::Seen {
        kind: Kind::JobUnfinished,
        now: format!(
            "SELECT execution_id, started_at, {} AS detail FROM ({rows} AND {finished} IS FALSE) AS unfinished",
            m.job_finished_digest()
        ),
        matters: Some(rows),
    };
    observations::update(database, judge, &unfinished).await?;
    let (later, earlier) = judge.job_finished_while_running("$1").unwrap_or(("false".into(), "false".into()));
    let found = format!(
        "SELECT execution_id, began_at, later OR seen AS certain, NULL::text AS detail FROM (
             SELECT {id}::text AS execution_id, {began} AS began_at, ({later}) IS TRUE AS later,
                    ({earlier}) IS TRUE AS earlier, {seen} AS seen
             FROM {table} AS t JOIN {jobs} ON {of_job}
             WHERE {running} AND {finished} AND {began} IS NOT NULL AND $2::text[] IS NOT NULL
               AND $3::text[] IS NOT NULL AND $4::text[] IS NOT NULL) AS row
         WHERE seen OR NOT earlier",
        seen = judge.job_seen_unfinished("$1"),
        id = m.id(),
        began = m.began_at(),
        table = m.table(),
        jobs = m.jobs_table(),
        of_job = m.of_job(),
        running = m.judged(),
    );
    replace(database, judge, Reason::JobFinished, &found, &Workloads::default()).await
}

/// Brings the suspects whose workload has failed or is gone in step. `None`: it is not known which workloads there are,
/// so that nobody may be suspected.
pub async fn update_workloads(
    database: &Database,
    judge: &Judge<'_>,
    workloads: Option<&Workloads>,
) -> Result<(), DbError> {
    let m = judge.mapping;
    let nobody = Workloads::default();
    let named = m.workload().unwrap_or_else(|| "NULL::text".to_owned());
    let found = format!(
        "SELECT execution_id, began_at, true AS certain, NULL::text AS detail FROM (
             SELECT {id}::text AS execution_id, {began} AS began_at, COALESCE(said.workload, {named}) AS workload
             FROM {table} AS t LEFT JOIN unnest($3::text[], $4::text[]) AS said (id, workload) ON said.id = {id}::text
             WHERE {known} AND {running} AND {began} IS NOT NULL AND {any}) AS named
         WHERE workload IS NOT NULL AND workload NOT IN (SELECT unnest($2::text[]))",
        id = m.id(),
        began = m.began_at(),
        table = m.table(),
        known = workloads.is_some(),
        running = m.judged(),
        // Without the column only the executions that objects name are of interest.
        any = if m.workload().is_some() {
            "true".to_owned()
        } else {
            format!("{} = ANY ($3::text[]::{}[])", m.id(), m.id_type().sql())
        },
    );
    replace(database, judge, Reason::WorkloadGone, &found, workloads.unwrap_or(&nobody)).await
}

async fn replace(
    database: &Database,
    judge: &Judge<'_>,
    reason: Reason,
    found: &str,
    workloads: &Workloads,
) -> Result<(), DbError> {
    let Rules::Table(store_id) = judge.rules else { return Ok(()) };
    let reason = reason.as_str();
    let bind = |sql: String| {
        sqlx::query(AssertSqlSafe(sql))
            .bind(store_id)
            .bind(&workloads.alive)
            .bind(&workloads.executions)
            .bind(&workloads.named)
            .persistent(false)
    };
    let with = format!(
        "WITH found AS MATERIALIZED ({found}),
         kept AS (SELECT execution_id, began_at, certain, detail FROM jobexec.suspects
                  WHERE store_id = $1 AND reason = '{reason}')"
    );
    // Mostly nothing has changed, and then nothing is written.
    let mut tx = database.read().await?;
    let differs: bool = bind(format!(
        "{with} SELECT EXISTS ((SELECT * FROM found EXCEPT SELECT * FROM kept) UNION ALL
                               (SELECT * FROM kept EXCEPT SELECT * FROM found))"
    ))
    .try_map(|row: PgRow| row.try_get(0))
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    if !differs {
        return Ok(());
    }
    let mut tx = database.write().await?;
    bind(format!(
        "{with},
         gone AS (
             DELETE FROM jobexec.suspects AS s WHERE s.store_id = $1 AND s.reason = '{reason}'
             AND s.execution_id NOT IN (SELECT execution_id FROM found))
         INSERT INTO jobexec.suspects AS s (store_id, reason, execution_id, began_at, since, certain, detail)
         SELECT DISTINCT ON (execution_id) $1, '{reason}', execution_id, began_at, statement_timestamp(), certain, detail
         FROM (SELECT * FROM found EXCEPT SELECT * FROM kept) AS fresh
         ON CONFLICT (store_id, reason, execution_id) DO UPDATE SET
             -- Ids may be used again.
             since = CASE WHEN s.began_at = excluded.began_at THEN s.since ELSE excluded.since END,
             began_at = excluded.began_at, certain = excluded.certain, detail = excluded.detail"
    ))
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}
