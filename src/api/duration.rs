//! Durations as users write them in a spec.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The pattern of [GEP-2257](https://gateway-api.sigs.k8s.io/geps/gep-2257/), the subset of Go durations that the Gateway API
/// uses.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A duration such as `24h`, `1h30m` or `500ms`: at least 0 and at most `399996h`.
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
    "{0:?} is not a duration: write 1 to 4 numbers of at most 5 digits, each followed by h, m, s or ms, for example 1h30m"
)]
pub struct InvalidDuration(String);

impl Duration {
    /// Returns the duration as a standard library duration.
    pub fn get(&self) -> std::time::Duration {
        self.value
    }

    /// Returns the duration as a chrono duration, which database queries use. The largest valid duration fits.
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

/// Formats a length of time in the syntax of [`Duration`], for example `22h6m3s`. Negative lengths become `0s`, and
/// fractions of a millisecond are dropped.
pub fn format(length: chrono::TimeDelta) -> String {
    let mut rest = u64::try_from(length.num_milliseconds()).unwrap_or_default();
    let mut text = String::new();
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Formats seconds for people, rounded to about two significant digits: `22.1 h`, `35 min`.
pub fn rough(seconds: f64) -> String {
    match seconds.abs() {
        s if s < 60.0 => format!("{seconds:.0} s"),
        s if s < 3_600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        s if s < 72.0 * 3_600.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.chars().take(40).collect());
        let mut value = std::time::Duration::ZERO;
        let mut rest = text;
        for part in 0.. {
            if rest.is_empty() && part > 0 {
                break;
            }
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if part == 4 || !(1..=5).contains(&digits) {
                return Err(invalid());
            }
            let number: u32 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            // `ms` comes before `m`, so that the longer unit matches first.
            let (unit, millis) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))
                .ok_or_else(invalid)?;
            value += std::time::Duration::from_millis(millis) * number;
            rest = &rest[unit.len()..];
        }
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
        // The pattern allows at most 28 characters; an explicit limit keeps the cost estimate of CEL rules low.
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 28 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rough_durations_use_the_unit_that_fits() {
        let texts = [0.0, 59.0, 60.0, 3_599.0, 3_600.0, 79_560.0, 864_000.0].map(rough);
        assert_eq!(texts, ["0 s", "59 s", "1 min", "59 min", "1.0 h", "22.1 h", "10.0 d"]);
    }

    #[test]
    fn valid_durations_are_parsed() {
        for (text, millis) in [
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1m1ms", 60_001),
            ("0s", 0),
            ("1h1h", 7_200_000),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.get().as_millis(), millis, "{text}");
            assert_eq!(duration.to_string(), text);
        }
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for text in [
            "",
            "1h-5m",
            "-5m",
            "5",
            "h",
            "1.5h",
            "1d",
            "123456s",
            "1h1h1h1h1h",
            " 1h",
            "1h ",
            "1H",
            "١h",
            "1hms",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn formatted_durations_can_be_parsed() {
        for text in ["24h", "1h30m", "22h6m3s", "500ms", "0s", "1m0s"] {
            let duration: Duration = text.parse().unwrap();
            let again: Duration = format(duration.to_chrono()).parse().unwrap();
            assert_eq!(again, duration, "{text}");
        }
        assert_eq!(format(chrono::TimeDelta::hours(24)), "24h");
    }

    #[test]
    fn errors_echo_only_the_start_of_a_long_text() {
        let error = "x".repeat(10_000).parse::<Duration>().unwrap_err();
        assert!(error.to_string().len() < 250);
    }
}
