//! What can be seen of a store without changing it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use super::decode;
use super::judge::{Reason, Take};
use super::mapping::wire;
use super::{Database, DbError, Judge, Mapping};

/// All that enforcement needs to know of one moment. It costs the same beside any number of healthy executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// Executions that are stale and to be ended.
    pub stale: i64,
    /// The next deadline of an execution that is not stale yet, if one is known to come within the horizon.
    pub next_deadline: Option<DateTime<Utc>>,
}

/// The running executions at one moment, as people want to know them. Counting them reads the index on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// Executions that run.
    pub running: i64,
    /// Executions that run for longer than is expected of them.
    pub long_running: i64,
    /// Executions that are stale, those too that are to run on.
    pub stale: i64,
    /// The start of the one that runs longest.
    pub oldest: Option<DateTime<Utc>>,
    /// Executions that run although their job has been finished for some time.
    pub of_finished_jobs: i64,
    /// One of those, and its job.
    pub pair: Option<(String, String)>,
    /// Executions that are suspected, and one of them with its job.
    pub suspects: Suspects,
    /// Those whose workload was made again under its name.
    pub recreated: Suspects,
}

/// Executions that may be dead, which only a person decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// How many.
    pub count: i64,
    /// One of them, and its job.
    pub pair: Option<(String, String)>,
}

/// The executions that do not run. Without an index of their own these figures read the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Executions that wait.
    pub scheduled: i64,
    /// Executions that started within 24 hours.
    pub recent: i64,
}

/// Rows that contradict themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contradictions {
    /// Their status is not in the mapping.
    pub unmapped: i64,
    /// One of those statuses, for the message.
    pub example: Option<String>,
    /// They run and have no start.
    pub running_without_start: i64,
    /// They have ended and have no end.
    pub finished_without_end: i64,
    /// They have ended before they started.
    pub ended_before_start: i64,
    /// They run and have an end.
    pub running_with_end: i64,
    /// They run and start in the future, by more than clocks may differ.
    pub start_in_future: i64,
    /// They run and start before they were created, by more than clocks may differ.
    pub started_before_created: i64,
    /// They were run again within a day with the start of a run that had ended, as [`super::again`] counts.
    pub started_again: i64,
    /// Their id is missing, or longer than the operator handles.
    pub id_too_long: i64,
}

/// Looks for stale executions and the next deadline within `horizon`, by the indexes on running executions.
pub async fn pulse(database: &Database, judge: &Judge<'_>, horizon: TimeDelta) -> Result<Pulse, DbError> {
    let sql = look(judge, horizon);
    let mut tx = database.read().await?;
    let query = judge.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).persistent(false);
    let row = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Pulse {
        now: decode::at(&row, "now")?,
        stale: row.try_get("stale")?,
        next_deadline: decode::maybe_at(&row, "next_deadline")?,
    })
}

fn look(judge: &Judge<'_>, horizon: TimeDelta) -> String {
    format!(
        "WITH {ctes} SELECT statement_timestamp() AS now, (SELECT count(*) FROM stale) AS stale,
                            {next_deadline} AS next_deadline",
        ctes = judge.ctes(Take::Look(horizon)),
        next_deadline = judge.next_deadline(horizon),
    )
}

