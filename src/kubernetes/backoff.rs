//! Pauses between attempts.

use std::time::Duration;

/// The pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);

/// The pause before the next try after `failures` in a row: it doubles up to a minute, plus up to a quarter at random, so
/// that many stores of one broken server do not retry in step.
pub fn backoff(failures: u32) -> Duration {
    backoff_between(FIRST, LONGEST, failures)
}

/// Returns such a pause that starts at `first` and reaches at most `cap`, before the random part.
pub(crate) fn backoff_between(first: Duration, cap: Duration, failures: u32) -> Duration {
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(cap);
    let spread = uuid::Uuid::new_v4().as_bytes()[0];
    pause + pause.mul_f64(f64::from(spread) / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_minute() {
        for (failures, seconds) in [(1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (4_000_000_000, 60.0)] {
            let pause = backoff(failures).as_secs_f64();
            assert!((seconds..=seconds * 1.25).contains(&pause), "{failures}: {pause}");
        }
    }
}
