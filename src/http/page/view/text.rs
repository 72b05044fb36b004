//! Times, durations and names in readable form.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, html};

pub(super) use crate::api::duration::rough as humanize;

/// Renders the time since or until `at`. The exact time is in the tooltip.
pub(super) fn time_ago(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    let exact = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let away = (now - at).as_seconds_f64();
    let text = if away < 0.0 { format!("in {}", humanize(-away)) } else { format!("{} ago", humanize(away)) };
    html! { time datetime=(exact) title=(exact) { (text) } }
}

/// Returns `1 execution` or `2 executions`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Returns the job and number of an execution, as far as they are known.
pub(super) fn job(job_id: Option<&str>, number: Option<i64>) -> String {
    match (job_id, number) {
        (Some(job), Some(number)) => format!("{job} #{number}"),
        (Some(job), None) => job.to_owned(),
        (None, Some(number)) => format!("#{number}"),
        (None, None) => "–".to_owned(),
    }
}
