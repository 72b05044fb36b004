//! Retries: for which reasons, how often and when stale executions run again.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Duration;
use super::duration::cel::WORKER_GONE;
use super::duration::{InvalidDuration, MAX_LENGTH, cel};
use super::identifier::Identifier;

/// How the table has an execution run again, which `onStale: Retry` requires. If unset, `Retry` fails executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableRetry {
    /// The method: `NewExecution`, `InPlace` or `Trigger`.
    pub method: RetryMethod,
    /// With `NewExecution`, the columns whose values a new row gets from the stale one, in addition to those of the job, the
    /// job type, the owner, the checkpoint and the filter: at most 64. Name every column that a worker needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub copy_columns: Vec<Identifier>,
}

/// The way in which a stale execution runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryMethod {
    /// The operator fails the stale row, and inserts a row of the same job with the next execution number, in the first status
    /// of `statuses.scheduled`.
    NewExecution,
    /// The operator sets the stale row back to the first status of `statuses.scheduled`, and clears its start, end and
    /// heartbeat, as queue tables need it. The worker of the ended attempt must not be able to finish the new one.
    InPlace,
    /// While the setting `jobexec.ending` is `Retry`, a trigger of the table or view turns the failure that the operator writes
    /// into a scheduled execution. The worker of the ended attempt must not be able to finish the new one. The job system
    /// decides how often and when: of a policy's `retry`, only `onReasons` and `otherwise` apply.
    Trigger,
}

/// For which reasons, how often and when a stale execution with `onStale: Retry` runs again. The most specific policy that
/// sets `retry` determines all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// The maximum number of attempts of one execution and of those that retry it, including the first: 1 to 100. 3 by default.
    /// If the last attempt is stale, it is failed with the reason `RetriesExhausted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<i32>,
    /// The time between the end of an attempt and the start of the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The reasons for which an execution is retried: if it is stale for several at once, all of them must be here. By default
    /// `HeartbeatLost`, `WorkerLost` and `WorkloadGone`, for which its worker is dead; with `method: Trigger`,
    /// `DeadlineExceeded` too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub on_reasons: Option<Vec<RetryReason>>,
    /// When the next attempt may start: once the worker of the ended one is known to be gone (`WorkerGone`, the default), or
    /// this time after its end. A worker is gone if its Job or Pod has ended without success, or if it has sent no heartbeat for
    /// three times `heartbeatTimeout`. A duration is for workers that cannot finish an execution that was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = cel::worker_gone_or_at_most_a_year())]
    pub after: Option<RetryAfter>,
    /// The action on an execution that is stale for another reason than `onReasons`: `Fail` or `Cancel`.
    #[serde(default)]
    pub otherwise: Otherwise,
}

/// The time between two attempts: `initial`, multiplied by `factor` for each further attempt, at most `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The time before the second attempt: at most a year (8760h).
    #[serde(default = "defaults::initial")]
    #[x_kube(validation = cel::at_most("8760h"))]
    pub initial: Duration,
    /// The factor for each further attempt: 1 to 10.
    #[serde(default = "defaults::factor")]
    #[x_kube(validation = Rule::new("self >= 1.0 && self <= 10.0").message("must be from 1 to 10"))]
    pub factor: f64,
    /// The longest time between two attempts: at most a year (8760h).
    #[serde(default = "defaults::max")]
    #[x_kube(validation = cel::at_most("8760h"))]
    pub max: Duration,
    /// The share of the time, in percent, by which it varies at random in both directions, so that executions that were ended
    /// together do not start together: 0 to 50.
    #[serde(default = "defaults::jitter")]
    #[schemars(range(min = 0, max = 50))]
    pub jitter_percent: i32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: defaults::initial(),
            factor: defaults::factor(),
            max: defaults::max(),
            jitter_percent: defaults::jitter(),
        }
    }
}

/// A reason for which a stale execution may be retried. Executions whose job has finished, or that a later one supersedes, are
/// not: their work is done or goes on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetryReason {
    /// It ran past its deadline. Its worker may be alive, and the next attempt may take as long.
    DeadlineExceeded,
    /// Its worker has not sent a heartbeat for too long.
    HeartbeatLost,
    /// Its worker has not sent a heartbeat for too long, or is gone from the table of workers.
    WorkerLost,
    /// The Job or Pod that runs it has failed or is gone.
    WorkloadGone,
}

impl RetryReason {
    /// Returns the reason as written in the spec and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::HeartbeatLost => "HeartbeatLost",
            Self::WorkerLost => "WorkerLost",
            Self::WorkloadGone => "WorkloadGone",
        }
    }
}

/// The action on an execution with `onStale: Retry` that is stale for another reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Otherwise {
    /// Marks it as failed.
    #[default]
    Fail,
    /// Marks it as cancelled.
    Cancel,
}

/// When the next attempt may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Once the worker of the ended attempt is known to be gone.
    WorkerGone,
    /// This time after the end of the attempt.
    Time(Duration),
}

