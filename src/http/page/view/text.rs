//! Times and lengths as people read them.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, html};

/// A length with two figures of precision or so: `22.1 h`, `35 min`.
pub(super) fn length(seconds: f64) -> String {
    match seconds.abs() {
        s if s < 60.0 => format!("{seconds:.0} s"),
        s if s < 3_600.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        s if s < 72.0 * 3_600.0 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_the_unit_that_fits() {
        let told = [0.0, 59.0, 60.0, 3_599.0, 3_600.0, 79_560.0, 864_000.0].map(length);
        assert_eq!(told, ["0 s", "59 s", "1 min", "59 min", "1.0 h", "22.1 h", "10.0 d"]);
    }
}
