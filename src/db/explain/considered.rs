//! The settings of each rule that could govern an execution, and which of them count.

use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;
use sqlx::{Decode, Postgres, Row as _, Type};

use super::explanation::Considered;
use super::statement::SCOPES;
use crate::api::duration::{self, NEVER};
use crate::db::decode::{self, List};
use crate::db::intervals::delta;
use crate::db::rules::settings::{Holds, Precedence, SETTINGS, Setting};
use crate::rules::Retry;
use crate::rules::field;

pub(super) fn considered(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut all = Vec::new();
    for setting in &SETTINGS {
        all.extend(match setting.precedence {
            Precedence::Rank => by_rank(row, setting)?,
            _ => by_scope(row, setting)?,
        });
    }
    all.extend(overruled(row)?);
    all.sort_by_key(|c| fields().position(|name| *name == c.field));
    Ok(all)
}

/// Returns the fields in the order of the output.
fn fields() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(|setting| {
        let history = (setting.field == field::TIMEOUT).then_some(field::DYNAMIC_TIMEOUT);
        [setting.field].into_iter().chain(history)
    })
}

/// Returns a setting of each rule that has it. That of the most specific scope counts.
fn by_scope(row: &PgRow, setting: &Setting) -> Result<Vec<Considered>, sqlx::Error> {
    let promised = decode::maybe_at(row, "promised")?.filter(|_| setting.field == field::EXTEND_BY);
    let (mut all, mut counts) = (Vec::new(), true);
    for scope in SCOPES {
        let Some(value) = value(row, scope, setting)? else { continue };
        let source = of_scope(row, scope, setting.source)?;
        let mut said = one(setting.field, value, source, &mut counts);
        if let Some(at) = promised.filter(|_| said.counts) {
            said.why = format!(
                "the most specific; extended to at least {}, as promised when its timeout was longer",
                at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            )
            .into();
        }
        all.push(said);
    }
    Ok(all)
}

/// The rank of a timeout of the row itself: between those of its own object and those of policies.
const OF_ROW: i16 = 5;

/// Returns the timeouts, of which the one with the lowest rank counts.
fn by_rank(row: &PgRow, setting: &Setting) -> Result<Vec<Considered>, sqlx::Error> {
    let mut found: Vec<(i16, String, String)> = Vec::new();
    for scope in SCOPES {
        let Some(value) = value(row, scope, setting)? else { continue };
        let source = of_scope(row, scope, setting.source)?;
        found.push((of_scope(row, scope, "timeout_rank")?, value, source));
    }
    if let Some(timeout) = row.try_get::<Option<PgInterval>, _>("own_timeout")? {
        found.push((OF_ROW, duration::format(delta(&timeout)), row.try_get("own_source")?));
    }
    found.sort_by_key(|(rank, ..)| *rank);
    let mut counts = true;
    Ok(found
        .into_iter()
        .map(|(rank, value, source)| {
            // Timeouts of a policy from history have even ranks.
            let history = (10..40).contains(&rank) && rank % 10 == 0;
            let mut considered = one(setting.field, value, source, &mut counts);
            if history && considered.counts {
                considered.why = "the most specific, from history".into();
            }
            considered
        })
        .collect())
}

/// Reads a column of the rule of a scope.
fn of_scope<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    scope: &str,
    column: &str,
) -> Result<T, sqlx::Error> {
    row.try_get(format!("{scope}_{column}").as_str())
}

/// Returns the value of a setting in the rule of a scope, if the rule has it.
fn value(row: &PgRow, scope: &str, setting: &Setting) -> Result<Option<String>, sqlx::Error> {
    for (column, holds) in setting.values {
        let value = match holds {
            Holds::Duration => {
                let value: Option<PgInterval> = of_scope(row, scope, column)?;
                value.map(|value| duration::format(delta(&value)))
            }
            Holds::Percent => {
                let value: Option<i32> = of_scope(row, scope, column)?;
                value.map(|percent| format!("{percent} % of the timeout"))
            }
            Holds::Word => of_scope(row, scope, column)?,
            Holds::Json => {
                let value: Option<serde_json::Value> = of_scope(row, scope, column)?;
                value
                    .and_then(|value| serde_json::from_value::<Retry>(value).ok())
                    .map(|retry| retry.to_string())
            }
            Holds::Rank => None,
        };
        if value.is_some() {
            return Ok(value);
        }
    }
    let source: Option<String> = of_scope(row, scope, setting.source)?;
    Ok(source.filter(|_| setting.may_be_never).map(|_| NEVER.to_owned()))
}

/// Returns the settings of objects of the same rank that do not count.
fn overruled(row: &PgRow) -> Result<Vec<Considered>, sqlx::Error> {
    let mut all = Vec::new();
    for scope in SCOPES {
        let overruled: Option<List<String>> = of_scope(row, scope, "overruled")?;
        for said in overruled.map_or_else(Vec::new, |list| list.0) {
            let Some((field, source)) = said.split_once(" of ") else { continue };
            let field = fields().find(|name| *name == field).unwrap_or(field::TIMEOUT);
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

/// Returns a setting, and whether it counts: the first one does.
fn one(field: &'static str, value: String, source: String, counts: &mut bool) -> Considered {
    let first = std::mem::replace(counts, false);
    let why = if first { "the most specific" } else { "a more specific one counts" };
    Considered { field: field.into(), value, source, why: why.into(), counts: first }
}
