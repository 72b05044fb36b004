//! Limits in time: durations, or `Never`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::TimeDelta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Duration, InvalidDuration, MAX_LENGTH, format};

/// The pattern: `Never`, or that of durations.
const PATTERN: &str = "^Never$|^[0-9]{1,4}d([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?([0-9]{1,5}ms)?$|^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// The word for a limit that does not apply.
pub const NEVER: &str = "Never";

/// A limit in time: a duration such as `3d4h`, or `Never`, which means that the limit does not apply. `Never` is longer than every
/// duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit<T = Duration> {
    /// The limit applies after this time.
    After(T),
    /// The limit does not apply.
    Never,
}

/// The error for a text that is not a valid limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; or write Never, exactly so, if the limit is not to apply")]
pub struct InvalidLimit(InvalidDuration);

impl<T> Limit<T> {
    /// Returns the time after which the limit applies; `None`: it does not.
    pub fn length(self) -> Option<T> {
        match self {
            Self::After(length) => Some(length),
            Self::Never => None,
        }
    }

    /// Returns a limit that applies after `length`, if there is one.
    pub fn of(length: Option<T>) -> Self {
        length.map_or(Self::Never, Self::After)
    }
}

impl Limit {
    /// Returns the limit with a chrono duration, which database queries use.
    pub fn to_chrono(&self) -> Limit<TimeDelta> {
        match self {
            Self::After(duration) => Limit::After(duration.to_chrono()),
            Self::Never => Limit::Never,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(duration) => duration.fmt(f),
            Self::Never => f.write_str(NEVER),
        }
    }
}

/// A valid [`Limit`], as [`format()`] writes durations.
impl fmt::Display for Limit<TimeDelta> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.length().map_or_else(|| NEVER.to_owned(), format))
    }
}

impl FromStr for Limit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        if text == NEVER { Ok(Self::Never) } else { text.parse().map(Self::After).map_err(InvalidLimit) }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_duration_or_never() {
        assert_eq!("Never".parse(), Ok(Limit::Never));
        assert_eq!("3d4h".parse(), Ok(Limit::After("76h".parse().unwrap())));
        for text in
            ["never", "NEVER", "", "Never ", " Never", "Never1h", "1hNever", "-1h", "Nev", "none", "null"]
        {
            let error = text.parse::<Limit>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a duration: ")), "{error}");
            assert!(error.ends_with("; or write Never, exactly so, if the limit is not to apply"), "{error}");
        }
    }

    #[test]
    fn a_limit_is_written_as_it_was_read() {
        for text in ["Never", "1d", "24h", "90m"] {
            let limit: Limit = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(limit).unwrap(), text);
        }
        for wrong in [serde_json::json!(null), serde_json::json!(1), serde_json::json!("never")] {
            assert!(serde_json::from_value::<Limit>(wrong).is_err());
        }
    }

    #[test]
    fn no_duration_is_longer_than_never() {
        let longest = Limit::After(super::super::LONGEST);
        assert!(Limit::After(TimeDelta::zero()) < longest && longest < Limit::Never);
        assert_eq!(Limit::<TimeDelta>::Never.to_string(), "Never");
        assert_eq!(Limit::After(TimeDelta::hours(76)).to_string(), "3d4h");
    }

    #[test]
    fn the_pattern_is_that_of_durations_and_never() {
        assert_eq!(PATTERN, format!("^{NEVER}$|{}", super::super::PATTERN));
    }
}