/// Counts the running executions. One statement, so that its figures belong together.
pub async fn live(database: &Database, judge: &Judge<'_>) -> Result<Live, DbError> {
    let m = judge.mapping;
    let start = m.started_at();
    let suspected = suspected(judge);
    let recreated = recreated(judge);
    let columns = |name: &str, known: bool| {
        if known {
            format!(
                "(SELECT count(*) FROM {name}) AS {name}s, (SELECT min(id) FROM {name}) AS {name},
                 (SELECT min(job_id) FROM {name} WHERE id = (SELECT min(id) FROM {name})) AS {name}_job"
            )
        } else {
            format!("0::bigint AS {name}s, NULL::text AS {name}, NULL::text AS {name}_job")
        }
    };
    let suspect =
        format!("{}, {}", columns("suspect", suspected.is_some()), columns("recreated", recreated.is_some()));
    let sql = format!(
        "WITH {ctes},
         live AS (
             SELECT count(*) AS running, min({start}) AS oldest,
                    count(*) FILTER (WHERE {long}) AS long_running
             FROM {table} AS t {joined} WHERE {running}){suspects}
         SELECT statement_timestamp() AS now, live.running, live.long_running, {oldest} AS oldest,
                (SELECT count(*) FROM stale) AS stale,
                (SELECT count(*) FROM stale WHERE {of_finished}) AS of_finished_jobs, pair.id, pair.job_id,
                {suspect}
         FROM live LEFT JOIN LATERAL (
             SELECT stale.id::text AS id, {job} AS job_id FROM stale JOIN {table} AS t ON {id} = stale.id
             WHERE {of_finished} ORDER BY stale.id LIMIT 1) AS pair ON true",
        ctes = judge.ctes(Take::LookAtAll),
        of_finished = format_args!("stale.reason = '{}'", Reason::JobFinished.as_str()),
        id = m.id(),
        job = m.job_shown(),
        joined = judge.joined(),
        long = judge.runs_long(),
        table = m.table(),
        running = m.running(),
        oldest = wire("live.oldest"),
        suspects = [("suspect", suspected), ("recreated", recreated)]
            .into_iter()
            .filter_map(|(name, query)| Some(format!(", {name} AS MATERIALIZED ({})", query?)))
            .collect::<String>(),
    );
    let mut tx = database.read().await?;
    let query = judge.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).persistent(false);
    let row = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Live {
        suspects: Suspects {
            count: row.try_get("suspects")?,
            pair: row.try_get::<Option<_>, _>("suspect")?.zip(row.try_get("suspect_job")?),
        },
        recreated: Suspects {
            count: row.try_get("recreateds")?,
            pair: row.try_get::<Option<_>, _>("recreated")?.zip(row.try_get("recreated_job")?),
        },
        now: decode::at(&row, "now")?,
        running: row.try_get("running")?,
        long_running: row.try_get("long_running")?,
        stale: row.try_get("stale")?,
        oldest: decode::maybe_at(&row, "oldest")?,
        of_finished_jobs: row.try_get("of_finished_jobs")?,
        pair: row.try_get::<Option<_>, _>("id")?.zip(row.try_get("job_id")?),
    })
}

/// The executions whose job is finished and that nothing ends, with their jobs.
fn suspected(judge: &Judge<'_>) -> Option<String> {
    let m = judge.mapping;
    Some(format!(
        "SELECT {id}::text AS id, {job} AS job_id FROM {table} AS t JOIN {jobs} ON {of_job}
         WHERE {running} AND {suspected} AND NOT {certain} AND {id} NOT IN (SELECT id FROM stale)",
        id = m.id(),
        job = m.job_shown(),
        table = m.table(),
        jobs = m.jobs_table(),
        of_job = m.of_job(),
        running = m.judged(),
        suspected = judge.job_suspected()?,
        certain = judge.job_certain(),
    ))
}

/// The executions whose workload was made again and that nothing ends, with their jobs.
fn recreated(judge: &Judge<'_>) -> Option<String> {
    let m = judge.mapping;
    Some(format!(
        "SELECT {id}::text AS id, COALESCE({job}, '?') AS job_id FROM {table} AS t
         WHERE {running} AND {again} AND {id} NOT IN (SELECT id FROM stale)",
        id = m.id(),
        job = m.job_shown(),
        table = m.table(),
        running = m.judged(),
        again = judge.workload_made_again()?,
    ))
}

/// Counts the running executions and no more.
pub async fn running(database: &Database, m: &Mapping) -> Result<i64, DbError> {
    let sql = format!("SELECT count(*) FROM {} AS t WHERE {}", m.table(), m.running());
    let mut tx = database.read().await?;
    let count = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(count)
}

