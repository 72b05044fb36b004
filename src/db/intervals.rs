//! Conversions between lengths of time and intervals of Postgres.

use chrono::TimeDelta;
use sqlx::postgres::types::PgInterval;

/// Formats a length of time as an interval. Postgres accepts any number of digits for hours, but only 32 bits for other units.
pub(super) fn interval(length: TimeDelta) -> String {
    let micros = length.num_microseconds().unwrap_or(i64::MAX);
    let (hours, rest) = (micros / 3_600_000_000, micros % 3_600_000_000);
    let (minutes, rest) = (rest / 60_000_000, rest % 60_000_000);
    format!("{hours}:{minutes:02}:{:02}.{:06}", rest / 1_000_000, rest % 1_000_000)
}

/// The maximum length of a rule in either direction, in microseconds, whatever the table contains: longer than a spec can express,
/// and short enough to be added to any supported instant.
const FARTHEST: i64 = 1_000_000 * 3_600 * 1_000_000;

/// Converts an interval. The operator writes rules in hours and smaller units. An interval that somebody else wrote may have days
/// and months, which count as Postgres compares them, and may be longer than any supported time.
pub(super) fn delta(interval: &PgInterval) -> TimeDelta {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(interval.months) * 30 + i64::from(interval.days);
    let micros = days.saturating_mul(DAY).saturating_add(interval.microseconds);
    TimeDelta::microseconds(micros.clamp(-FARTHEST, FARTHEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_somebody_else_can_be_added_to_any_instant() {
        let of = |months, days, microseconds| delta(&PgInterval { months, days, microseconds });
        assert_eq!(of(0, 0, 90_000_000), TimeDelta::seconds(90));
        assert_eq!(of(1, 1, 1), TimeDelta::days(31) + TimeDelta::microseconds(1));
        assert_eq!(of(i32::MAX, i32::MAX, i64::MAX), TimeDelta::hours(1_000_000));
        assert_eq!(of(i32::MIN, i32::MIN, i64::MIN), TimeDelta::hours(-1_000_000));
    }

    #[test]
    fn intervals_keep_their_length() {
        assert_eq!(interval(TimeDelta::milliseconds(90_061_007)), "25:01:01.007000");
        assert_eq!(interval(TimeDelta::hours(799_992)), "799992:00:00.000000");
    }
}
