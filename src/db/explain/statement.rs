//! The statement that reads one execution, with every rule that could govern it and all evidence.

use crate::db::Judge;
use crate::db::judge::evidence::ALL;
use crate::db::judge::{NEXT_PARAMETER, Take};
use crate::db::mapping::wire;

/// The scopes, the most specific first, as prefixes of the statement's columns.
pub(super) const SCOPES: [&str; 4] = ["execution_rule", "job_rule", "type_rule", "store_defaults"];

pub(super) fn statement(judge: &Judge<'_>) -> String {
    let m = judge.mapping;
    let null = || "NULL::timestamptz".to_owned();
    let evidence = ALL.iter().flat_map(|kind| kind.columns(judge));
    let evidence: String =
        evidence.map(|(expression, name)| format!("{expression} AS {name},\n                ")).collect();
    format!(
        "WITH {ctes}
         SELECT statement_timestamp() AS now, {status} AS status, {job} AS job_id, {type_} AS job_type,
                {number}::bigint AS number, {start} AS started_at, {created} AS created_at, {end} AS completed_at,
                {counts_from} AS counts_from, {deadline} AS deadline, {promised} AS promised, verdict.action,
                {evidence}stale.reason, stale.action AS stale_action, {columns}
         FROM {table} AS execution {joined} LEFT JOIN stale ON stale.id = {id}
         WHERE {id} = (${NEXT_PARAMETER}::text[]::{key}[])[1] AND {exists}",
        exists = m.exists(),
        ctes = judge.ctes(Take::LookAtThese),
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
