//! Why one execution is stale, or is not: its row, each rule that could govern it, the evidence, and what follows. By the
//! same statement parts as the sweep.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::decode::{self, At, List};
use super::held;
use super::intervals::{delta, interval};
use super::judge::{NEXT_PARAMETER, Reason, Rules, Take};
use super::mapping::{CLOCKS_MAY_DIFFER_MINUTES, RECORD_CHARS, literal, wire};
use super::{Database, DbError, Judge};
use crate::api::Phase;
use sqlx::postgres::types::PgInterval;

/// Everything that is known of one execution at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// The row's id.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// The type of the job, where that is known.
    pub job_type: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// Where it stands.
    pub phase: Phase,
    /// The status as the table has it.
    pub status: String,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When the row was made, where that is mapped.
    pub created_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// What every rule says that could govern it, the most specific first, for each field.
    pub considered: Vec<Considered>,
    /// From when its time counts: the later of its start and its creation, and without a start not before it was first seen
    /// running in the present version of its row; `None`: it has no start, and was not seen running in that version.
    pub counts_from: Option<DateTime<Utc>>,
    /// When it is past its deadline.
    pub deadline: Option<DateTime<Utc>>,
    /// The evidence that the store knows, beside the deadline.
    pub evidence: Vec<Evidence>,
    /// Why it is stale now, if it is, and what the operator does about it: `Fail`, `Cancel` or `AlertOnly`.
    #[serde(serialize_with = "stale")]
    pub stale: Option<(String, String)>,
    /// What the operator does once it is stale.
    pub action: String,
}

/// What one rule says of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The field, as specs call it.
    pub field: Cow<'static, str>,
    /// What it says.
    pub value: String,
    /// Who says so.
    pub source: String,
    /// Why it counts or does not.
    pub why: Cow<'static, str>,
    /// Whether it counts.
    pub counts: bool,
}

/// Evidence of death beside the deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Of what.
    pub reason: Reason,
    /// What is seen.
    pub seen: String,
    /// From when on the execution is stale by it, if nothing changes.
    pub stale_at: Option<DateTime<Utc>>,
}

/// With names, which a pair has not.
#[allow(clippy::ref_option, reason = "serde asks for it")]
fn stale<S: serde::Serializer>(stale: &Option<(String, String)>, serializer: S) -> Result<S::Ok, S::Error> {
    let named =
        stale.as_ref().map(|(reason, action)| serde_json::json!({"reason": reason, "action": action}));
    named.serialize(serializer)
}

/// Explains the execution with this id (in its canonical form), or `None`: there is none.
pub async fn explain(
    database: &Database,
    judge: &Judge<'_>,
    id: &str,
) -> Result<Option<Explanation>, DbError> {
    let m = judge.mapping;
    let sql = statement(judge);
    let mut tx = database.read().await?;
    let query = judge.bind(sqlx::query(AssertSqlSafe(sql))).bind(vec![id.to_owned()]).persistent(false);
    let row = query.fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    let status: Option<String> = row.try_get("status")?;
    let reason: Option<String> = row.try_get("reason")?;
    Ok(Some(Explanation {
        now: decode::at(&row, "now")?,
        id: id.to_owned(),
        job_id: row.try_get("job_id")?,
        job_type: row.try_get("job_type")?,
        number: row.try_get("number")?,
        phase: status.as_deref().map_or(Phase::Unmapped, |text| m.phase(text)),
        status: status.unwrap_or_else(|| "NULL".to_owned()),
        started_at: decode::maybe_at(&row, "started_at")?,
        created_at: decode::maybe_at(&row, "created_at")?,
        completed_at: decode::maybe_at(&row, "completed_at")?,
        considered: considered(&row)?,
        counts_from: decode::maybe_at(&row, "counts_from")?,
        deadline: decode::maybe_at(&row, "deadline")?,
        evidence: evidence(judge, &row)?,
        stale: reason.zip(row.try_get("stale_action")?),
        action: row.try_get("action")?,
    }))
}

/// Whether there is a row with this id (in its canonical form) that is no execution of the application's: outside of
/// `table.filter`.
pub async fn outside(database: &Database, judge: &Judge<'_>, id: &str) -> Result<bool, DbError> {
    let m = judge.mapping;
    if !m.has_filter() {
        return Ok(false);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {} AS t WHERE {} = $1::text::{} AND ({}) IS NOT TRUE)",
        m.table(),
        m.id(),
        m.id_type().sql(),
        m.exists()
    );
    let mut tx = database.read().await?;
    let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(id).persistent(false).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(found)
}