/// How many running executions each object says something of that counts, by the object.
pub async fn governed(database: &Database, judge: &Judge<'_>) -> Result<BTreeMap<String, i64>, DbError> {
    let m = judge.mapping;
    // Grouped before they are taken apart: there are few ways to be governed, and many executions.
    let sql = format!(
        "WITH {rules},
         way AS (SELECT ARRAY[v.timeout_source, v.grace_source, v.heartbeat_source, v.action_source, v.warn_source] AS sources,
                        count(*) AS executions
                 FROM {table} AS t {joined} WHERE {running} GROUP BY 1)
         SELECT source, sum(executions)::bigint AS executions
         FROM way CROSS JOIN LATERAL (SELECT DISTINCT unnest(sources) AS source) AS said
         WHERE source IS NOT NULL GROUP BY source",
        rules = judge.rules(),
        table = m.table(),
        joined = judge.joined(),
        running = m.running(),
    );
    let mut tx = database.read().await?;
    let rows = judge.bind(sqlx::query(AssertSqlSafe(sql))).persistent(false).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.into_iter().map(|row| Ok((row.try_get("source")?, row.try_get("executions")?))).collect()
}

/// Counts the executions that do not run.
pub async fn census(database: &Database, m: &Mapping) -> Result<Census, DbError> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM {table} AS t WHERE {scheduled}) AS scheduled,
                (SELECT count(*) FROM {table} AS t WHERE {start} IS NOT NULL AND NOT ({before}) AND {exists} AND ({ignored}) IS NOT TRUE) AS recent",
        table = m.table(),
        scheduled = m.scheduled(),
        start = m.started_column(),
        exists = m.exists(),
        before = m.started_by("statement_timestamp() - interval '24 hours'"),
        ignored = m.ignored(),
    );
    let mut tx = database.read().await?;
    let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Census { scheduled: row.try_get("scheduled")?, recent: row.try_get("recent")? })
}

