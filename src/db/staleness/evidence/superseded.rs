//! `Superseded`: a later execution of the job ran, and the executions of a job do not overlap.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;

use super::{Finding, Kind};
use crate::api::ExecutionStoreSpec;
use crate::db::decode;
use crate::db::intervals::interval;
use crate::db::mapping::{clamp_timestamp, literal};
use crate::db::reason::Reason;
use crate::db::staleness::{Selection, StalenessPredicate};

pub(super) struct Superseded;

impl Kind for Superseded {
    fn reason(&self) -> Reason {
        Reason::Superseded
    }

    fn is_configured(&self, spec: &ExecutionStoreSpec) -> bool {
        spec.single_active_execution.is_some()
    }

    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String> {
        let Some(grace) = predicate.single_active_execution else { return Vec::new() };
        let cutoff = StalenessPredicate::before(grace);
        let began = predicate.began_or_resumed();
        let more =
            format!("{began} IS NOT NULL AND {}", predicate.mapping.superseded_by(&began, &cutoff, grace));
        vec![predicate.by_evidence(self.reason(), "", &more, selection)]
    }

    fn columns(&self, predicate: &StalenessPredicate<'_>) -> Vec<(String, &'static str)> {
        let Some(grace) = predicate.single_active_execution else { return Vec::new() };
        let first = predicate.mapping.superseded_since(&predicate.began_or_resumed(), grace);
        vec![(
            format!("{} + interval {}", clamp_timestamp(&first), literal(&interval(grace))),
            "superseded_at",
        )]
    }

    fn explain(
        &self,
        predicate: &StalenessPredicate<'_>,
        row: &PgRow,
    ) -> Result<Option<Finding>, sqlx::Error> {
        if predicate.single_active_execution.is_none() {
            return Ok(None);
        }
        let stale_at: Option<DateTime<Utc>> = decode::maybe_at(row, "superseded_at")?;
        let seen = if stale_at.is_some() {
            "a later execution of its job has run since it started"
        } else {
            "no later execution of its job has run since it started"
        };
        Ok(Some(Finding { reason: self.reason(), seen: seen.to_owned(), stale_at }))
    }
}
