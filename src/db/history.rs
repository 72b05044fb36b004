//! Timeouts computed from history: a quantile of the durations of completed executions, times a multiplier. Each policy takes one
//! query, over its window only.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row as _};

use super::decode::{self, At};
use super::intervals::interval;
use super::mapping::{ID_BYTES, IdType, clamp_timestamp, literal};
use super::{Database, DbError, Ledger, Mapping};
use crate::api::duration;
use crate::api::policy::{DynamicTimeout, Per};

/// The maximum number of timeouts of a policy. If there are more, those with the most samples are kept.
pub const LIMIT: usize = 10_000;

/// Returns the longest computed timeout, in seconds: the longest that a spec can contain.
fn longest_seconds() -> f64 {
    duration::LONGEST.as_seconds_f64()
}

/// A timeout computed from history, with the values that it comes from. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Computed {
    /// The job, if the timeout is for one job.
    pub job_id: Option<String>,
    /// The job type, if it is known.
    pub job_type: Option<String>,
    /// The number of completed executions.
    pub samples: i64,
    /// The quantile of their durations.
    pub quantile: f64,
    /// The timeout.
    pub timeout: f64,
}

impl Computed {
    /// Returns the timeout.
    pub fn timeout(&self) -> TimeDelta {
        seconds(self.timeout)
    }

    /// Returns the quantile.
    pub fn quantile(&self) -> TimeDelta {
        seconds(self.quantile)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "at most longest_seconds, as milliseconds well within 64 bits"
)]
fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds((seconds.clamp(0.0, longest_seconds()) * 1e3).ceil() as i64)
}

/// The computed timeouts of one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The generation of the policy's spec at the time of the query.
    pub generation: i64,
    /// The time of the query, by the database's clock.
    pub computed_at: DateTime<Utc>,
    /// The timeouts.
    pub computed: Vec<Computed>,
}

/// A policy's query of history.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The UID of the policy.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The jobs that it names.
    pub jobs: Vec<String>,
    /// The types that it names.
    pub types: Vec<String>,
    /// True if it names neither, so that the query covers all.
    pub all: bool,
    /// The parameters of the query.
    pub spec: DynamicTimeout,
}

/// Computes timeouts from history. Reads the executions that completed within the window, with an index on the end if there is one.
pub async fn ask(database: &Database, m: &Mapping, question: &Question) -> Result<Figures, DbError> {
    let sql = statement(m, question);
    let mut tx = database.read().await?;
    // Postgres separates many groups in memory or sorts the rows: both are faster with more memory, for this one query.
    sqlx::raw_sql("SET LOCAL work_mem = '64MB'").execute(&mut *tx).await?;
    let At(computed_at) =
        sqlx::query_scalar("SELECT statement_timestamp()").persistent(false).fetch_one(&mut *tx).await?;
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&question.jobs)
        .bind(&question.types)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let computed = rows
        .into_iter()
        .map(|row| {
            Ok(Computed {
                job_id: row.try_get("job_id")?,
                job_type: row.try_get("job_type")?,
                samples: row.try_get("samples")?,
                quantile: row.try_get("quantile")?,
                timeout: row.try_get("timeout")?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()?;
    Ok(Figures { generation: question.generation, computed_at, computed })
}

fn statement(m: &Mapping, question: &Question) -> String {
    let spec = &question.spec;
    let (end, start) = (m.completed_at(), m.started_at());
    let duration =
        format!("EXTRACT(epoch FROM {} - {})::float8", clamp_timestamp(&end), clamp_timestamp(&start));
    let by_job = spec.per == Per::Job;
    let (job, type_) = match (by_job, m.knows_types()) {
        (true, true) => (format!("{}::text", m.job_id()), m.job_type()),
        (true, false) => (format!("{}::text", m.job_id()), "NULL::text".to_owned()),
        (false, _) => ("NULL::text".to_owned(), m.job_type()),
    };
    let mut named = Vec::new();
    if !question.all {
        named.push(match m.job_id_type() {
            Some(IdType::Text) | None => format!("{}::text = ANY ($1)", m.job_id()),
            Some(type_) => format!("{} = ANY ($1::{}[])", m.job_id(), type_.sql()),
        });
        if m.knows_types() {
            named.push(format!("{} = ANY ($2)", m.job_type()));
        }
    }
    let named = if named.is_empty() { "true".to_owned() } else { named.join(" OR ") };
    format!(
        include_str!("history/ask.sql"),
        floor = spec.floor.get().as_secs_f64(),
        ceiling = spec.ceiling.as_ref().map_or_else(longest_seconds, |c| c.get().as_secs_f64()),
        multiplier = spec.multiplier,
        job = job,
        job_type = type_,
        quantile = spec.quantile,
        duration = duration,
        table = m.table(),
        completed = m.completed(),
        start = start,
        end = end,
        before_window = m.completed_by(&format!(
            "statement_timestamp() - interval {}",
            literal(&interval(spec.window.to_chrono()))
        )),
        named = named,
        min_samples = spec.min_samples,
        id_bytes = ID_BYTES,
        limit = LIMIT,
    )
}

/// Returns the stored timeouts by the UID of the policy, so that a restarted operator does not judge without them, nor computes
/// them again too early.
pub async fn load(database: &Database, ledger: &Ledger) -> Result<BTreeMap<String, Figures>, DbError> {
    let Ledger::Tables { store_id, .. } = ledger else { return Ok(BTreeMap::new()) };
    let mut tx = database.read().await?;
    let rows = sqlx::query(
        "SELECT policy_uid, generation, computed_at, figures FROM jobexec.figures WHERE store_id = $1",
    )
    .bind(store_id)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    // Skips what cannot be decoded: it is computed again.
    Ok(rows.iter().filter_map(|row| kept(row).ok()).collect())
}

/// Decodes the UID of a policy, and its computed timeouts.
fn kept(row: &PgRow) -> Result<(String, Figures), sqlx::Error> {
    let Json(computed) = row.try_get("figures")?;
    let (generation, computed_at) = (row.try_get("generation")?, decode::at(row, "computed_at")?);
    Ok((row.try_get("policy_uid")?, Figures { generation, computed_at, computed }))
}

/// Stores computed timeouts.
pub async fn keep(
    database: &Database,
    ledger: &Ledger,
    question: &Question,
    figures: &Figures,
) -> Result<(), DbError> {
    let Ledger::Tables { store_id, .. } = ledger else { return Ok(()) };
    let mut tx = database.write().await?;
    sqlx::query(include_str!("history/keep.sql"))
        .bind(store_id)
        .bind(&question.uid)
        .bind(&question.name)
        .bind(figures.generation)
        .bind(figures.computed_at)
        .bind(Json(&figures.computed))
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes the computed timeouts of policies that no longer use history.
pub async fn forget(database: &Database, ledger: &Ledger, asking: &[String]) -> Result<(), DbError> {
    let Ledger::Tables { store_id, .. } = ledger else { return Ok(()) };
    let mut tx = database.write().await?;
    sqlx::query("DELETE FROM jobexec.figures WHERE store_id = $1 AND policy_uid <> ALL ($2)")
        .bind(store_id)
        .bind(asking)
        .persistent(false)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
