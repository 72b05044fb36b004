//! The retry settings of a rule: for which reasons, how often and when a stale execution runs again.

use std::fmt;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::api::duration::format;
use crate::api::retry::{Backoff, Otherwise, RetryAfter, RetryMethod, RetryReason};
use crate::api::{OnStale, retry};

/// The maximum number of attempts if no policy sets one.
const MAX_ATTEMPTS: i32 = 3;

/// For which reasons, how often and when a stale execution runs again. Its form as JSON is what `jobexec.rules` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The maximum number of attempts; `None`: the job system decides.
    pub max_attempts: Option<i32>,
    /// The time before the second attempt, in milliseconds.
    pub initial_ms: i64,
    /// The factor for each further attempt, in percent.
    pub factor_percent: i32,
    /// The longest time between two attempts, in milliseconds.
    pub max_ms: i64,
    /// The share by which the time varies, in percent.
    pub jitter_percent: i32,
    /// The reasons for which an execution is retried.
    pub reasons: Vec<RetryReason>,
    /// The time after the end of an attempt at which the next one may start, in milliseconds; `None`: once its worker is gone.
    pub after_ms: Option<i64>,
    /// The action for other reasons.
    pub otherwise: Otherwise,
}

impl Retry {
    /// Creates the settings that a policy has for a table with this method.
    pub fn of(spec: &retry::Retry, method: RetryMethod) -> Self {
        let retry::Retry { max_attempts, backoff, on_reasons, after, otherwise } = spec;
        let own = method != RetryMethod::Trigger;
        let Backoff { initial, factor, max, jitter_percent } = backoff.clone().unwrap_or_default();
        let reasons = || {
            let dead = [RetryReason::HeartbeatLost, RetryReason::WorkerLost, RetryReason::WorkloadGone];
            let late = (!own).then_some(RetryReason::DeadlineExceeded);
            dead.into_iter().chain(late).collect()
        };
        Self {
            max_attempts: own.then_some(max_attempts.unwrap_or(MAX_ATTEMPTS)),
            initial_ms: initial.to_chrono().num_milliseconds(),
            factor_percent: percent(factor),
            max_ms: max.to_chrono().num_milliseconds(),
            jitter_percent,
            reasons: on_reasons.clone().unwrap_or_else(reasons),
            after_ms: match after {
                Some(RetryAfter::Time(after)) => Some(after.to_chrono().num_milliseconds()),
                _ if own => None,
                _ => Some(0),
            },
            otherwise: *otherwise,
        }
    }

    /// Returns the settings without a policy.
    pub fn by_default(method: RetryMethod) -> Self {
        Self::of(&retry::Retry::default(), method)
    }

    /// Returns the action on an execution that is stale for another reason than those for which it is retried.
    pub const fn otherwise(&self) -> OnStale {
        match self.otherwise {
            Otherwise::Fail => OnStale::Fail,
            Otherwise::Cancel => OnStale::Cancel,
        }
    }
}

/// Returns a factor from 1 to 10 in percent.
#[allow(clippy::cast_possible_truncation, reason = "the value is from 100 to 1000")]
fn percent(factor: f64) -> i32 {
    (factor.clamp(1.0, 10.0) * 100.0).round() as i32
}

/// The form for people, on one line.
impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |ms: i64| format(TimeDelta::milliseconds(ms));
        let reasons: Vec<&str> = self.reasons.iter().map(|reason| reason.as_str()).collect();
        match self.max_attempts {
            Some(attempts) => write!(f, "{attempts} attempts for {}", reasons.join(", "))?,
            None => return write!(f, "by the job system for {}", reasons.join(", ")),
        }
        match self.after_ms {
            Some(0) => {}
            Some(after) => write!(f, ", at least {} apart", time(after))?,
            None => f.write_str(", once the worker is gone")?,
        }
        let factor = f64::from(self.factor_percent) / 100.0;
        write!(
            f,
            ", after {} times {factor} for each attempt, at most {}",
            time(self.initial_ms),
            time(self.max_ms)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_retried_only_for_the_death_of_its_worker_by_default() {
        let own = Retry::by_default(RetryMethod::InPlace);
        assert_eq!((own.max_attempts, own.after_ms, own.otherwise()), (Some(3), None, OnStale::Fail));
        assert!(!own.reasons.contains(&RetryReason::DeadlineExceeded));
        let system = Retry::by_default(RetryMethod::Trigger);
        assert_eq!((system.max_attempts, system.after_ms), (None, Some(0)));
        assert!(system.reasons.contains(&RetryReason::DeadlineExceeded));
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let spec = serde_json::json!({"maxAttempts": 5, "after": "90s", "onReasons": ["WorkloadGone"], "otherwise": "Cancel",
            "backoff": {"initial": "1s", "factor": 1.5, "max": "1d", "jitterPercent": 0}});
        let retry = Retry::of(&serde_json::from_value(spec).unwrap(), RetryMethod::NewExecution);
        assert_eq!((retry.initial_ms, retry.factor_percent, retry.max_ms), (1_000, 150, 86_400_000));
        let json = serde_json::to_string(&retry).unwrap();
        assert_eq!(serde_json::from_str::<Retry>(&json).unwrap(), retry);
    }
}