/// Something that was done to an execution, or told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Record {
    /// When.
    #[sqlx(try_from = "At")]
    pub at: DateTime<Utc>,
    /// What, for example `Failed`.
    pub action: String,
    /// Why.
    pub reason: String,
    /// The object that says so.
    pub source: String,
    /// Who asked for it, as far as the Kubernetes API tells.
    pub actor: Option<String>,
    /// What else is to be said.
    pub note: Option<String>,
}

/// How many records are told at most.
const RECORDS: i64 = 20;

/// What is recorded of the execution, the latest last. Where nothing is recorded there is nothing.
pub async fn records(database: &Database, judge: &Judge<'_>, id: &str) -> Result<Vec<Record>, DbError> {
    let Rules::Table(store_id) = judge.rules else { return Ok(Vec::new()) };
    let mut tx = database.read().await?;
    let mut records: Vec<Record> = sqlx::query_as(
        "SELECT at, left(action, $4) AS action, left(reason, $4) AS reason, left(source, $4) AS source,
                left(actor, $4) AS actor, left(note, $4) AS note
         FROM jobexec.events WHERE store_id = $1 AND execution_id = $2 ORDER BY event_id DESC LIMIT $3",
    )
    .bind(store_id)
    .bind(id)
    .bind(RECORDS)
    .bind(RECORD_CHARS)
    .persistent(false)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    records.reverse();
    let held = held::known(database, store_id).await?;
    records.extend(held.get(id).map(|held| Record {
        at: held.since,
        action: held::PASSED_OVER.to_owned(),
        reason: "ExecutionsHeld".to_owned(),
        source: "the table".to_owned(),
        actor: None,
        note: Some(format!("another transaction has held its row since: {}", held.holder)),
    }));
    Ok(records)
}

/// The scopes, the most specific first, as the statement's columns begin.
const SCOPES: [&str; 4] = ["e", "j", "y", "b"];

fn statement(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let mut columns = Vec::new();
    for scope in SCOPES {
        for column in [
            "timeout",
            "timeout_rank",
            "timeout_source",
            "extend_by",
            "extend_source",
            "grace",
            "grace_source",
            "heartbeat",
            "heartbeat_source",
            "on_stale",
            "on_stale_source",
            "warn_after",
            "warn_percent",
            "warn_source",
            "overruled",
        ] {
            columns.push(format!("{scope}.{column} AS {scope}_{column}"));
        }
    }
    let null = || "NULL::timestamptz".to_owned();
    let since = match (judge.rules, m.job_finished()) {
        (Rules::Table(_), Some((_, grace))) => suspect(judge, Reason::JobFinished, grace),
        _ => null(),
    };
    let gone = match (judge.rules, judge.workloads) {
        (Rules::Table(_), Some(grace)) => suspect(judge, Reason::WorkloadGone, grace),
        _ => null(),
    };
    let finished = m.job_finished().map_or("NULL::boolean".to_owned(), |(finished, _)| {
        format!("EXISTS (SELECT FROM {} WHERE {} AND {finished})", m.jobs_table(), m.of_job())
    });
    let job_ended = m.job_finished_at().map_or_else(null, |at| {
        format!("(SELECT max({}) FROM {} WHERE {})", wire(&at), m.jobs_table(), m.of_job())
    });
    let unfinished = match (judge.rules, m.job_finished()) {
        (Rules::Table(_), Some(_)) => {
            format!(
                "EXISTS (SELECT FROM jobexec.observations AS o WHERE {})",
                judge.job_seen_unfinished("$4")
            )
        }
        _ => "false".to_owned(),
    };
    let successor = judge.single_active_execution.map_or_else(null, |grace| {
        let first = m.superseded_since(&judge.began_or_resumed(), grace);
        format!("{} + interval {}", wire(&first), literal(&interval(grace)))
    });
    let heartbeats = m.heartbeat_at();
    let (heartbeat, alive) =
        heartbeats.as_ref().map_or_else(|| (null(), null()), |at| (wire(at), judge.last_alive(at)));
    let lost =
        judge.heartbeat_lost_at().map_or_else(null, |at| format!("CASE WHEN {} THEN {at} END", m.judged()));
    let held = heartbeats.as_ref().map_or_else(
        || "false".to_owned(),
        |at| format!("{alive} > {} AND {running}", judge.known_alive(at), running = m.judged()),
    );
    let held_why = match judge.rules {
        Rules::Memory => "NULL::text".to_owned(),
        Rules::Table(_) => format!(
            "(SELECT left(s.heartbeats_why, {RECORD_CHARS}) FROM jobexec.stores AS s WHERE s.store_id = $4)"
        ),
    };
    format!(
        "WITH {ctes}
         SELECT statement_timestamp() AS now, {status} AS status, {job} AS job_id, {type_} AS job_type,
                {number}::bigint AS number, {start} AS started_at, {created} AS created_at, {end} AS completed_at,
                {counts_from} AS counts_from, {deadline} AS deadline, {promised} AS promised, v.action, v.heartbeat AS heartbeat_timeout,
                {heartbeat} AS heartbeat_at, {lost} AS heartbeat_lost_at,
                {held} AS heartbeat_held, {held_why} AS heartbeats_why,
                {finished} AS job_finished, {since} AS job_finished_at, {job_ended} AS job_ended_at,
                {unfinished} AS job_seen_unfinished, {successor} AS superseded_at,
                {gone} AS workload_gone_at, {detail} AS workload_detail,
                stale.reason, stale.action AS stale_action, {columns}
         FROM {table} AS t {joined} LEFT JOIN stale ON stale.id = {id}
         WHERE {id} = (${NEXT_PARAMETER}::text[]::{key}[])[1] AND {exists}",
        exists = m.exists(),
        ctes = judge.ctes(Take::LookAtThese),
        detail = judge.workload_detail(&format!("{}::text", m.id()), &m.began_at()),
        status = m.status_shown(),
        job = m.job_shown(),
        type_ = m.type_shown(),
        number = m.number(),
        start = wire(&m.started_at()),
        created = m.created_at().map_or_else(null, |at| wire(&at)),
        end = wire(&m.completed_at()),
        counts_from = judge.counts_from(),
        deadline = m.unless_paused(judge.deadline()),
        promised = judge.promised().unwrap_or_else(null),
        columns = columns.join(", "),
        table = m.table(),
        joined = judge.joined(),
        id = m.id(),
        key = m.id_type().sql(),
    )
}

