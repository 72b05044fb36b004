//! Evidence that may be of an earlier run: it is reported, and only a person has an execution ended for it.

use super::{Judge, Rules, Take};
use crate::db::intervals::interval;
use crate::db::mapping::literal;
use crate::db::observations::Kind;
use crate::db::reason::Reason;
use crate::db::suspicion::{NotAsked, Suspicion};

impl Judge<'_> {
    /// Conditions on the row `t` and its job `p`, where it is mapped when a job finished: that it did after the row began, and
    /// that it did not. Neither holds where that is not known. `store_id` is the parameter with the store's id in the operator's
    /// tables.
    pub(in crate::db) fn job_finished_while_running(&self, store_id: &str) -> Option<(String, String)> {
        let (began, finished) = (self.began_running(store_id), self.mapping.job_finished_at()?);
        // A time to come is no time at which something has finished.
        let later = format!("({finished} > {began} AND {finished} <= statement_timestamp())");
        Some((later, format!("({finished} <= {began})")))
    }

    /// The condition that the row `t` sent a heartbeat after its job `p` had finished: then it lives, or is another run in the same row,
    /// and what finished the job is not its end. `None`: one of the two is not mapped.
    pub(in crate::db) fn outlived_its_job(&self) -> Option<String> {
        let (heartbeat, finished) = (self.mapping.heartbeat_at()?, self.mapping.job_finished_at()?);
        Some(format!("({heartbeat} > {finished})"))
    }

    /// The condition that the observation `o` says that the job of the row `t` was seen unfinished while it ran. `store_id` is the
    /// parameter with the store's id in the operator's tables.
    pub(in crate::db) fn job_seen_unfinished(&self, store_id: &str) -> String {
        let m = self.mapping;
        format!(
            "o.store_id = {store_id} AND o.kind = '{kind}' AND o.execution_id = {id}::text AND o.started_at = {began} \
             AND o.detail = {digest}",
            id = m.id(),
            began = m.began_at(),
            kind = Kind::JobUnfinished.as_str(),
            digest = m.job_finished_digest(),
        )
    }

    /// The condition that the row `t`, which runs, is a suspect: its job `p` is finished, which may be the end of an earlier run.
    /// It must have run for the grace period, so that a job whose status follows its execution is not told of.
    pub(in crate::db) fn job_suspected(&self) -> Option<String> {
        let m = self.mapping;
        let (finished, grace) = m.job_finished()?;
        let not_earlier = self
            .job_finished_while_running("$4")
            .map_or(String::new(), |(_, earlier)| format!("AND {earlier} IS NOT TRUE"));
        Some(format!(
            "{finished} AND {began} <= statement_timestamp() - interval {grace} {not_earlier}",
            began = self.began_running("$4"),
            grace = literal(&interval(grace)),
        ))
    }

    /// The condition that the row `t` is a suspect `s` for this reason, and that `more` holds, where that is kept.
    pub(super) fn is_suspect(&self, reason: &str, more: &str) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        let m = self.mapping;
        Some(format!(
            "EXISTS (SELECT FROM jobexec.suspects AS s WHERE s.store_id = $4 AND s.reason = '{reason}'
                     AND s.execution_id = {}::text AND s.began_at = {} {more})",
            m.id(),
            m.began_at(),
        ))
    }

    /// The condition that the operator will end the row `t` by itself for its finished job, if nothing changes.
    pub(in crate::db) fn job_certain(&self) -> String {
        let certain = self.is_suspect(Reason::JobFinished.as_str(), "AND s.certain");
        certain.unwrap_or_else(|| "false".to_owned())
    }

    /// The condition that another workload has the name of the one that ran the row `t`, where that is only reported.
    pub(in crate::db) fn workload_made_again(&self) -> Option<String> {
        self.workloads?;
        self.is_suspect(Suspicion::WorkloadRecreated.as_str(), "")
    }

    /// Those that a person has ended for what they are suspected of, and those that are stale by the same evidence.
    pub(super) fn by_confirmed_suspicion(&self, suspicion: Suspicion, take: Take) -> Vec<String> {
        let m = self.mapping;
        let mut branches = Vec::new();
        match suspicion {
            Suspicion::JobFinished => {
                branches.extend(self.by_job_status(take));
                if let Some(suspected) = self.job_suspected() {
                    let jobs = format!("JOIN {} ON {}", m.jobs_table(), m.of_job());
                    branches.push(self.by_evidence(suspicion.reason(), &jobs, &suspected, take));
                }
            }
            Suspicion::WorkloadRecreated => {
                let again = self.workload_made_again();
                branches.extend(again.map(|again| self.by_evidence(suspicion.reason(), "", &again, take)));
            }
        }
        if branches.is_empty() {
            branches.push(format!(
                "SELECT NULL::{} AS id, NULL AS reason, NULL AS action, 0 AS place WHERE false",
                m.id_type().sql()
            ));
        }
        branches
    }

    /// What a person confirms, if that is what is asked.
    pub(in crate::db) fn confirmed(&self) -> Option<Suspicion> {
        self.asked.and_then(|asked| asked.suspicion)
    }

    /// Whether the store can have such suspects.
    ///
    /// # Errors
    /// It cannot: what makes one is not mapped.
    pub fn suspects(&self, suspicion: Suspicion) -> Result<(), NotAsked> {
        let known = match suspicion {
            Suspicion::JobFinished => self.mapping.job_finished().is_some(),
            Suspicion::WorkloadRecreated => self.workload_made_again().is_some(),
        };
        if known { Ok(()) } else { Err(NotAsked(suspicion)) }
    }
}
