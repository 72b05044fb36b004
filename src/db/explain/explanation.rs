//! The state of one execution at one moment.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::api::Phase;
use crate::api::duration::NEVER;
use crate::db::mapping::CLOCKS_MAY_DIFFER_MINUTES;
use crate::db::reason::Reason;
use crate::db::retry::Latest;
use crate::db::staleness::evidence::Finding;

/// The state of one execution at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// The row's id.
    pub id: String,
    /// Its job.
    pub job_id: Option<String>,
    /// The type of the job, where that is known.
    pub job_type: Option<String>,
    /// Its number within the job.
    pub number: Option<i64>,
    /// The phase of its status.
    pub phase: Phase,
    /// The status text in the table.
    pub status: String,
    /// The start.
    pub started_at: Option<DateTime<Utc>>,
    /// The creation of the row, if that is mapped.
    pub created_at: Option<DateTime<Utc>>,
    /// The end.
    pub completed_at: Option<DateTime<Utc>>,
    /// The time of the last checkpoint, which may be that of an earlier attempt, if that is mapped.
    pub checkpoint_at: Option<DateTime<Utc>>,
    /// The settings of every rule that could govern it, the most specific first, for each field.
    pub considered: Vec<Considered>,
    /// The time from which it counts: the later of its start and its creation; without a start, not before it was first seen
    /// running in the present version of its row. `None`: it has no start, and was not seen running in that version.
    pub counts_from: Option<DateTime<Utc>>,
    /// The deadline; `None`: it has none, or it is unknown.
    pub deadline: Option<DateTime<Utc>>,
    /// The evidence that the store checks, besides the deadline.
    pub evidence: Vec<Finding>,
    /// The reason why it is stale now, if it is, and the operator's response: `Fail`, `Cancel` or `AlertOnly`.
    #[serde(serialize_with = "stale")]
    pub stale: Option<(String, String)>,
    /// The operator's response once it is stale.
    pub action: String,
    /// Its latest retry, if it was ended and retried, or is to be.
    pub retry: Option<Latest>,
}

/// The setting of one field in one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The field, by its name in specs.
    pub field: Cow<'static, str>,
    /// The value of the field.
    pub value: String,
    /// The object that sets it.
    pub source: String,
    /// The reason why it counts or does not.
    pub why: Cow<'static, str>,
    /// True if the setting counts.
    pub counts: bool,
}

/// Serializes with names, which a pair does not have.
#[allow(clippy::ref_option, reason = "serde asks for it")]
fn stale<S: serde::Serializer>(stale: &Option<(String, String)>, serializer: S) -> Result<S::Ok, S::Error> {
    let named =
        stale.as_ref().map(|(reason, action)| serde_json::json!({"reason": reason, "action": action}));
    named.serialize(serializer)
}

impl Explanation {
    /// Returns when it becomes stale if nothing changes, and why: the earliest of its deadline and the evidence. `None` if it does
    /// not run.
    pub fn stale_at(&self) -> Option<(DateTime<Utc>, Reason)> {
        if self.phase != Phase::Running {
            return None;
        }
        let evidence = self.evidence.iter().filter_map(|e| Some((e.stale_at?, e.reason)));
        let deadline = self.deadline.map(|at| (at, Reason::DeadlineExceeded));
        deadline.into_iter().chain(evidence).min_by_key(|(at, _)| *at)
    }

    /// Returns the object that gives it no deadline, by the timeout `Never`.
    pub fn without_deadline(&self) -> Option<&str> {
        let timeout = self.considered.iter().find(|said| said.counts && said.field == "timeout")?;
        (timeout.value == NEVER).then_some(timeout.source.as_str())
    }

    /// Returns the time from which it counts and the reason, if that is not its start.
    pub fn counts_otherwise(&self) -> Option<(DateTime<Utc>, String)> {
        let from = self.counts_from?;
        let Some(start) = self.started_at else {
            let why = if self.created_at == Some(from) {
                "its creation"
            } else {
                "when it was first seen running in the present version of its row"
            };
            return Some((from, format!("{why}, since it has no start")));
        };
        let base = start.max(self.created_at.unwrap_or(start));
        let mut why = Vec::new();
        if base > start {
            why.push("its creation, which is later than its start".to_owned());
        }
        if base - start >= TimeDelta::minutes(CLOCKS_MAY_DIFFER_MINUTES.into()) {
            let ask = "StartedBeforeCreated: do those who write both use one clock and time zone?";
            why.push(ask.to_owned());
        }
        let paused = TimeDelta::seconds((from - base).num_seconds());
        if paused > TimeDelta::zero() {
            why.push(format!("later by {}, for which it was paused", crate::api::duration::format(paused)));
        }
        (!why.is_empty()).then(|| (from, why.join("; ")))
    }

    /// Returns how long it has run.
    pub fn runtime(&self) -> Option<TimeDelta> {
        Some(self.completed_at.unwrap_or(self.now) - self.started_at?)
    }
}
