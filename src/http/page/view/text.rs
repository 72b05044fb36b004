//! Times and lengths as people read them.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, html};

pub(super) use crate::api::duration::rough as length;

/// A moment as the time since or until it, with itself for who wants it exactly.
pub(super) fn moment(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    let exact = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let away = (now - at).as_seconds_f64();
    let text = if away < 0.0 { format!("in {}", length(-away)) } else { format!("{} ago", length(away)) };
    html! { time datetime=(exact) title=(exact) { (text) } }
}

/// `1 execution`, `2 executions`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// An execution by its job and number, as far as they are known.
pub(super) fn job(job_id: Option<&str>, number: Option<i64>) -> String {
    match (job_id, number) {
        (Some(job), Some(number)) => format!("{job} #{number}"),
        (Some(job), None) => job.to_owned(),
        (None, Some(number)) => format!("#{number}"),
        (None, None) => "–".to_owned(),
    }
}
