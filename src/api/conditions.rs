//! Conditions, after the Kubernetes API conventions
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>).

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The longest message that the schema of a condition accepts.
const MESSAGE_LIMIT: usize = 32_768;

/// The beginning of the year 1, in seconds since 1970.
const FIRST_SECOND: i64 = -62_135_596_800;

/// The types of the conditions of all three kinds of object. What each of them means is in docs/status.md.
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
    SchemaValid,
    StoreFound,
    Succeeded,
}

impl ConditionType {
    /// The type as the Kubernetes API spells it.
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
            Self::SchemaValid => "SchemaValid",
            Self::StoreFound => "StoreFound",
            Self::Succeeded => "Succeeded",
        }
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows, for example because the database cannot be reached.
    Unknown,
}

impl ConditionStatus {
    /// As conditions spell it.
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

/// A condition that an object should have, before its `lastTransitionTime` is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// Its type.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one `PascalCase` word.
    pub reason: &'static str,
    /// Why, in a sentence that says what to do next.
    pub message: String,
}

impl DesiredCondition {
    /// A condition of this type, status, reason and message.
    pub fn new(
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason, message: message.into() }
    }
}

/// The conditions that follow from `desired`, for the object of `generation`: `lastTransitionTime` is kept from
/// `previous` where the status did not change, else it is `now`. Types that are not desired are dropped.
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

/// The condition of a type, if there is one.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// A time as Kubernetes writes it, in whole seconds: the API server would cut the rest, and a status compared with
/// what it returns would then seem to differ. What lies beyond the years that it can write is cut to them.
pub fn time(at: DateTime<Utc>) -> Time {
    // Whole seconds, and years of four digits: anything else would not be read back.
    let second = at.timestamp().clamp(FIRST_SECOND, Timestamp::MAX.as_second());
    Time(Timestamp::from_second(second).unwrap_or_default())
}

/// `text` with blanks for control characters, which a row or a server may have put into it: a line of its own, or a colour,
/// would be taken for the operator's words.
pub fn one_line(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// `text` cut to at most `limit` bytes, at a character's edge, with a mark where it was cut.
pub fn clip(mut text: String, limit: usize) -> String {
    const MARK: &str = "…";
    if text.len() > limit {
        let edge =
            (0..=limit.saturating_sub(MARK.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(edge);
        text.push_str(MARK);
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
    fn transition_time_moves_only_with_the_truth() {
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
    fn a_time_is_read_back_as_it_was_written() {
        for at in [at(0), at(1), DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at(253_402_214_400)] {
            let written = time(at);
            let read: Time = serde_json::from_value(serde_json::json!(written)).unwrap();
            assert_eq!(read, written, "{at}");
        }
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clip("äöü".into(), 6), "äöü");
        assert_eq!(one_line("a\nReady: b\u{1b}[31m".into()), "a Ready: b [31m");
        assert_eq!(clip("äöüß".into(), 6), "ä…");
        assert_eq!(clip("abc".into(), 3), "abc");
    }
}