/// When a suspect has been certain for so long; NULL: it is none.
fn suspect(judge: &Judge<'_>, reason: Reason, grace: TimeDelta) -> String {
    let m = judge.mapping;
    format!(
        "(SELECT {} FROM jobexec.suspects AS s WHERE s.store_id = $4 AND s.reason = '{}' AND {} = {} AND s.began_at = {} AND s.certain)",
        Judge::seen_for(grace),
        reason.as_str(),
        judge.suspect_key(),
        m.id(),
        m.began_at(),
    )
}

fn considered(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut all = timeouts(row)?;
    let length = |column: &str| -> Result<Option<String>, sqlx::Error> {
        let value: Option<PgInterval> = row.try_get(column)?;
        Ok(value.map(|value| crate::api::duration::format(delta(&value))))
    };
    for (field, column) in
        [("extendBy", "extend_by"), ("gracePeriod", "grace"), ("heartbeatTimeout", "heartbeat")]
    {
        let mut counts = true;
        let promised = decode::maybe_at(row, "promised")?.filter(|_| field == "extendBy");
        for scope in SCOPES {
            let Some(value) = length(&format!("{scope}_{column}"))? else { continue };
            let source = column.split('_').next().unwrap_or(column);
            let source = row.try_get(format!("{scope}_{source}_source").as_str())?;
            let mut said = one(field, value, source, &mut counts);
            if let Some(at) = promised.filter(|_| said.counts) {
                said.why = format!(
                    "the most specific; extended to at least {}, as promised when its timeout was longer",
                    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                )
                .into();
            }
            all.push(said);
        }
    }
    let mut counts = true;
    for scope in SCOPES {
        let Some(value) = row.try_get(format!("{scope}_on_stale").as_str())? else { continue };
        let source = row.try_get(format!("{scope}_on_stale_source").as_str())?;
        all.push(one("onStale", value, source, &mut counts));
    }
    let mut counts = true;
    for scope in SCOPES {
        let percent: Option<i32> = row.try_get(format!("{scope}_warn_percent").as_str())?;
        let percent = percent.map(|percent| format!("{percent} % of the timeout"));
        let Some(value) = length(&format!("{scope}_warn_after"))?.or(percent) else { continue };
        let source = row.try_get(format!("{scope}_warn_source").as_str())?;
        all.push(one("warnAfter", value, source, &mut counts));
    }
    for scope in SCOPES {
        let overruled: Option<List<String>> = row.try_get(format!("{scope}_overruled").as_str())?;
        for said in overruled.map_or_else(Vec::new, |list| list.0) {
            let Some((field, source)) = said.split_once(" of ") else { continue };
            let field = FIELDS.into_iter().find(|name| *name == field).unwrap_or("timeout");
            all.push(Considered {
                field: field.into(),
                value: "-".to_owned(),
                source: source.to_owned(),
                why: "another object of the same rank is older".into(),
                counts: false,
            });
        }
    }
    all.sort_by_key(|c| FIELDS.iter().position(|name| *name == c.field));
    Ok(all)
}

