//! What a client of the API reads and writes: the same types as the handlers', so that the two cannot drift apart.

pub(crate) use super::cleanup::{IDS, Report, Wanted as CleanUp};
pub(crate) use super::executions::Page as Executions;
pub(crate) use super::explain::Explanation;
pub(crate) use super::health::{Health, Verdict};
pub(crate) use super::history::Page as History;
pub(crate) use super::limits::BODY_LIMIT;
pub(crate) use super::pages::MOST;
pub(crate) use super::problem::{Details as Problem, PROBLEM_JSON};
pub(crate) use super::stores::StoreName;
pub(crate) use super::trends::Series as Trends;
