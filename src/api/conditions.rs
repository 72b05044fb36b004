//! Status conditions, following the Kubernetes API conventions
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>).

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The maximum length of a message in the schema of a condition, in bytes.
const MESSAGE_LIMIT: usize = 32_768;

/// The start of the year 1, in seconds since the Unix epoch.
const MIN_SECOND: i64 = -62_135_596_800;

/// The condition types of all three custom resources. docs/status.md describes each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/status.md has a row for each")]
pub enum ConditionType {
    Accepted,
    AuditAvailable,
    Bound,
    Consistent,
    DatabaseReachable,
    EnforcementPaused,
    EvidenceAvailable,
    Finished,
    Healthy,
    LongRunning,
    NotificationsDelivered,
    ObjectsSynced,
    Ready,
    RetriesAvailable,
    SchemaValid,
    StoreFound,
    Succeeded,
}

impl ConditionType {
    /// Returns the type as written in the Kubernetes API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::AuditAvailable => "AuditAvailable",
            Self::Bound => "Bound",
            Self::Consistent => "Consistent",
            Self::DatabaseReachable => "DatabaseReachable",
            Self::EnforcementPaused => "EnforcementPaused",
            Self::EvidenceAvailable => "EvidenceAvailable",
            Self::Finished => "Finished",
            Self::Healthy => "Healthy",
            Self::LongRunning => "LongRunning",
            Self::NotificationsDelivered => "NotificationsDelivered",
            Self::ObjectsSynced => "ObjectsSynced",
            Self::Ready => "Ready",
            Self::RetriesAvailable => "RetriesAvailable",
            Self::SchemaValid => "SchemaValid",
            Self::StoreFound => "StoreFound",
            Self::Succeeded => "Succeeded",
        }
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// The status cannot be determined, for example because the database is unreachable.
    Unknown,
}

impl ConditionStatus {
    /// Returns the status as written in a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition that an object should have, without a `lastTransitionTime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// The type of the condition.
    pub type_: ConditionType,
    /// The status of the condition.
    pub status: ConditionStatus,
    /// The reason, as one `PascalCase` word.
    pub reason: &'static str,
    /// The explanation for users, including what to do next.
    pub message: String,
}

impl DesiredCondition {
    /// Creates a condition.
    pub fn new(
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason, message: message.into() }
    }
}

/// Builds the conditions of an object at `generation` from `desired`. Each condition keeps its `lastTransitionTime`
/// from `previous` if its status did not change, and gets `now` otherwise. Conditions that `desired` does not contain
/// are dropped.
pub fn set_conditions(
    previous: &[Condition],
    desired: Vec<DesiredCondition>,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> Vec<Condition> {
    desired
        .into_iter()
        .map(|condition| {
            let status = condition.status.as_str();
            let since = find(previous, condition.type_)
                .filter(|c| c.status == status)
                .map_or_else(|| time(now), |c| c.last_transition_time.clone());
            Condition {
                type_: condition.type_.as_str().to_owned(),
                status: status.to_owned(),
                reason: condition.reason.to_owned(),
                message: clip(one_line(condition.message), MESSAGE_LIMIT),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// Returns the condition of a type, if present.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Converts a time to a Kubernetes time in whole seconds. The API server truncates fractions, so a status with
/// fractions would always differ from the stored one. Times outside the range that Kubernetes can represent are clamped
/// to it.
pub fn time(at: DateTime<Utc>) -> Time {
    // Only whole seconds and four-digit years survive a round trip.
    let second = at.timestamp().clamp(MIN_SECOND, Timestamp::MAX.as_second());
    Time(Timestamp::from_second(second).unwrap_or_default())
}

/// Replaces control characters in `text` with spaces. Text from a row or a server can contain line breaks or terminal
/// escapes, which users could mistake for output of the operator.
pub fn one_line(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// Truncates `text` to at most `limit` bytes at a character boundary and appends an ellipsis if it was truncated.
pub fn clip(mut text: String, limit: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > limit {
        let end =
            (0..=limit.saturating_sub(ELLIPSIS.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn transition_time_changes_only_with_the_status() {
        let first = set_conditions(
            &[],
            vec![DesiredCondition::new(ConditionType::Ready, false, "A", "a")],
            Some(1),
            at(10),
        );
        let same = set_conditions(
            &first,
            vec![DesiredCondition::new(ConditionType::Ready, false, "B", "b")],
            Some(2),
            at(20),
        );
        assert_eq!(same[0].last_transition_time, time(at(10)));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("B", Some(2)));
        let flipped = set_conditions(
            &same,
            vec![DesiredCondition::new(ConditionType::Ready, true, "C", "c")],
            Some(2),
            at(30),
        );
        assert_eq!(flipped[0].last_transition_time, time(at(30)));
    }

    #[test]
    fn times_survive_a_round_trip() {
        for at in [at(0), at(1), DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at(253_402_214_400)] {
            let written = time(at);
            let read: Time = serde_json::from_value(serde_json::json!(written)).unwrap();
            assert_eq!(read, written, "{at}");
        }
    }

    #[test]
    fn truncation_keeps_characters_whole() {
        assert_eq!(clip("äöü".into(), 6), "äöü");
        assert_eq!(one_line("a\nReady: b\u{1b}[31m".into()), "a Ready: b [31m");
        assert_eq!(clip("äöüß".into(), 6), "ä…");
        assert_eq!(clip("abc".into(), 3), "abc");
    }
}
