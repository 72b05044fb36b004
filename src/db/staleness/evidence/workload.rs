//! `WorkloadGone`: the Job or Pod that runs the execution has failed or is gone. `crate::db::workloads` records which.

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{Finding, Kind};
use crate::api::ExecutionStoreSpec;
use crate::db::decode;
use crate::db::reason::Reason;
use crate::db::staleness::{Rules, Selection, StalenessPredicate};

pub(super) struct Workload;

impl Kind for Workload {
    fn reason(&self) -> Reason {
        Reason::WorkloadGone
    }

    fn is_configured(&self, spec: &ExecutionStoreSpec) -> bool {
        spec.workloads.is_some()
    }

    fn stored(&self) -> Option<&'static str> {
        Some("workloads that are gone")
    }

    fn note(&self, predicate: &StalenessPredicate<'_>, id: &str, began: &str) -> Option<String> {
        Some(predicate.workload_detail(id, began))
    }

    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String> {
        let Some(grace) = predicate.workloads else { return Vec::new() };
        predicate.confirmed_suspects(self.reason(), grace, "", "", selection).into_iter().collect()
    }

    fn columns(&self, predicate: &StalenessPredicate<'_>) -> Vec<(String, &'static str)> {
        let Some(grace) = predicate.workloads else { return Vec::new() };
        let gone = match predicate.rules {
            Rules::Table(_) => predicate.suspect_until(self.reason(), grace),
            Rules::Memory => "NULL::timestamptz".to_owned(),
        };
        let m = predicate.mapping;
        let detail = predicate.workload_detail(&format!("{}::text", m.id()), &m.began_at());
        vec![(gone, "workload_gone_at"), (detail, "workload_detail")]
    }

    fn explain(
        &self,
        predicate: &StalenessPredicate<'_>,
        row: &PgRow,
    ) -> Result<Option<Finding>, sqlx::Error> {
        if predicate.workloads.is_none() {
            return Ok(None);
        }
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
        Ok(Some(Finding { reason: self.reason(), seen, stale_at }))
    }
}
