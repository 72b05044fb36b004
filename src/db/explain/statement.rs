//! The statement that reads one execution, with every rule that could govern it and all evidence.
//!
//! The columns are assembled here: each kind of evidence has its own, and each rule the same.

use crate::db::StalenessPredicate;
use crate::db::mapping::clamp_timestamp;
use crate::db::rules::settings::of_each;
use crate::db::staleness::evidence::ALL;
use crate::db::staleness::{NEXT_PARAMETER, Selection};

/// The scopes, the most specific first, as prefixes of the statement's columns.
pub(super) const SCOPES: [&str; 4] = ["execution_rule", "job_rule", "type_rule", "store_defaults"];

pub(super) fn statement(predicate: &StalenessPredicate<'_>) -> String {
    let m = predicate.mapping;
    let null = || "NULL::timestamptz".to_owned();
    let checkpoint = m.checkpoint_at().map(|at| (clamp_timestamp(&at), "checkpoint_at"));
    let evidence = checkpoint.into_iter().chain(ALL.iter().flat_map(|kind| kind.columns(predicate)));
    let evidence: String =
        evidence.map(|(expression, name)| format!("{expression} AS {name},\n       ")).collect();
    format!(
        include_str!("explain.sql"),
        predicate = predicate.ctes(Selection::LookAtThese),
        status = m.status_shown(),
        job_id = m.job_shown(),
        job_type = m.type_shown(),
        number = m.number(),
        started_at = clamp_timestamp(&m.started_at()),
        created_at = m.created_at().map_or_else(null, |at| clamp_timestamp(&at)),
        completed_at = clamp_timestamp(&m.completed_at()),
        counts_from = predicate.counts_from(),
        deadline = m.unless_paused(predicate.deadline()),
        promised = predicate.promised().unwrap_or_else(null),
        own_timeout = predicate.row_timeout().unwrap_or_else(|| "NULL::interval".to_owned()),
        own_source = predicate.row_source(),
        evidence = evidence,
        settings = of_each(&SCOPES),
        table = m.table(),
        rules_of_row = predicate.joined(),
        id = m.id(),
        ids = NEXT_PARAMETER,
        id_type = m.id_type().sql(),
        exists = m.exists(),
    )
}