/// The fields in the order in which they are told.
const FIELDS: [&str; 7] =
    ["timeout", "dynamicTimeout", "extendBy", "gracePeriod", "heartbeatTimeout", "onStale", "warnAfter"];

/// The first one counts.
fn one(field: &'static str, value: String, source: String, counts: &mut bool) -> Considered {
    let first = std::mem::replace(counts, false);
    let why = if first { "the most specific" } else { "a more specific one counts" };
    Considered { field: field.into(), value, source, why: why.into(), counts: first }
}

/// Of timeouts the one of the lowest rank counts.
fn timeouts(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut found: Vec<(i16, String, String)> = Vec::new();
    for scope in SCOPES {
        let value: Option<PgInterval> = row.try_get(format!("{scope}_timeout").as_str())?;
        let Some(value) = value else { continue };
        let rank = row.try_get(format!("{scope}_timeout_rank").as_str())?;
        let source = row.try_get(format!("{scope}_timeout_source").as_str())?;
        found.push((rank, crate::api::duration::format(delta(&value)), source));
    }
    found.sort_by_key(|(rank, ..)| *rank);
    let mut counts = true;
    Ok(found
        .into_iter()
        .map(|(rank, value, source)| {
            // A policy's timeouts from history have the even ranks.
            let history = (10..40).contains(&rank) && rank % 10 == 0;
            let mut considered = one("timeout", value, source, &mut counts);
            if history && considered.counts {
                considered.why = "the most specific, from history".into();
            }
            considered
        })
        .collect())
}

fn evidence(judge: &Judge<'_>, row: &PgRow) -> Result<Vec<Evidence>, sqlx::Error> {
    let mut all = Vec::new();
    if judge.mapping.heartbeat_at().is_some() {
        let at: Option<DateTime<Utc>> = decode::maybe_at(row, "heartbeat_at")?;
        let timeout: Option<PgInterval> = row.try_get("heartbeat_timeout")?;
        let began: Option<DateTime<Utc>> = decode::maybe_at(row, "counts_from")?;
        let seen = match (at, timeout) {
            (_, None) => "no heartbeatTimeout is set".to_owned(),
            (None, Some(_)) => "there never was one, so that only the deadline counts".to_owned(),
            (Some(at), Some(timeout)) => format!(
                "the last one was at {}{}, and they may be {} apart",
                at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                if Some(at) < began { ", before it began" } else { "" },
                crate::api::duration::format(delta(&timeout))
            ),
        };
        let kept = matches!(judge.rules, Rules::Table(_));
        let stale_at = decode::maybe_at(row, "heartbeat_lost_at")?;
        let held = row.try_get::<Option<bool>, _>("heartbeat_held")?.unwrap_or_default();
        let why: Option<String> = row.try_get("heartbeats_why")?;
        let seen = match why.filter(|_| held && stale_at.is_some()) {
            Some(why) => format!("{seen}; that it is lost is held for one heartbeatTimeout, since {why}"),
            None if at.is_some() && !kept => format!(
                "{seen}; that it is lost does not count, since the operator's own tables are not there, in which it is kept whether \
                 workers stopped together: run `jobexec schema --apply`"
            ),
            None if at.is_some() && began.is_none() => {
                format!("{seen}; that it is lost does not count, since it is not known when this run began")
            }
            None => seen,
        };
        all.push(Evidence { reason: Reason::HeartbeatLost, seen, stale_at });
    }
    if let Some(finished) = row.try_get::<Option<bool>, _>("job_finished")? {
        all.push(job_finished(row, finished)?);
    }
    if judge.single_active_execution.is_some() {
        let stale_at: Option<DateTime<Utc>> = decode::maybe_at(row, "superseded_at")?;
        let seen = if stale_at.is_some() {
            "a later execution of its job has run since it started"
        } else {
            "no later execution of its job has run since it started"
        };
        all.push(Evidence { reason: Reason::Superseded, seen: seen.to_owned(), stale_at });
    }
    if judge.workloads.is_some() {
        let stale_at: Option<DateTime<Utc>> = decode::maybe_at(row, "workload_gone_at")?;
        let detail: Option<String> = row.try_get("workload_detail")?;
        let seen = match (stale_at.is_some(), detail) {
            (true, Some(why)) => format!("its Job or Pod has failed or is gone: {why}"),
            (true, None) => "its Job or Pod has failed or is gone".to_owned(),
            (false, Some(why)) => format!(
                "its Job or Pod is there: {why}, so that only a person has it ended for that (jobexec cleanup --reason \
                 WorkloadRecreated)"
            ),
            (false, None) => "its Job or Pod is not known to be gone".to_owned(),
        };
        all.push(Evidence { reason: Reason::WorkloadGone, seen, stale_at });
    }
    Ok(all)
}

