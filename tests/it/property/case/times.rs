//! Durations and instants of a case.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

/// A multiple of ten minutes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::property) struct Length(pub(in crate::property) u16);

impl Length {
    pub(in crate::property) fn delta(self) -> TimeDelta {
        TimeDelta::minutes(10 * i64::from(self.0))
    }

    pub(in crate::property) fn micros(self) -> i128 {
        i128::from(self.0) * 600_000_000
    }
}

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", 10 * self.0)
    }
}

/// An instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::property) enum When {
    /// This many times ten minutes before now, and five more.
    Ago(i16),
    Infinity,
    MinusInfinity,
    /// The ends of the range of Postgres.
    First,
    Last,
}

impl When {
    pub(in crate::property) fn instant(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Ago(n) => Some(now - TimeDelta::minutes(10 * i64::from(n) + 5)),
            _ => None,
        }
    }

    pub(in crate::property) fn text(self, now: DateTime<Utc>) -> String {
        match self {
            Self::Ago(_) => self.instant(now).unwrap().to_rfc3339(),
            Self::Infinity => "infinity".to_owned(),
            Self::MinusInfinity => "-infinity".to_owned(),
            Self::First => "4713-11-24 00:00:00+00 BC".to_owned(),
            Self::Last => "294276-12-31 23:59:59+00".to_owned(),
        }
    }

    /// Local times reach as far as instants, so that the ends of one lie beyond those of the other.
    pub(in crate::property) fn of_type(self, type_: &str) -> Self {
        match self {
            Self::First if type_ == "timestamp" => Self::MinusInfinity,
            Self::Last if type_ == "timestamp" => Self::Infinity,
            other => other,
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ago(n) => write!(f, "{:+}m", -(10 * i32::from(*n) + 5)),
            other => f.write_str(&other.text(DateTime::default())),
        }
    }
}
