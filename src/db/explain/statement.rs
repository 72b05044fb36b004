//! The statement that reads one execution, with every rule that could govern it and all evidence.

use chrono::TimeDelta;

use crate::db::Judge;
use crate::db::intervals::interval;
use crate::db::judge::{NEXT_PARAMETER, Rules, Take};
use crate::db::mapping::{RECORD_CHARS, literal, wire};
use crate::db::reason::Reason;

/// The scopes, the most specific first, as prefixes of the statement's columns.
pub(super) const SCOPES: [&str; 4] = ["e", "j", "y", "b"];

pub(super) fn statement(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let null = || "NULL::timestamptz".to_owned();
    let gone = match (judge.rules, judge.workloads) {
        (Rules::Table(_), Some(grace)) => suspect(judge, Reason::WorkloadGone, grace),
        _ => null(),
    };
    let successor = judge.single_active_execution.map_or_else(null, |grace| {
        let first = m.superseded_since(&judge.began_or_resumed(), grace);
        format!("{} + interval {}", wire(&first), literal(&interval(grace)))
    });
    format!(
        "WITH {ctes}
         SELECT statement_timestamp() AS now, {status} AS status, {job} AS job_id, {type_} AS job_type,
                {number}::bigint AS number, {start} AS started_at, {created} AS created_at, {end} AS completed_at,
                {counts_from} AS counts_from, {deadline} AS deadline, {promised} AS promised, v.action, v.heartbeat AS heartbeat_timeout,
                {heartbeat},
                {job_finished}, {successor} AS superseded_at,
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
        columns = columns(),
        heartbeat = heartbeat(judge),
        job_finished = job_finished(judge),
        table = m.table(),
        joined = judge.joined(),
        id = m.id(),
        key = m.id_type().sql(),
    )
}

/// Returns the columns with the settings of each rule that could govern the row.
fn columns() -> String {
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
    columns.join(", ")
}

/// Returns the columns about the heartbeats of the row.
fn heartbeat(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let null = || "NULL::timestamptz".to_owned();
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
        "{heartbeat} AS heartbeat_at, {lost} AS heartbeat_lost_at,
                {held} AS heartbeat_held, {held_why} AS heartbeats_why"
    )
}

/// Returns the columns about the end of the row's job.
fn job_finished(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let null = || "NULL::timestamptz".to_owned();
    let since = match (judge.rules, m.job_finished()) {
        (Rules::Table(_), Some((_, grace))) => suspect(judge, Reason::JobFinished, grace),
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
    format!(
        "{finished} AS job_finished, {since} AS job_finished_at, {job_ended} AS job_ended_at,
                {unfinished} AS job_seen_unfinished"
    )
}

/// Returns when the row has been a certain suspect for the grace period; NULL: it is no suspect.
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
