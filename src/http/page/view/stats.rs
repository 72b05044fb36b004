//! The page of execution statistics.

use chrono::TimeDelta;
use maud::{Markup, html};

use super::dashboard::{error_box, unavailable};
use super::text::{count, humanize};
use super::{Layout, Rendered};
use crate::api::duration;
use crate::db::stats::success;
use crate::http::page::stats::{MAX_ROWS, Stats};
use crate::http::stats::{JobStats, Table};
use crate::http::stores::StoreName;

/// The periods with a link, and their names. The URL accepts any other period.
const PERIODS: [(&str, TimeDelta); 3] =
    [("24 hours", TimeDelta::hours(24)), ("7 days", TimeDelta::days(7)), ("30 days", TimeDelta::days(30))];

/// Renders the page.
pub(in crate::http::page) fn stats(name: &str, shown: &Stats) -> Rendered {
    let inner = html! {
        section.card #stats {
            h1 { "Execution statistics" }
            p.hint {
                "Executions that ended in the last " (period_name(shown.since)) ", of "
                @match &shown.selected {
                    Some(selected) => { (selected) " · " a href={ "/stats?since=" (duration::format(shown.since)) } { "all stores" } },
                    None => (count(shown.stores.try_into().unwrap_or(u64::MAX), "store")),
                }
            }
            (periods(shown.selected.as_ref(), Some(shown.since)))
            @match &shown.table {
                Err(problem) => (error_box(problem)),
                Ok(stats) => (table(shown, stats)),
            }
        }
    };
    Rendered::ok(
        Layout { title: "Execution statistics · jobexec", name: Some(name), auto_refresh: false }
            .wrap(&inner),
    )
}

/// Links to the statistics of one store or of all stores, one for each period.
pub(super) fn periods(selected: Option<&StoreName>, current: Option<TimeDelta>) -> Markup {
    html! {
        ul.periods {
            @for (name, period) in PERIODS {
                @let since = duration::format(period);
                li {
                    a id={ "since-" (since) } aria-current=[(current == Some(period)).then_some("page")]
                        href={ "/stats?since=" (since) @if let Some(selected) = selected { "&store=" (selected) } } { (name) }
                }
            }
        }
    }
}

fn period_name(since: TimeDelta) -> String {
    let known = PERIODS.into_iter().find(|(_, period)| *period == since);
    known.map_or_else(|| duration::format(since), |(name, _)| name.to_owned())
}

fn table(shown: &Stats, stats: &Table) -> Markup {
    html! {
        (unavailable(&stats.unavailable))
        @if stats.stats.is_empty() { p.none { "No execution ended in this period." } }
        @else {
            div.scroll tabindex="0" role="region" aria-label="Execution statistics" {
                table {
                    thead { tr {
                        th scope="col" { "Job type or job" } th scope="col" { "Ended" } th scope="col" { "Succeeded" }
                        th scope="col" { "Failed" } th scope="col" { "Cancelled" }
                        th scope="col" { abbr title="Executions that were ended and finished otherwise later: the timeout is too short" { "Late" } }
                        th scope="col" { abbr title="Median duration of completed executions" { "p50" } }
                        th scope="col" { abbr title="95th percentile of the durations of completed executions" { "p95" } }
                        th scope="col" { abbr title="99th percentile of the durations of completed executions" { "p99" } }
                    } }
                    tbody { @for job in &stats.stats { (table_row(shown, job)) } }
                }
            }
            @if shown.more {
                p.hint { "This table shows the " (MAX_ROWS) " with the most executions. To see all, use "
                    code { "jobexec stats" } " or the API." }
            }
            p.hint { "Durations are those of completed executions whose start and end are known." }
        }
    }
}

fn table_row(shown: &Stats, job: &JobStats) -> Markup {
    html! {
        tr {
            th scope="row" {
                @match (&job.job_type, &job.job_id) {
                    (Some(type_), _) => (type_),
                    (None, Some(job)) => { "job " (job) },
                    (None, None) => "no type",
                }
                @if shown.stores > 1 { small { (job.store) } }
            }
            td { (job.executions) }
            td { (success(job.completed, job.executions)) }
            td { (job.failed) }
            td { (job.cancelled) }
            td { (job.finished_late) }
            td { (format_seconds(job.p50_seconds)) }
            td { (format_seconds(job.p95_seconds)) }
            td { (format_seconds(job.p99_seconds)) }
        }
    }
}

/// Formats a duration, with hundredths of a second below 10 seconds.
fn format_seconds(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 10.0 => format!("{seconds:.2} s"),
        Some(seconds) => humanize(seconds),
    }
}