/// What is known of a job that is finished now, or is not.
fn job_finished(row: &PgRow, finished: bool) -> Result<Evidence, sqlx::Error> {
    let stale_at: Option<DateTime<Utc>> = decode::maybe_at(row, "job_finished_at")?;
    let ended: Option<DateTime<Utc>> = decode::maybe_at(row, "job_ended_at")?;
    let started: Option<DateTime<Utc>> = decode::maybe_at(row, "started_at")?;
    let began = started.or(decode::maybe_at(row, "created_at")?);
    let unfinished: bool = row.try_get("job_seen_unfinished")?;
    let at = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let seen = match (finished, stale_at.is_some(), ended) {
        (false, ..) => "its job is not finished".to_owned(),
        (true, true, _) if unfinished => "its job has finished while it ran".to_owned(),
        (true, true, Some(ended)) => format!("its job has finished at {}, after it began", at(ended)),
        (true, true, None) => "its job has finished while it ran".to_owned(),
        (true, false, _) if unfinished => {
            "its job has finished while it ran, which the operator has not seen yet".to_owned()
        }
        (true, false, Some(ended)) if Some(ended) <= began => format!(
            "its job has finished at {}, before it began: that was an earlier run, and says nothing of this one",
            at(ended)
        ),
        (true, false, _) => "its job is finished, and the operator has not seen it finish while this ran: that may be the end of \
             an earlier run, so that only a person has it ended for that (jobexec cleanup --reason JobFinished)"
            .to_owned(),
    };
    Ok(Evidence { reason: Reason::JobFinished, seen, stale_at: stale_at.filter(|_| finished) })
}

impl Explanation {
    /// When it will be stale if nothing changes, and why: the earliest of its deadline and the evidence. Only what runs can be.
    pub fn stale_at(&self) -> Option<(DateTime<Utc>, Reason)> {
        if self.phase != Phase::Running {
            return None;
        }
        let evidence = self.evidence.iter().filter_map(|e| Some((e.stale_at?, e.reason)));
        let deadline = self.deadline.map(|at| (at, Reason::DeadlineExceeded));
        deadline.into_iter().chain(evidence).min_by_key(|(at, _)| *at)
    }

    /// From when its time counts and why, where that is not its start.
    pub fn counts_otherwise(&self) -> Option<(DateTime<Utc>, String)> {
        let from = self.counts_from?;
        let Some(start) = self.started_at else {
            let why = if self.created_at == Some(from) {
                "its creation"
            } else {
                "when it was first seen running in the present version of its row"
            };
            return Some((from, format!("{why}, since it has no start")));
        };
        let base = start.max(self.created_at.unwrap_or(start));
        let mut why = Vec::new();
        if base > start {
            why.push("its creation, which is later than its start".to_owned());
        }
        if base - start >= TimeDelta::minutes(CLOCKS_MAY_DIFFER_MINUTES.into()) {
            let ask = "StartedBeforeCreated: do those who write both use one clock and time zone?";
            why.push(ask.to_owned());
        }
        let paused = TimeDelta::seconds((from - base).num_seconds());
        if paused > TimeDelta::zero() {
            why.push(format!("later by {}, for which it was paused", crate::api::duration::format(paused)));
        }
        (!why.is_empty()).then(|| (from, why.join("; ")))
    }

    /// How long it has run.
    pub fn runtime(&self) -> Option<TimeDelta> {
        Some(self.completed_at.unwrap_or(self.now) - self.started_at?)
    }
}
