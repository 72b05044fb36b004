//! Durations as users write them in a spec, an option or a request.

pub(super) mod cel;
mod limit;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use self::limit::{InvalidLimit, Limit, NEVER};

/// The pattern: days with each smaller unit at most once, or durations of
/// [GEP-2257](https://gateway-api.sigs.k8s.io/geps/gep-2257/), the subset of Go durations that the Gateway API uses.
pub const PATTERN: &str =
    "^[0-9]{1,4}d([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?([0-9]{1,5}ms)?$|^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// The maximum number of characters that [`PATTERN`] allows. The schema sets it to keep the cost estimate of CEL rules
/// low.
pub(super) const MAX_LENGTH: u32 = 30;

/// The units below a day with their milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The milliseconds of a day, which always has 24 hours.
const DAY: u64 = 24 * 3_600_000;

/// The largest number of days, and of any other unit.
const MAX_DAYS: u64 = 9_999;
const MAX_NUMBER: u64 = 99_999;

/// The maximum number of parts without days.
const MAX_PARTS: usize = 4;

/// The longest duration that can be written: `99999h` four times.
pub const LONGEST: chrono::TimeDelta = chrono::TimeDelta::hours(399_996);

/// A duration such as `3d4h`, `24h`, `1h30m` or `500ms`: at least 0 and at most [`LONGEST`]. A day has 24 hours.
///
/// It is serialized exactly as it was written, so that reading and writing an object does not change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration {
    text: String,
    value: std::time::Duration,
}

/// The error for a text that is not a valid duration. It echoes at most 40 characters of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: write whole numbers with the units d, h, m, s and ms, in this order, for example 3d4h or 1h30m: \
     at most 9999 days, and at most 5 digits for each other unit"
)]
pub struct InvalidDuration(String);

impl Duration {
    /// Returns the duration as a standard library duration.
    pub fn get(&self) -> std::time::Duration {
        self.value
    }

    /// Returns the duration as a chrono duration, which database queries use. The longest valid duration fits.
    pub fn to_chrono(&self) -> chrono::TimeDelta {
        chrono::TimeDelta::from_std(self.value).unwrap_or(chrono::TimeDelta::MAX)
    }
}

/// Converts seconds to a duration. Negative values and NaN become 0; values that are too large become the maximum.
pub fn of_seconds(seconds: f64) -> chrono::TimeDelta {
    if seconds.is_nan() || seconds <= 0.0 {
        return chrono::TimeDelta::zero();
    }
    let length = std::time::Duration::try_from_secs_f64(seconds);
    length.ok().and_then(|length| chrono::TimeDelta::from_std(length).ok()).unwrap_or(chrono::TimeDelta::MAX)
}

/// Formats a length of time so that it is a valid [`Duration`], for example `22h6m3s`: in days from 48h on, for example
/// `3d4h`. Negative lengths become `0s`, lengths above [`LONGEST`] become that, and fractions of a millisecond are
/// dropped. Above 38 years, smaller units are dropped where there is no room for them.
pub fn format(length: chrono::TimeDelta) -> String {
    let mut rest = u64::try_from(length.min(LONGEST).num_milliseconds()).unwrap_or_default();
    // With days, there is only one number of hours.
    let fits = rest < MAX_DAYS * DAY + (MAX_NUMBER + 1) * 3_600_000;
    let days = if rest >= 2 * DAY && fits { (rest / DAY).min(MAX_DAYS) } else { 0 };
    let mut text = if days > 0 { format!("{days}d") } else { String::new() };
    rest -= days * DAY;
    let mut parts = 0;
    for (unit, millis) in UNITS {
        while rest >= millis && parts < MAX_PARTS {
            let number = (rest / millis).min(MAX_NUMBER);
            text.push_str(&format!("{number}{unit}"));
            rest -= number * millis;
            parts += 1;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Formats seconds for people, rounded to about two significant digits: `22.1 h`, `35 min`, `2.5 d`.
pub fn rough(seconds: f64) -> String {
    match seconds.abs() {
        s if s < 60.0 => format!("{seconds:.0} s"),
        s if s < 3_600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        s if s < 48.0 * 3_600.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// Parses a duration. `None`: the text does not match [`PATTERN`].
fn parse(text: &str) -> Option<std::time::Duration> {
    // No other unit contains a d.
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) => (Some(number(days, 4)?), rest),
        None => (None, text),
    };
    let parts = parts(rest)?;
    let is_valid = match days {
        Some(_) => parts.is_sorted_by(|(unit, _), (next, _)| unit < next),
        None => (1..=MAX_PARTS).contains(&parts.len()),
    };
    let millis = |(unit, number): (usize, u64)| UNITS.get(unit).map_or(0, |(_, millis)| millis * number);
    let total = days.unwrap_or_default() * DAY + parts.into_iter().map(millis).sum::<u64>();
    is_valid.then(|| std::time::Duration::from_millis(total))
}

/// Parses numbers with units, each as its place in [`UNITS`] and the number.
fn parts(mut rest: &str) -> Option<Vec<(usize, u64)>> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (letters, tail) = tail.split_at(tail.bytes().take_while(u8::is_ascii_alphabetic).count());
        let unit = UNITS.iter().position(|(unit, _)| *unit == letters)?;
        parts.push((unit, number(digits, 5)?));
        rest = tail;
    }
    Some(parts)
}

/// Parses a number of 1 to `most` digits.
fn number(digits: &str, most: usize) -> Option<u64> {
    let is_valid = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if is_valid { digits.parse().ok() } else { None }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let value = parse(text).ok_or_else(|| InvalidDuration(text.chars().take(40).collect()))?;
        Ok(Self { text: text.to_owned(), value })
    }
}

impl TryFrom<String> for Duration {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, InvalidDuration> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.text
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Durations compare by length: `60m` equals `1h`.
impl PartialEq for Duration {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Duration {}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH })
    }
}

#[cfg(test)]
mod tests;
