//! The evidence besides the deadline, in words.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use super::explanation::Evidence;
use crate::api::duration;
use crate::db::intervals::delta;
use crate::db::judge::Rules;
use crate::db::reason::Reason;
use crate::db::{Judge, decode};

pub(super) fn evidence(judge: &Judge<'_>, row: &PgRow) -> Result<Vec<Evidence>, sqlx::Error> {
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
                at.to_rfc3339_opts(SecondsFormat::Secs, true),
                if Some(at) < began { ", before it began" } else { "" },
                duration::format(delta(&timeout))
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

/// Describes whether the job is finished, and whether it finished during this run.
fn job_finished(row: &PgRow, finished: bool) -> Result<Evidence, sqlx::Error> {
    let stale_at: Option<DateTime<Utc>> = decode::maybe_at(row, "job_finished_at")?;
    let ended: Option<DateTime<Utc>> = decode::maybe_at(row, "job_ended_at")?;
    let started: Option<DateTime<Utc>> = decode::maybe_at(row, "started_at")?;
    let began = started.or(decode::maybe_at(row, "created_at")?);
    let unfinished: bool = row.try_get("job_seen_unfinished")?;
    let at = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
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
