//! The types that a client of the API reads and writes. They are those of the handlers, so that the two cannot differ.

pub(crate) use super::audit::Page as History;
pub(crate) use super::cleanup::{MAX_IDS, Params as CleanUp, Report};
pub(crate) use super::executions::Page as Executions;
pub(crate) use super::explain::Explanation;
pub(crate) use super::health::{Health, HealthStatus};
pub(crate) use super::limits::BODY_LIMIT;
pub(crate) use super::pagination::MAX_LIMIT;
pub(crate) use super::problem::{Details as Problem, PROBLEM_JSON};
pub(crate) use super::retry::RequestedRetry;
pub(crate) use super::stores::StoreName;
pub(crate) use super::trends::Series as Trends;
