//! Which stale executions are retried, by their reason, and when the worker of one is known to be gone.

use super::evidence::{self, Beats};
use super::{Rules, Selection, StalenessPredicate};
use crate::api::OnStale;
use crate::api::retry::{OverBudget, RetryMethod};
use crate::db::mapping::{clamp_timestamp, literal};
use crate::db::reason::Reason;
use crate::rules::Retry;

/// Whether, and how many, executions may be retried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryLimits {
    /// True if executions may be retried. Otherwise they are failed, and their retries wait.
    pub possible: bool,
    /// The maximum number of retries within an hour; `None`: any number.
    pub budget: Option<i64>,
    /// The action on retries beyond the budget.
    pub over_budget: OverBudget,
}

impl RetryLimits {
    /// No restriction.
    pub const NONE: Self = Self { possible: true, budget: None, over_budget: OverBudget::Hold };
}

impl StalenessPredicate<'_> {
    /// Reports whether stale executions can be retried. The operator retries no execution itself without a record.
    pub(in crate::db) fn can_retry(&self) -> bool {
        let recorded = matches!(self.rules, Rules::Table(_));
        self.mapping.retry_method().is_some_and(|method| method == RetryMethod::Trigger || recorded)
    }

    /// Returns the retry settings for the row `execution`, by its `verdict`, whatever the action on it.
    pub(in crate::db) fn retry_settings_of_row(&self) -> String {
        self.retry_or_default(if self.may_retry() { "verdict.retry" } else { "NULL::jsonb" })
    }

    /// Reports whether a rule in effect has executions retried.
    fn may_retry(&self) -> bool {
        self.can_retry() && self.effective_rules.may_retry()
    }

    /// Returns the retry settings without a policy.
    fn default_retry(&self) -> Retry {
        Retry::by_default(self.mapping.retry_method().unwrap_or(RetryMethod::Trigger))
    }

    /// Returns the actions on stale executions that are not retried for their reason.
    pub(super) fn instead_of_retries(&self) -> Vec<OnStale> {
        let rules = self.effective_rules.rules.iter().filter_map(|rule| rule.retry.as_ref());
        let all = rules.chain(&self.effective_rules.base.retry).map(|retry| retry.value.otherwise());
        if self.may_retry() { all.collect() } else { Vec::new() }
    }

    /// Returns the action by default on an execution that is stale for this reason.
    pub(super) fn by_default_for(&self, reason: Reason) -> OnStale {
        let base = &self.effective_rules.base;
        let retry = base.retry.as_ref().map_or_else(|| self.default_retry(), |retry| retry.value.clone());
        let retries = self.retries_manually(reason)
            || retry.reasons.iter().any(|for_reason| for_reason.as_str() == reason.as_str());
        match base.on_stale.value {
            OnStale::Retry if self.may_retry() && !retries => retry.otherwise(),
            action => action,
        }
    }

    /// Returns the beginning of the order of the reasons for which one row is stale: one that does not have it retried comes first.
    pub(super) fn most_cautious_first(&self) -> String {
        if self.may_retry() { format!("action = '{}', ", OnStale::Retry.as_str()) } else { String::new() }
    }

    /// Returns the query `stale` without the rows that another reason does not have retried. Another statement ends those, but it
    /// skips rows that are locked, and a reason may have come up since.
    pub(super) fn unless_otherwise_stale(&self, stale: String) -> String {
        if self.action != Some(OnStale::Retry) {
            return stale;
        }
        let others = self.actions().into_iter().filter(|action| *action != OnStale::Retry);
        let branches: Vec<String> = others
            .flat_map(|action| self.with_action(action).branches(Selection::Candidates))
            .map(|branch| format!("(SELECT id FROM {branch} AS other)"))
            .collect();
        if branches.is_empty() {
            return stale;
        }
        format!(
            "WITH candidate AS MATERIALIZED ({stale}) SELECT * FROM candidate WHERE id NOT IN ({})",
            branches.join(" UNION ALL ")
        )
    }

    /// Returns the column `retry` of a `verdict`, where a rule has executions retried.
    pub(super) fn retry_settings(&self) -> String {
        if self.may_retry() {
            ", COALESCE(job_rule.retry, type_rule.retry, store_defaults.retry) AS retry".to_owned()
        } else {
            String::new()
        }
    }

    /// Returns the `action` on the stale row `execution`, or `Fail` if its attempts are used up.
    pub(in crate::db) fn action_now(&self, action: &str) -> String {
        let m = self.mapping;
        if !self.may_retry() || !m.retries_by_operator() {
            return action.to_owned();
        }
        format!(
            "CASE WHEN {action} = 'Retry' AND {attempt} >= ({settings} ->> 'max_attempts')::numeric THEN 'Fail' ELSE {action} END",
            attempt = m.counted_attempt(&m.attempt(), &attempts_before(&m.id(), "$4")),
            settings = self.retry_or_default("verdict.retry"),
        )
    }

    /// Returns the `action` on the stale row `execution`, or `Fail` if it is failed first, and runs again later or in another row.
    pub(in crate::db) fn action_at_once(&self, action: &str) -> String {
        if !self.mapping.retries_by_operator() {
            return action.to_owned();
        }
        let in_place = self.mapping.retry_method() == Some(RetryMethod::InPlace);
        let at_once = if self.may_retry() && in_place && self.retries.possible {
            format!(
                "({now}) = 'Retry' AND ({settings} ->> 'after_ms' IS NOT NULL OR stale.reason = '{gone}')",
                now = self.action_now(action),
                settings = self.retry_or_default("verdict.retry"),
                gone = Reason::WorkloadGone.as_str(),
            )
        } else {
            "false".to_owned()
        };
        format!("CASE WHEN {action} = 'Retry' AND ({at_once}) IS NOT TRUE THEN 'Fail' ELSE {action} END")
    }

    /// Returns the action, by its `verdict`, on an execution that is stale for this reason.
    pub(super) fn action_for(&self, reason: Reason) -> String {
        self.action_by(reason, "verdict.action", "verdict.retry")
    }

    /// Returns the action on an execution with this `action` and these `retry` settings that is stale for this reason.
    pub(super) fn action_by(&self, reason: Reason, action: &str, retry: &str) -> String {
        if !self.may_retry() || self.retries_manually(reason) {
            return action.to_owned();
        }
        // What a person confirms may live.
        let possible =
            if self.confirmed().is_some() && self.mapping.retries_by_operator() { "false" } else { "true" };
        format!(
            "CASE WHEN {action} <> 'Retry' OR {possible} AND {settings} -> 'reasons' ? '{reason}' THEN {action} \
             ELSE COALESCE({settings} ->> 'otherwise', 'Fail') END",
            settings = self.retry_or_default(retry),
            reason = reason.as_str(),
        )
    }

    /// Returns these `retry` settings, or those without a policy.
    pub(in crate::db) fn retry_or_default(&self, retry: &str) -> String {
        // Infallible: the settings contain only texts, numbers and null.
        let default = literal(&serde_json::to_string(&self.default_retry()).unwrap_or_default());
        if self.mapping.retries_by_operator() {
            // Those without a limit were made for a table whose job system has one.
            format!("CASE WHEN {retry} ->> 'max_attempts' IS NOT NULL THEN {retry} ELSE {default}::jsonb END")
        } else {
            format!("COALESCE({retry}, {default}::jsonb)")
        }
    }

    /// Reports whether a manual request retries: the job system's own code would do so. Where the operator itself retries, a person
    /// who has an execution ended wants it ended.
    fn retries_manually(&self, reason: Reason) -> bool {
        reason == Reason::ManualCleanup && self.mapping.retry_method() == Some(RetryMethod::Trigger)
    }

    /// Reports whether a retry has to wait until no other execution of its job is active: a new row has the highest number, and would
    /// supersede one that lives.
    pub(in crate::db) fn retries_one_by_one(&self) -> bool {
        self.single_active_execution.is_some()
            && self.mapping.retry_method() == Some(RetryMethod::NewExecution)
    }

    /// Returns how the row `execution` shows that its worker is alive.
    pub(in crate::db) fn life(&self) -> Life {
        let Some(Beats { joins, at, .. }) = evidence::beats(self, "$4") else { return Life::unknown() };
        Life {
            joins,
            alive_at: format!(
                "CASE WHEN {at} IS NOT NULL AND {} IS NOT NULL THEN {} END",
                self.counts_from(),
                self.last_alive(&at)
            ),
            silence: "3 * verdict.heartbeat".to_owned(),
        }
    }

    /// Returns the joins and the condition that the worker of an ended execution, whose `retry` waits for it, is gone. What was
    /// observed while the execution ran is forgotten by now: the record has the last sign of life.
    pub(in crate::db) fn worker_gone(&self) -> (String, String) {
        let workload = self.workload_gone("retry.reason");
        let Some(Beats { joins, at, .. }) = evidence::beats(self, "$4") else {
            return (String::new(), workload);
        };
        let known = format!(
            "CASE WHEN retry.alive_at IS NOT NULL THEN GREATEST(retry.alive_at, {}, verdict.watched) END",
            clamp_timestamp(&at)
        );
        let silent =
            format!("{} + retry.silence <= {}", Self::after_holds(&known), self.heartbeats_checked());
        (joins, format!("{workload} OR {silent}"))
    }

    /// Returns the condition that the workload of the row `execution`, which is stale for this `reason`, has ended without success.
    pub(in crate::db) fn workload_gone(&self, reason: &str) -> String {
        let Some(grace) = self.workloads else { return "false".to_owned() };
        format!(
            "{reason} = '{}' OR {} <= statement_timestamp()",
            Reason::WorkloadGone.as_str(),
            self.suspect_until(Reason::WorkloadGone, grace)
        )
    }
}

/// How a row shows that its worker is alive.
pub(in crate::db) struct Life {
    /// Joins to the row `execution`.
    pub(in crate::db) joins: String,
    /// The last time at which it is known to be alive; NULL: that is not known.
    pub(in crate::db) alive_at: String,
    /// The silence after which it is gone; NULL: silence says nothing.
    pub(in crate::db) silence: String,
}

impl Life {
    fn unknown() -> Self {
        let unknown = |type_: &str| format!("NULL::{type_}");
        Self { joins: String::new(), alive_at: unknown("timestamptz"), silence: unknown("interval") }
    }
}

/// Returns the number of the attempt that the row with this id is, by the retries that are recorded of it and of the row that it
/// retries.
pub(in crate::db) fn attempts_before(id: &str, store_id: &str) -> String {
    let of = |which: &str| {
        format!(
            "(SELECT max(retry.attempt) + 1 FROM jobexec.retries AS retry WHERE retry.store_id = {store_id} AND {which})"
        )
    };
    format!(
        "GREATEST({}, {}, 1)",
        of(&format!("retry.execution_id = {id}::text")),
        // In the form of the index.
        of(&format!("retry.next_id = {id}::text AND retry.next_id <> retry.execution_id")),
    )
}
