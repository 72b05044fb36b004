//! `Superseded`: a later execution of the job ran, and the executions of a job do not overlap.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;

use super::{Finding, Kind};
use crate::api::ExecutionStoreSpec;
use crate::db::decode;
use crate::db::intervals::interval;
use crate::db::judge::{Judge, Take};
use crate::db::mapping::{literal, wire};
use crate::db::reason::Reason;

pub(super) struct Superseded;

impl Kind for Superseded {
    fn reason(&self) -> Reason {
        Reason::Superseded
    }

    fn is_configured(&self, spec: &ExecutionStoreSpec) -> bool {
        spec.single_active_execution.is_some()
    }

    fn stale(&self, judge: &Judge<'_>, take: Take) -> Vec<String> {
        let Some(grace) = judge.single_active_execution else { return Vec::new() };
        let cutoff = Judge::before(grace);
        let began = judge.began_or_resumed();
        let more = format!("{began} IS NOT NULL AND {}", judge.mapping.superseded_by(&began, &cutoff, grace));
        vec![judge.by_evidence(self.reason(), "", &more, take)]
    }

    fn columns(&self, judge: &Judge<'_>) -> Vec<(String, &'static str)> {
        let Some(grace) = judge.single_active_execution else { return Vec::new() };
        let first = judge.mapping.superseded_since(&judge.began_or_resumed(), grace);
        vec![(format!("{} + interval {}", wire(&first), literal(&interval(grace))), "superseded_at")]
    }

    fn explain(&self, judge: &Judge<'_>, row: &PgRow) -> Result<Option<Finding>, sqlx::Error> {
        if judge.single_active_execution.is_none() {
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
