//! The execution statistics.

use chrono::TimeDelta;
use maud::{Markup, html};

use super::board::{trouble, unavailable};
use super::text::{count, length};
use super::{Frame, Shown};
use crate::api::duration;
use crate::db::stats::success;
use crate::http::page::stats::{LINES, Stats};
use crate::http::stats::{JobStats, Table};
use crate::http::stores::StoreName;

/// What can be chosen, and what people call it. Who writes the address can have any other.
const PERIODS: [(&str, TimeDelta); 3] =
    [("24 hours", TimeDelta::hours(24)), ("7 days", TimeDelta::days(7)), ("30 days", TimeDelta::days(30))];

/// The page.
pub(in crate::http::page) fn stats(name: &str, shown: &Stats) -> Shown {
    let inner = html! {
        section.card #stats {
            h1 { "Execution statistics" }
            p.hint {
                "What ended in the last " (called(shown.since)) ", of "
                @match &shown.only {
                    Some(only) => { (only) " · " a href={ "/stats?since=" (duration::format(shown.since)) } { "all stores" } },
                    None => (count(shown.stores.try_into().unwrap_or(u64::MAX), "store")),
                }
            }
            (periods(shown.only.as_ref(), Some(shown.since)))
            @match &shown.table {
                Err(problem) => (trouble(problem)),
                Ok(told) => (table(shown, told)),
            }
        }
    };
    Shown::ok(
        Frame { title: "Execution statistics · jobexec", name: Some(name), fresh: false }.around(&inner),
    )
}

/// Links to the stats of one store, or of all, one a period.
pub(super) fn periods(only: Option<&StoreName>, current: Option<TimeDelta>) -> Markup {
    html! {
        ul.periods {
            @for (name, period) in PERIODS {
                @let since = duration::format(period);
                li {
                    a id={ "since-" (since) } aria-current=[(current == Some(period)).then_some("page")]
                        href={ "/stats?since=" (since) @if let Some(only) = only { "&store=" (only) } } { (name) }
                }
            }
        }
    }
}

fn called(since: TimeDelta) -> String {
    let known = PERIODS.into_iter().find(|(_, period)| *period == since);
    known.map_or_else(|| duration::format(since), |(name, _)| name.to_owned())
}

fn table(shown: &Stats, told: &Table) -> Markup {
    html! {
        (unavailable(&told.unavailable))
        @if told.stats.is_empty() { p.none { "No execution has ended within that time." } }
        @else {
            div.scroll tabindex="0" role="region" aria-label="Execution statistics" {
                table {
                    thead { tr {
                        th scope="col" { "Job type, or job" } th scope="col" { "Ended" } th scope="col" { "Succeeded" }
                        th scope="col" { "Failed" } th scope="col" { "Cancelled" }
                        th scope="col" { abbr title="Ended, and finished otherwise after all: the timeout is too short" { "Late" } }
                        th scope="col" { abbr title="Half of the completed ones took at most so long" { "p50" } }
                        th scope="col" { abbr title="95 of 100 completed ones took at most so long" { "p95" } }
                        th scope="col" { abbr title="99 of 100 completed ones took at most so long" { "p99" } }
                    } }
                    tbody { @for job in &told.stats { (line(shown, job)) } }
                }
            }
            @if shown.more {
                p.hint { "The " (LINES) " of which the most executions ended. There are more: "
                    code { "jobexec stats" } " and the API tell of them too." }
            }
            p.hint { "Durations are those of completed executions whose start and end are known." }
        }
    }
}

fn line(shown: &Stats, job: &JobStats) -> Markup {
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
            td { (took(job.p50_seconds)) }
            td { (took(job.p95_seconds)) }
            td { (took(job.p99_seconds)) }
        }
    }
}

/// How long something took: to the hundredth of a second where seconds would say too little.
fn took(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 10.0 => format!("{seconds:.2} s"),
        Some(seconds) => length(seconds),
    }
}
