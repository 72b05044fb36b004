//! The parameter `since`.

use chrono::TimeDelta;

use super::problem::Problem;
use crate::api::{Duration, duration};

/// The default, and the maximum: samples are kept for that long.
const DEFAULT_RANGE: TimeDelta = TimeDelta::hours(24);
const MAX_RANGE: TimeDelta = crate::db::stats::LONGEST;

/// Returns the length of `since`, or the default.
///
/// Fails unless it is longer than 0 and at most [`MAX_RANGE`].
pub(super) fn parse_since(since: Option<&Duration>) -> Result<TimeDelta, Problem> {
    let length = since.map_or(DEFAULT_RANGE, Duration::to_chrono);
    if length > TimeDelta::zero() && length <= MAX_RANGE {
        return Ok(length);
    }
    Err(Problem::InvalidParameter(format!(
        "since must be longer than 0 and at most {}, for example 24h",
        duration::format(MAX_RANGE)
    )))
}
