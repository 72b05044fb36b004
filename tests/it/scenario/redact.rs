//! Removes from a text what differs from run to run, and nothing else.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::Value;

/// What differs from run to run.
pub(super) struct Redaction {
    /// The random name of the test's namespace.
    pub(super) namespace: String,
    /// The time from which the times in the table are counted, in whole seconds.
    pub(super) t: DateTime<Utc>,
}

impl Redaction {
    /// A value without what differs from run to run.
    pub(super) fn of(&self, value: &Value) -> Value {
        serde_json::from_str(&self.apply(&value.to_string())).unwrap()
    }

    /// Replaces:
    /// - the namespace, which is random;
    /// - times: those in the table, and all that follow from them, are whole hours from `t`, and are shown so, since they
    ///   say whether a deadline is right. All others are times at which something happened during the test: `[now]`;
    /// - the duration of a sweep in milliseconds, which depends on the machine.
    fn apply(&self, text: &str) -> String {
        let text = text.replace(&self.namespace, "[namespace]");
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(next) = rest.chars().next() {
            let word = rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            let begins = !out.ends_with(|c: char| c.is_ascii_alphanumeric());
            let (shown, length) = if let Some(time) = rest.get(..TIME).filter(|_| begins).and_then(parse) {
                (self.relative(time), TIME)
            } else if begins && is_milliseconds(word) {
                ("[duration]".to_owned(), word.len())
            } else {
                (next.to_string(), next.len_utf8())
            };
            out.push_str(&shown);
            rest = &rest[length..];
        }
        out
    }

    fn relative(&self, time: DateTime<Utc>) -> String {
        let away = time - self.t;
        if away.abs() < TimeDelta::minutes(30) {
            return "[now]".to_owned();
        }
        assert_eq!(away.num_seconds() % 3_600, 0, "{time} is not whole hours from {}", self.t);
        format!("[t{:+}h]", away.num_hours())
    }
}

/// The length of a time as Kubernetes writes it.
const TIME: usize = "2025-08-08T18:18:08Z".len();

fn parse(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ").ok().map(|time| time.and_utc())
}

/// Reports whether a word is a number of milliseconds, such as `12ms`.
fn is_milliseconds(word: &str) -> bool {
    let digits = word.strip_suffix("ms").unwrap_or_default();
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}
