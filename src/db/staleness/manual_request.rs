//! Conditions for the rows that a manual request selects.
//!
//! They are assembled here, because each request leaves out others.

use super::StalenessPredicate;
use crate::db::manual_request::{ManualRequest, Place};

const ID: &str = "$3::jsonb #>> '{asked,place,id}'";
const START: &str = "$3::jsonb #>> '{asked,place,start}'";
const JOB: &str = "$3::jsonb #>> '{asked,job}'";
const BEGUN_BY: &str = "($3::jsonb #>> '{asked,begun_by}')::timestamptz";

impl StalenessPredicate<'_> {
    /// Returns conditions on the row `execution`, of which exactly one holds for each selected row: each has its own index.
    pub(in crate::db) fn alternatives(&self, asked: &ManualRequest) -> Vec<String> {
        let m = self.mapping;
        let mut common = Vec::new();
        if asked.ids.is_some() {
            common.push(format!(
                "{} = ANY (ARRAY (SELECT jsonb_array_elements_text($3::jsonb #> '{{asked,ids}}'))::{}[])",
                m.id(),
                m.id_type().sql()
            ));
        }
        if asked.job.is_some() {
            let (job, type_) = m.job_key();
            common.push(format!("{job} = ({JOB})::{type_}"));
        }
        let mut parts = match &asked.place {
            Some(place) if place.undated => vec![self.asked_without_start(asked, Some(place))],
            Some(place) => vec![self.asked_with_start(asked, Some(place))],
            None if asked.begun_by.is_some() => {
                vec![self.asked_with_start(asked, None), self.asked_without_start(asked, None)]
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

    /// Returns the conditions for rows with a start.
    fn asked_with_start(&self, asked: &ManualRequest, place: Option<&Place>) -> Vec<String> {
        let m = self.mapping;
        let start = m.started_column();
        let mut conditions = vec![format!("{start} IS NOT NULL")];
        if asked.begun_by.is_some() {
            conditions.push(self.counts_by(BEGUN_BY));
        }
        if let Some(place) = place.filter(|place| place.id.is_some()) {
            let (behind, type_) = (behind(place), m.start_type());
            // Redundant, but usable by the index.
            conditions.push(format!("{start} {behind}= ({START})::{type_}"));
            conditions.push(format!(
                "({start} {behind} ({START})::{type_} OR {id} {behind} ({ID})::{key})",
                id = m.id(),
                key = m.id_type().sql(),
            ));
        }
        conditions
    }

    /// Returns the conditions for rows without a start: they begin when they were first seen running, where that is known.
    fn asked_without_start(&self, asked: &ManualRequest, place: Option<&Place>) -> Vec<String> {
        let m = self.mapping;
        let mut conditions = vec![format!("{} IS NULL", m.started_column())];
        if asked.begun_by.is_some() {
            conditions.push(format!("{} <= {BEGUN_BY}", self.counts_from()));
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
