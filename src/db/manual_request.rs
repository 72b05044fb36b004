//! A person's request for one call, in addition to the rules: which executions to consider, and whether to end them. It is part
//! of the parameter `$3`, so that a statement has the same parameters with and without it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::suspicion::Suspicion;

/// The request of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ManualRequest {
    /// Only executions that had begun by then.
    pub begun_by: Option<DateTime<Utc>>,
    /// Only these executions, by their ids in canonical form.
    pub ids: Option<Vec<String>>,
    /// Only executions of this job, by its id in canonical form.
    pub job: Option<String>,
    /// Only executions after this position.
    pub place: Option<Place>,
    /// The person, for the record.
    pub actor: Option<String>,
    /// The tool that the person uses, for the record, for example `CommandLine`.
    pub source: Option<String>,
    /// End all of them that run, whatever their deadline.
    pub end: Option<ForceOptions>,
    /// End those with this suspicion, and no others.
    pub suspicion: Option<Suspicion>,
}

/// Options for ending executions that no rule considers stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ForceOptions {
    /// Include executions that an object governs with a policy, an extension or `AlertOnly`.
    pub include_governed: bool,
}

/// A position in the order by start and id. Executions without a start form a part of their own, at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// True if the position is among the executions without a start.
    pub undated: bool,
    /// The start of the last execution, as Postgres writes it in JSON.
    pub start: Option<String>,
    /// The id of the last execution; `None`: the beginning of the part.
    pub id: Option<String>,
    /// True if the newest come first.
    pub newest_first: bool,
}

/// The reason why a person's threshold or choice does not end a row, because by the `verdict` an object governs it; NULL if none
/// does.
pub const GOVERNED: &str = "CASE WHEN verdict.action = 'AlertOnly' THEN 'AlertOnly' \
     WHEN verdict.extend_by > interval '0' THEN 'Extended' \
     WHEN verdict.timeout_source <> verdict.store THEN 'Governed' END";

/// The same for a row that was given more time in a record for which a person still has to decide whether it applies.
pub const UNDECIDED: &str = "Undecided";

/// The person who made the request.
pub const ACTOR: &str = "$3::jsonb #>> '{asked,actor}'";
/// The source of the verdict if a person confirms that a suspect is stale, or else NULL.
pub const CONFIRMED_BY: &str =
    "CASE WHEN $3::jsonb #>> '{asked,suspicion}' IS NOT NULL THEN $3::jsonb #>> '{asked,source}' END";
/// The tool through which the request was made.
pub const SOURCE: &str = "$3::jsonb #>> '{asked,source}'";