/// The error for a text that is not a valid [`RetryAfter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; or write WorkerGone, exactly so, to wait for the end of the worker")]
pub struct InvalidRetryAfter(InvalidDuration);

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerGone => f.write_str(WORKER_GONE),
            Self::Time(duration) => duration.fmt(f),
        }
    }
}

impl FromStr for RetryAfter {
    type Err = InvalidRetryAfter;

    fn from_str(text: &str) -> Result<Self, InvalidRetryAfter> {
        if text == WORKER_GONE {
            Ok(Self::WorkerGone)
        } else {
            text.parse().map(Self::Time).map_err(InvalidRetryAfter)
        }
    }
}

impl Serialize for RetryAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RetryAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RetryAfter {
    fn schema_name() -> Cow<'static, str> {
        "RetryAfter".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^{WORKER_GONE}$|{}", super::duration::PATTERN);
        json_schema!({ "type": "string", "pattern": pattern, "maxLength": MAX_LENGTH })
    }
}

/// The retries of a store as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRetry {
    /// The maximum number of retries that start within an hour, so that a dependency that is broken does not become a storm of
    /// retries: a number of at least 1, or a percentage of the executions that started within the last hour such as `10%`, but
    /// at least 10 retries.
    #[serde(default = "defaults::budget", deserialize_with = "default_if_null")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 : self.matches('^(100|[1-9][0-9]?)%$')").message("must be a number of at least 1, or a share from 1% to 100%"))]
    pub budget: IntOrString,
    /// The action on a retry while the budget is spent: it waits until there is room (`Hold`), or is dropped when it is due
    /// (`Fail`). The execution is failed in both cases.
    #[serde(default)]
    pub over_budget: OverBudget,
}

/// The minimum of a budget that is a share, in retries an hour.
const MIN_BUDGET: i64 = 10;

impl StoreRetry {
    /// Returns the maximum number of retries within an hour, of a store in which this many executions have started within the last
    /// hour; `None`: that is not known yet.
    pub fn retries_an_hour(&self, recent: Option<i64>) -> i64 {
        match &self.budget {
            IntOrString::Int(count) => i64::from(*count),
            IntOrString::String(share) => {
                // The schema accepts nothing else.
                let percent: i64 = share.trim_end_matches('%').parse().unwrap_or_default();
                (recent.unwrap_or_default().saturating_mul(percent) / 100).max(MIN_BUDGET)
            }
        }
    }
}

impl Default for StoreRetry {
    fn default() -> Self {
        Self { budget: defaults::budget(), over_budget: OverBudget::default() }
    }
}

/// The action on a retry while the budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OverBudget {
    /// It waits.
    #[default]
    Hold,
    /// It is dropped.
    Fail,
}

/// Deserializes a value, or the default for null, which the schema of an int-or-string accepts.
fn default_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IntOrString, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(defaults::budget))
}

mod defaults {
    use super::{Duration, IntOrString};

    /// Parses a default, which a unit test shows to be valid.
    fn known(text: &str) -> Duration {
        text.parse().unwrap_or_else(|_| unreachable!("a default is a valid duration"))
    }

    pub(super) fn initial() -> Duration {
        known("30s")
    }
    pub(super) const fn factor() -> f64 {
        2.0
    }
    pub(super) fn max() -> Duration {
        known("1h")
    }
    pub(super) const fn jitter() -> i32 {
        10
    }
    pub(super) fn budget() -> IntOrString {
        IntOrString::String("10%".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        let backoff: Backoff = serde_json::from_value(serde_json::json!({})).unwrap();
        assert_eq!(backoff, Backoff::default());
        let store: StoreRetry = serde_json::from_value(serde_json::json!({ "budget": null })).unwrap();
        assert_eq!(store, StoreRetry::default());
    }

    #[test]
    fn a_share_is_at_least_ten_retries_an_hour() {
        let of = |budget| StoreRetry { budget, ..StoreRetry::default() };
        let tenth = of(IntOrString::String("10%".to_owned()));
        assert_eq!([None, Some(99), Some(250)].map(|recent| tenth.retries_an_hour(recent)), [10, 10, 25]);
        assert_eq!(of(IntOrString::Int(1)).retries_an_hour(Some(1_000)), 1);
    }

    #[test]
    fn a_retry_waits_for_the_end_of_the_worker_or_for_a_time() {
        assert_eq!("WorkerGone".parse(), Ok(RetryAfter::WorkerGone));
        for text in ["WorkerGone", "0s", "1d", "90m"] {
            let after: RetryAfter = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(after).unwrap(), text);
        }
        let error = "workergone".parse::<RetryAfter>().unwrap_err().to_string();
        assert!(
            error.ends_with("write WorkerGone, exactly so, to wait for the end of the worker"),
            "{error}"
        );
    }

    #[test]
    fn superseded_and_finished_jobs_are_no_reasons_to_retry() {
        for reason in ["Superseded", "JobFinished", "ManualCleanup"] {
            assert!(serde_json::from_value::<RetryReason>(reason.into()).is_err());
        }
    }
}
