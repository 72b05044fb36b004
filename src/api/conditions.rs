//! Conditions, after the Kubernetes API conventions
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>).

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The longest message that the schema of a condition accepts.
const MESSAGE_LIMIT: usize = 32_768;

/// The beginning of the year 1, in seconds since 1970.
const FIRST_SECOND: i64 = -62_135_596_800;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows, for example because the database cannot be reached.
    Unknown,
}

impl Truth {
    /// As conditions spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What is to be said about one condition, before it is known since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type, for example `Ready`.
    pub type_: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// Why, in one `PascalCase` word.
    pub reason: &'static str,
    /// Why, in a sentence that says what to do next.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(
        type_: &'static str,
        truth: impl Into<Truth>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, truth: truth.into(), reason, message: message.into() }
    }
}

/// The conditions that follow from `findings`, for the object of `generation`: `lastTransitionTime` is kept from
/// `previous` where the truth did not change, else it is `now`. Types without a finding are dropped.
pub fn settle(
    previous: &[Condition],
    findings: Vec<Finding>,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> Vec<Condition> {
    findings
        .into_iter()
        .map(|finding| {
            let status = finding.truth.as_str();
            let since = find(previous, finding.type_)
                .filter(|c| c.status == status)
                .map_or_else(|| time(now), |c| c.last_transition_time.clone());
            Condition {
                type_: finding.type_.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.to_owned(),
                message: clip(one_line(finding.message), MESSAGE_LIMIT),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// The condition of a type, if there is one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
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
        let first = settle(&[], vec![Finding::new("Ready", false, "A", "a")], Some(1), at(10));
        let same = settle(&first, vec![Finding::new("Ready", false, "B", "b")], Some(2), at(20));
        assert_eq!(same[0].last_transition_time, time(at(10)));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("B", Some(2)));
        let flipped = settle(&same, vec![Finding::new("Ready", true, "C", "c")], Some(2), at(30));
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
