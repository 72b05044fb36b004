//! The settings of each rule that could govern an execution, and which of them count.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use super::explanation::Considered;
use super::statement::SCOPES;
use crate::api::Limit;
use crate::api::duration::{self, NEVER};
use crate::db::decode::{self, List};
use crate::db::intervals::delta;

pub(super) fn considered(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut all = timeouts(row)?;
    for (field, column) in
        [("extendBy", "extend_by"), ("gracePeriod", "grace"), ("heartbeatTimeout", "heartbeat")]
    {
        let mut counts = true;
        let promised = decode::maybe_at(row, "promised")?.filter(|_| field == "extendBy");
        for scope in SCOPES {
            let source = format!("{scope}_{}_source", column.split('_').next().unwrap_or(column));
            let value = match length(row, &format!("{scope}_{column}"))? {
                None if field == "heartbeatTimeout" => never(row, &source)?,
                value => value,
            };
            let Some(value) = value else { continue };
            let source = row.try_get(source.as_str())?;
            let mut said = one(field, value, source, &mut counts);
            if let Some(at) = promised.filter(|_| said.counts) {
                said.why = format!(
                    "the most specific; extended to at least {}, as promised when its timeout was longer",
                    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                )
                .into();
            }
            all.push(said);
        }
    }
    let mut counts = true;
    for scope in SCOPES {
        let Some(value) = row.try_get(format!("{scope}_on_stale").as_str())? else { continue };
        let source = row.try_get(format!("{scope}_on_stale_source").as_str())?;
        all.push(one("onStale", value, source, &mut counts));
    }
    let mut counts = true;
    for scope in SCOPES {
        let percent: Option<i32> = row.try_get(format!("{scope}_warn_percent").as_str())?;
        let percent = percent.map(|percent| format!("{percent} % of the timeout"));
        let source = format!("{scope}_warn_source");
        let value = length(row, &format!("{scope}_warn_after"))?.or(percent);
        let Some(value) = value.map_or_else(|| never(row, &source), |value| Ok(Some(value)))? else {
            continue;
        };
        let source = row.try_get(source.as_str())?;
        all.push(one("warnAfter", value, source, &mut counts));
    }
    all.extend(overruled(row)?);
    all.sort_by_key(|c| FIELDS.iter().position(|name| *name == c.field));
    Ok(all)
}

/// Returns a length of time.
fn length(row: &PgRow, column: &str) -> Result<Option<String>, sqlx::Error> {
    let value: Option<PgInterval> = row.try_get(column)?;
    Ok(value.map(|value| duration::format(delta(&value))))
}

/// Returns `Never` for a limit that is NULL and has a source.
fn never(row: &PgRow, source: &str) -> Result<Option<String>, sqlx::Error> {
    let source: Option<String> = row.try_get(source)?;
    Ok(source.map(|_| NEVER.to_owned()))
}

/// Returns the settings of objects of the same rank that do not count.
fn overruled(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut all = Vec::new();
    for scope in SCOPES {
        let overruled: Option<List<String>> = row.try_get(format!("{scope}_overruled").as_str())?;
        for said in overruled.map_or_else(Vec::new, |list| list.0) {
            let Some((field, source)) = said.split_once(" of ") else { continue };
            let field = FIELDS.into_iter().find(|name| *name == field).unwrap_or("timeout");
            all.push(Considered {
                field: field.into(),
                value: "-".to_owned(),
                source: source.to_owned(),
                why: "another object of the same rank is older".into(),
                counts: false,
            });
        }
    }
    Ok(all)
}

/// The fields in the order of the output.
const FIELDS: [&str; 7] =
    ["timeout", "dynamicTimeout", "extendBy", "gracePeriod", "heartbeatTimeout", "onStale", "warnAfter"];

/// Returns a setting, and whether it counts: the first one does.
fn one(field: &'static str, value: String, source: String, counts: &mut bool) -> Considered {
    let first = std::mem::replace(counts, false);
    let why = if first { "the most specific" } else { "a more specific one counts" };
    Considered { field: field.into(), value, source, why: why.into(), counts: first }
}

/// Returns the timeouts, of which the one with the lowest rank counts.
fn timeouts(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut found: Vec<(i16, String, String)> = Vec::new();
    for scope in SCOPES {
        let value: Option<PgInterval> = row.try_get(format!("{scope}_timeout").as_str())?;
        let source: Option<String> = row.try_get(format!("{scope}_timeout_source").as_str())?;
        let Some(source) = source else { continue };
        let rank = row.try_get(format!("{scope}_timeout_rank").as_str())?;
        found.push((rank, Limit::of(value.as_ref().map(delta)).to_string(), source));
    }
    found.sort_by_key(|(rank, ..)| *rank);
    let mut counts = true;
    Ok(found
        .into_iter()
        .map(|(rank, value, source)| {
            // Timeouts of a policy from history have even ranks.
            let history = (10..40).contains(&rank) && rank % 10 == 0;
            let mut considered = one("timeout", value, source, &mut counts);
            if history && considered.counts {
                considered.why = "the most specific, from history".into();
            }
            considered
        })
        .collect())
}
