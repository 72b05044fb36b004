//! What a person asks beside the rules, for one call: about which executions, and whether to end them. It travels as a
//! part of the parameter `$3`, so that a statement has the same parameters with and without it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::suspicion::Suspicion;

/// What a person asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Only about executions that had begun by then.
    pub begun_by: Option<DateTime<Utc>>,
    /// Only about these, by their ids in canonical form.
    pub ids: Option<Vec<String>>,
    /// Only about those of this job, by its id in canonical form.
    pub job: Option<String>,
    /// Only about those behind this place.
    pub place: Option<Place>,
    /// Who asks, for the record.
    pub actor: Option<String>,
    /// Through what, for the record, for example `CommandLine`.
    pub source: Option<String>,
    /// To end all of them that run, whatever their deadline.
    pub end: Option<Forced>,
    /// To end those of them that are suspected of this, and no others.
    pub suspicion: Option<Suspicion>,
}

/// How executions are ended that no rule says are stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forced {
    /// Those too that an object governs: a policy, an extension, `AlertOnly`.
    pub include_governed: bool,
}

/// A place in the order by start and id. Those without a start have a part of their own, at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Among those without a start.
    pub undated: bool,
    /// The start of the last one, as Postgres writes it in JSON.
    pub start: Option<String>,
    /// The id of the last one; `None`: the beginning of the part.
    pub id: Option<String>,
    /// Whether the newest come first.
    pub newest_first: bool,
}

/// Why a person's threshold or choice leaves a row alone that by the verdict `v` an object governs; NULL: none does.
pub const GOVERNED: &str = "CASE WHEN v.action = 'AlertOnly' THEN 'AlertOnly' \
     WHEN v.extend_by > interval '0' THEN 'Extended' \
     WHEN v.timeout_source <> v.store THEN 'Governed' END";

/// The same of one that was given more time in a record of which a person has to say whether that counts.
pub const UNDECIDED: &str = "Undecided";

/// Who asks.
pub const ACTOR: &str = "$3::jsonb #>> '{asked,actor}'";
/// Who says that a suspect is stale, where a person does; else NULL.
pub const CONFIRMED_BY: &str =
    "CASE WHEN $3::jsonb #>> '{asked,suspicion}' IS NOT NULL THEN $3::jsonb #>> '{asked,source}' END";
/// Through what.
pub const SOURCE: &str = "$3::jsonb #>> '{asked,source}'";
