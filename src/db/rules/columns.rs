//! Rules as a parameter of a statement.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::api::Limit;
use crate::db::intervals::interval;
use crate::db::manual_request::ManualRequest;
use crate::rules::{Retry, Rule, Sourced, StoreDefaults, Timeout, Warn};

/// A rule, with the names of its columns. A limit that has a source and is NULL is `Never`.
#[derive(Default, Serialize)]
pub(super) struct Row<'a> {
    scope: &'static str,
    key: &'a str,
    timeout: Option<String>,
    timeout_rank: Option<i16>,
    timeout_source: Option<&'a str>,
    extend_by: Option<String>,
    extend_source: Option<&'a str>,
    grace: Option<String>,
    grace_source: Option<&'a str>,
    heartbeat: Option<String>,
    heartbeat_source: Option<&'a str>,
    on_stale: Option<&'static str>,
    on_stale_source: Option<&'a str>,
    retry: Option<&'a Retry>,
    retry_source: Option<&'a str>,
    warn_after: Option<String>,
    warn_percent: Option<i32>,
    warn_source: Option<&'a str>,
    overruled: &'a [String],
    earliest: String,
    fixed: bool,
    /// The person who changed the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    /// Only in the base: the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a str>,
    /// Only in the base: the time from which evidence of life counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    watched: Option<DateTime<Utc>>,
    /// Only in the base: the manual request.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<&'a ManualRequest>,
}

impl<'a> Row<'a> {
    pub(super) fn of(rule: &'a Rule) -> Self {
        let Rule { scope, key, timeout, extend_by, grace, heartbeat, on_stale, retry, warn, .. } = rule;
        let Rule { earliest, fixed, overruled, by, .. } = rule;
        let mut row = Self {
            scope: scope.as_str(),
            key,
            overruled,
            earliest: interval(*earliest),
            fixed: *fixed,
            actor: by.as_deref(),
            ..Self::default()
        };
        if let Some(Timeout { value, rank, source }) = timeout {
            (row.timeout, row.timeout_rank, row.timeout_source) =
                (length(*value), Some(*rank), Some(source.as_str()));
        }
        (row.extend_by, row.extend_source) = said(extend_by.as_ref());
        (row.grace, row.grace_source) = said(grace.as_ref());
        (row.heartbeat, row.heartbeat_source) = limit(heartbeat.as_ref());
        if let Some(Sourced { value, source }) = on_stale {
            (row.on_stale, row.on_stale_source) = (Some(value.as_str()), Some(source.as_str()));
        }
        row.retry(retry.as_ref());
        row.warn(warn.as_ref());
        row
    }

    pub(super) fn of_base(base: &'a StoreDefaults) -> Self {
        let StoreDefaults { timeout, grace, heartbeat, on_stale, retry, warn, overruled, store: _ } = base;
        let mut row = Self {
            scope: "store",
            timeout: length(timeout.value),
            timeout_rank: Some(40),
            timeout_source: Some(&timeout.source),
            on_stale: Some(on_stale.value.as_str()),
            on_stale_source: Some(&on_stale.source),
            overruled,
            earliest: interval(base.total()),
            fixed: true,
            ..Self::default()
        };
        (row.grace, row.grace_source) = said(Some(grace));
        (row.heartbeat, row.heartbeat_source) = limit(heartbeat.as_ref());
        row.retry(retry.as_ref());
        row.warn(Some(warn));
        row
    }

    fn retry(&mut self, retry: Option<&'a Sourced<Retry>>) {
        if let Some(Sourced { value, source }) = retry {
            (self.retry, self.retry_source) = (Some(value), Some(source.as_str()));
        }
    }

    fn warn(&mut self, warn: Option<&'a Sourced<Warn>>) {
        let Some(Sourced { value, source }) = warn else { return };
        self.warn_source = Some(source);
        match value {
            Warn::After(after) => self.warn_after = Some(interval(*after)),
            Warn::Percent(percent) => self.warn_percent = Some(*percent),
            Warn::Never => {}
        }
    }
}

fn said(field: Option<&Sourced<TimeDelta>>) -> (Option<String>, Option<&str>) {
    field.map_or((None, None), |said| (Some(interval(said.value)), Some(said.source.as_str())))
}

fn limit(field: Option<&Sourced<Limit<TimeDelta>>>) -> (Option<String>, Option<&str>) {
    field.map_or((None, None), |said| (length(said.value), Some(said.source.as_str())))
}

fn length(limit: Limit<TimeDelta>) -> Option<String> {
    limit.length().map(interval)
}

pub(super) fn json(rows: &impl Serialize) -> String {
    // Infallible: the rows contain only texts, numbers and null.
    serde_json::to_string(rows).unwrap_or_default()
}

/// Returns the rules as a parameter.
pub(in crate::db) fn parameter(rules: &[Rule]) -> String {
    json(&rules.iter().map(Row::of).collect::<Vec<_>>())
}

/// Returns the base as a parameter.
pub(in crate::db) fn base_parameter(
    base: &StoreDefaults,
    watched: DateTime<Utc>,
    asked: Option<&ManualRequest>,
) -> String {
    json(&Row { store: Some(&base.store), watched: Some(watched), asked, ..Row::of_base(base) })
}
