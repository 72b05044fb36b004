//! How far back a request looks.

use chrono::TimeDelta;

use super::problem::Problem;
use crate::api::Duration;

/// Unless the caller says otherwise, and at the most: for so long samples are kept.
const USUAL: TimeDelta = TimeDelta::hours(24);
const MOST: TimeDelta = crate::db::stats::LONGEST;

/// The length of time that was asked for.
pub(super) fn since(asked: Option<&Duration>) -> Result<TimeDelta, Problem> {
    let length = asked.map_or(USUAL, Duration::to_chrono);
    if length > TimeDelta::zero() && length <= MOST {
        return Ok(length);
    }
    Err(Problem::InvalidParameter(format!(
        "since must be longer than 0 and at most {}h, for example 24h",
        MOST.num_hours()
    )))
}
