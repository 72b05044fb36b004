//! What a person asks beside the rules, for one call: about which executions, and whether to end them. It travels as a
//! part of the parameter `$3`, so that a statement has the same parameters with and without it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::judge::Suspicion;
use super::{Judge, Mapping};

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

const ID: &str = "$3::jsonb #>> '{asked,place,id}'";
const START: &str = "$3::jsonb #>> '{asked,place,start}'";
const JOB: &str = "$3::jsonb #>> '{asked,job}'";
const BEGUN_BY: &str = "($3::jsonb #>> '{asked,begun_by}')::timestamptz";
/// Who asks.
pub const ACTOR: &str = "$3::jsonb #>> '{asked,actor}'";
/// Who says that a suspect is stale, where a person does; else NULL.
pub const CONFIRMED_BY: &str =
    "CASE WHEN $3::jsonb #>> '{asked,suspicion}' IS NOT NULL THEN $3::jsonb #>> '{asked,source}' END";
/// Through what.
pub const SOURCE: &str = "$3::jsonb #>> '{asked,source}'";

impl Asked {
    /// Conditions on the row `t` of which exactly one holds for each row that is asked about: each has its own index.
    pub fn alternatives(&self, judge: &Judge<'_>) -> Vec<String> {
        let m = judge.mapping;
        let mut common = Vec::new();
        if self.ids.is_some() {
            common.push(format!(
                "{} = ANY (ARRAY (SELECT jsonb_array_elements_text($3::jsonb #> '{{asked,ids}}'))::{}[])",
                m.id(),
                m.id_type().sql()
            ));
        }
        if self.job.is_some() {
            let (job, type_) = m.job_key();
            common.push(format!("{job} = ({JOB})::{type_}"));
        }
        let mut parts = match &self.place {
            Some(place) if place.undated => vec![Self::undated(judge, self.begun_by, Some(place))],
            Some(place) => vec![self.dated(judge, Some(place))],
            None if self.begun_by.is_some() => {
                vec![self.dated(judge, None), Self::undated(judge, self.begun_by, None)]
            }
            None => vec![Vec::new()],
        };
        for part in &mut parts {
            part.extend(common.iter().cloned());
            if part.is_empty() {
                part.push("true".to_owned());
            }
        }
        parts.into_iter().map(|part| part.join(" AND ")).collect()
    }

    /// Those with a start.
    fn dated(&self, judge: &Judge<'_>, place: Option<&Place>) -> Vec<String> {
        let m: &Mapping = judge.mapping;
        let start = m.started_column();
        let mut conditions = vec![format!("{start} IS NOT NULL")];
        if self.begun_by.is_some() {
            conditions.push(judge.counts_by(BEGUN_BY));
        }
        if let Some(place) = place.filter(|place| place.id.is_some()) {
            let (behind, type_) = (behind(place), m.start_type());
            // The first half is for the index.
            conditions.push(format!("{start} {behind}= ({START})::{type_}"));
            conditions.push(format!(
                "({start} {behind} ({START})::{type_} OR {id} {behind} ({ID})::{key})",
                id = m.id(),
                key = m.id_type().sql(),
            ));
        }
        conditions
    }

    /// Those without: they have begun when they were first seen running, where that is known.
    fn undated(judge: &Judge<'_>, begun_by: Option<DateTime<Utc>>, place: Option<&Place>) -> Vec<String> {
        let m: &Mapping = judge.mapping;
        let mut conditions = vec![format!("{} IS NULL", m.started_column())];
        if begun_by.is_some() {
            conditions.push(format!("{} <= {BEGUN_BY}", judge.counts_from()));
        }
        if let Some(place) = place.filter(|place| place.id.is_some()) {
            conditions.push(format!("{} {} ({ID})::{}", m.id(), behind(place), m.id_type().sql()));
        }
        conditions
    }
}

const fn behind(place: &Place) -> &'static str {
    if place.newest_first { "<" } else { ">" }
}
