//! Evidence that may belong to an earlier run: it is reported, and only a person can confirm it and end the execution.
//!
//! The expressions are assembled here: which columns there are, and whether the operator has tables of its own, depends on the
//! store.

use chrono::TimeDelta;

use super::{Rules, Selection, StalenessPredicate};
use crate::db::intervals::interval;
use crate::db::mapping::literal;
use crate::db::observations::Kind;
use crate::db::reason::Reason;
use crate::db::suspicion::{NotAsked, Suspicion};

impl StalenessPredicate<'_> {
    /// Returns two conditions on the row `execution` and its `job`, if the time at which a job finished is mapped: that the job
    /// finished after the row began, and that it did not. Neither holds if one of the times is unknown. `store_id` is the parameter
    /// with the store's id in the operator's tables.
    pub(in crate::db) fn job_finished_while_running(&self, store_id: &str) -> Option<(String, String)> {
        let (began, finished) = (self.began_running(store_id), self.mapping.job_finished_at()?);
        // A job cannot have finished in the future.
        let later = format!("({finished} > {began} AND {finished} <= statement_timestamp())");
        Some((later, format!("({finished} <= {began})")))
    }

    /// Returns the condition that the row `execution` sent a heartbeat after its `job` had finished: then it is alive, or is
    /// another run in the same row, and the job's finish is not its end. `None`: one of the two times is not mapped.
    pub(in crate::db) fn outlived_its_job(&self) -> Option<String> {
        let (heartbeat, finished) = (self.mapping.heartbeat_at()?, self.mapping.job_finished_at()?);
        Some(format!("({heartbeat} > {finished})"))
    }

    /// Returns the condition that, by the `observation`, the job of the row `execution` was seen unfinished while the row ran.
    /// `store_id` is the parameter with the store's id in the operator's tables.
    pub(in crate::db) fn job_seen_unfinished(&self, store_id: &str) -> String {
        let m = self.mapping;
        format!(
            "observation.store_id = {store_id} AND observation.kind = '{kind}' AND observation.execution_id = {id}::text AND observation.started_at = {began} \
             AND observation.detail = {digest}",
            id = m.id(),
            began = m.began_at(),
            kind = Kind::JobUnfinished.as_str(),
            digest = m.job_finished_digest(),
        )
    }

    /// Returns the condition that the running row `execution` is a suspect: its `job` is finished, which may be the end of an
    /// earlier run. The row must have run for the grace period, so that a job whose status follows its execution is not reported.
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

    /// Returns the condition that the row `execution` is a `suspect` for this reason and that `more` holds, where suspects are
    /// stored.
    pub(super) fn is_suspect(&self, reason: &str, more: &str) -> Option<String> {
        let Rules::Table(_) = self.rules else { return None };
        let m = self.mapping;
        Some(format!(
            "EXISTS (SELECT FROM jobexec.suspects AS suspect WHERE suspect.store_id = $4 AND suspect.reason = '{reason}'
                     AND suspect.execution_id = {}::text AND suspect.began_at = {} {more})",
            m.id(),
            m.began_at(),
        ))
    }

    /// Returns when the row `execution` has been a certain suspect for the grace period; NULL: it is no suspect. Suspects are
    /// stored.
    pub(super) fn suspect_until(&self, reason: Reason, grace: TimeDelta) -> String {
        let m = self.mapping;
        format!(
            "(SELECT {} FROM jobexec.suspects AS suspect WHERE suspect.store_id = $4 AND suspect.reason = '{}' AND {} = {} AND suspect.began_at = {} AND suspect.certain)",
            Self::seen_for(grace),
            reason.as_str(),
            self.suspect_key(),
            m.id(),
            m.began_at(),
        )
    }

    /// Returns the condition that the operator itself will end the row `execution` because its job finished, if nothing changes.
    pub(in crate::db) fn job_certain(&self) -> String {
        let certain = self.is_suspect(Reason::JobFinished.as_str(), "AND suspect.certain");
        certain.unwrap_or_else(|| "false".to_owned())
    }

    /// Returns the condition that another workload has the name of the one that ran the row `execution`, where that is only
    /// reported.
    pub(in crate::db) fn workload_made_again(&self) -> Option<String> {
        self.workloads?;
        self.is_suspect(Suspicion::WorkloadRecreated.as_str(), "")
    }

    /// Returns the suspects that a person confirms, and the executions that are stale by the same evidence.
    pub(super) fn by_confirmed_suspicion(&self, suspicion: Suspicion, selection: Selection) -> Vec<String> {
        let m = self.mapping;
        let mut branches = Vec::new();
        match suspicion {
            Suspicion::JobFinished => {
                branches.extend(self.by_job_status(selection));
                if let Some(suspected) = self.job_suspected() {
                    let jobs = format!("JOIN {} ON {}", m.jobs_table(), m.of_job());
                    branches.push(self.by_evidence(suspicion.reason(), &jobs, &suspected, selection));
                }
            }
            Suspicion::WorkloadRecreated => {
                let again = self.workload_made_again();
                branches
                    .extend(again.map(|again| self.by_evidence(suspicion.reason(), "", &again, selection)));
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

    /// Returns the suspicion that a person confirms, if the request contains one.
    pub(in crate::db) fn confirmed(&self) -> Option<Suspicion> {
        self.asked.and_then(|asked| asked.suspicion)
    }

    /// Checks whether the store can have such suspects.
    ///
    /// # Errors
    /// [`NotAsked`] if the store does not collect the evidence for them.
    pub fn suspects(&self, suspicion: Suspicion) -> Result<(), NotAsked> {
        let known = match suspicion {
            Suspicion::JobFinished => self.mapping.job_finished().is_some(),
            Suspicion::WorkloadRecreated => self.workload_made_again().is_some(),
        };
        if known { Ok(()) } else { Err(NotAsked(suspicion)) }
    }
}