/// Counts the rows that contradict themselves. It reads the whole table, so it is asked for seldom.
pub async fn contradictions(database: &Database, m: &Mapping) -> Result<Contradictions, DbError> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE ({mapped}) IS NOT TRUE) AS unmapped,
                left(min(COALESCE({status}::text, 'NULL')) FILTER (WHERE ({mapped}) IS NOT TRUE), 63) AS example,
                count(*) FILTER (WHERE {running} AND {start} IS NULL) AS running_without_start,
                count(*) FILTER (WHERE {finished} AND {end} IS NULL) AS finished_without_end,
                count(*) FILTER (WHERE {finished} AND {ended_at} < {started_at}) AS ended_before_start,
                count(*) FILTER (WHERE {running} AND {end} IS NOT NULL) AS running_with_end,
                count(*) FILTER (WHERE {running} AND NOT ({started_by_now})) AS start_in_future,
                count(*) FILTER (WHERE {running} AND {before_created}) AS started_before_created,
                count(*) FILTER (WHERE ({handled}) IS NOT TRUE) AS id_too_long
         FROM {table} AS t WHERE {exists}",
        exists = m.exists(),
        mapped = m.mapped(),
        status = m.status(),
        running = m.running(),
        finished = m.finished(),
        start = m.started_column(),
        end = m.completed_column(),
        ended_at = m.completed_at(),
        started_at = m.started_at(),
        started_by_now = m.started_by("statement_timestamp() + interval '1 minute'"),
        before_created = m.started_before_created(),
        handled = m.only_handled("true".to_owned()),
        table = m.table(),
    );
    let mut tx = database.read().await?;
    let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(Contradictions {
        unmapped: row.try_get("unmapped")?,
        example: row.try_get("example")?,
        running_without_start: row.try_get("running_without_start")?,
        finished_without_end: row.try_get("finished_without_end")?,
        ended_before_start: row.try_get("ended_before_start")?,
        running_with_end: row.try_get("running_with_end")?,
        start_in_future: row.try_get("start_in_future")?,
        started_before_created: row.try_get("started_before_created")?,
        started_again: 0,
        id_too_long: row.try_get("id_too_long")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::identifier::Identifier;
    use crate::api::table::{Jobs, StatusText};
    use crate::db::Layout;
    use crate::db::judge::Rules;
    use crate::db::mapping::{IdType, TimeType, Types};
    use crate::rules::{Base, Compiled, Policy, Said, Warn, compile};

    const TYPES: Types = Types {
        id: IdType::Integer,
        started_at: TimeType::Instant,
        completed_at: TimeType::Instant,
        job_id: Some(IdType::Integer),
        job_type_is_text: false,
        heartbeat_at: None,
        created_at: None,
        indexed_by_job: true,
        indexed_by_type: false,
        indexed_by_end: true,
        can_cancel: true,
        ends_keys: false,
        jobs_alike: true,
        job_finished_at: None,
        error_limit: None,
        unusable_ids: false,
        jobs_comparable: true,
        versions: true,
    };

    fn identifier(name: &str) -> Identifier {
        Identifier(name.to_owned())
    }

    /// A table of which everything is mapped.
    fn widest(started_at: TimeType, zone: &str, of_jobs: bool) -> Mapping {
        let mut layout = Layout::default();
        let columns = &mut layout.table.columns;
        columns.created_at = Some(identifier("created_at"));
        columns.paused_seconds = Some(identifier("paused_seconds"));
        columns.heartbeat_at = Some(identifier("heartbeat_at"));
        columns.worker = Some(identifier("worker"));
        columns.workload = Some(identifier("workload"));
        columns.job_type = (!of_jobs).then(|| identifier("job_type"));
        layout.table.time_zone = zone.to_owned();
        layout.table.statuses.paused = vec![StatusText("paused".to_owned())];
        let mut jobs = Jobs::default();
        jobs.columns.type_ = of_jobs.then(|| identifier("job_type"));
        jobs.columns.finished_at = Some(identifier("finished_at"));
        layout.jobs = Some(jobs);
        let times = Some(started_at);
        let types = Types {
            completed_at: started_at,
            started_at,
            job_type_is_text: true,
            heartbeat_at: times,
            ..TYPES
        };
        Mapping::new(
            layout,
            Types { created_at: times, job_finished_at: times, indexed_by_type: true, ..types },
        )
    }

    /// Rules of jobs and of types, and a grace period for those that run again.
    fn in_force() -> Compiled {
        let hour = TimeDelta::hours(1);
        let base = Base {
            timeout: Said::new(hour, "ExecutionStore/s"),
            grace: Said::new(hour, "ExecutionStore/s"),
            heartbeat: Some(Said::new(hour, "ExecutionStore/s")),
            on_stale: Said::new(crate::api::OnStale::Fail, "ExecutionStore/s"),
            warn: Said::new(Warn::After(hour), "ExecutionStore/s"),
            overruled: Vec::new(),
            store: "ExecutionStore/s".to_owned(),
        };
        let policy = Policy {
            name: "p".to_owned(),
            created: 0,
            jobs: vec!["1".to_owned()],
            types: vec!["etl".to_owned()],
            all: false,
            timeout: Some(hour),
            grace: None,
            heartbeat: None,
            on_stale: None,
            warn: None,
            dynamic: None,
            notifies: false,
        };
        compile(base, Vec::new(), vec![policy])
    }

    fn length(mapping: &Mapping) -> usize {
        let in_force = in_force();
        let judge = Judge {
            single_active_execution: Some(TimeDelta::hours(1)),
            workloads: Some(TimeDelta::hours(1)),
            ..Judge::new(mapping, &in_force, Rules::Table(1), DateTime::default()).with_evidence(false)
        };
        look(&judge, TimeDelta::hours(1)).len()
    }

    #[test]
    fn a_look_for_deadlines_stays_short() {
        let plain = Mapping::new(Layout::default(), TYPES);
        let lengths = [
            length(&plain),
            length(&widest(TimeType::Instant, "UTC", false)),
            length(&widest(TimeType::Instant, "UTC", true)),
            length(&widest(TimeType::Local, "UTC", false)),
            length(&widest(TimeType::Local, "Europe/Berlin", false)),
            length(&widest(TimeType::Local, "Europe/Berlin", true)),
        ];
        let bounds = [16, 32, 32, 32, 32, 32].map(|kib: usize| kib << 10);
        let short = lengths.iter().zip(bounds).all(|(length, bound)| *length <= bound);
        assert!(short, "{lengths:?}, and at most {bounds:?}");
    }
}
