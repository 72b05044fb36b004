//! Renders the dashboard.

use maud::{Markup, html};

use super::text::{count, humanize, job, time_ago};
use crate::api::duration::NEVER;
use crate::http::audit::AuditRecord;
use crate::http::executions::Listed;
use crate::http::health::{Health, HealthStatus};
use crate::http::page::dashboard::Dashboard;
use crate::http::problem::Problem;
use crate::http::stores::Unavailable;

/// Returns the title of the browser tab.
pub(super) fn title(dashboard: &Dashboard) -> String {
    format!("{} · jobexec", status_class(dashboard.health.status).1)
}

/// Renders the sections that the script refreshes. It replaces each by its id.
pub(super) fn live(dashboard: &Dashboard) -> Markup {
    html! {
        div #live data-title=(title(dashboard)) {
            (health(dashboard))
            (running(dashboard))
            (plot(dashboard))
            (events(dashboard))
        }
    }
}

const fn status_class(status: HealthStatus) -> (&'static str, &'static str) {
    match status {
        HealthStatus::Healthy => ("good", "Healthy"),
        HealthStatus::Warning => ("warn", "Warning"),
        HealthStatus::Unhealthy => ("bad", "Unhealthy"),
    }
}

fn health(dashboard: &Dashboard) -> Markup {
    let (class, word) = status_class(dashboard.health.status);
    let metrics = &dashboard.health.metrics;
    html! {
        section #health aria-label="Health" {
            div class={ "banner " (class) } {
                h1 { (word) }
                p {
                    @if let Some(selected) = &dashboard.selected {
                        (selected) " · " a href="/" { "show all stores" }
                    } @else {
                        (count(dashboard.stores.len().try_into().unwrap_or(u64::MAX), "store"))
                    }
                    " · counted " (time_ago(Some(metrics.timestamp), dashboard.now))
                }
            }
            dl.tiles {
                (tile("Running", metrics.running_executions, ""))
                (tile("Scheduled", metrics.scheduled_executions, ""))
                (tile("Long-running", metrics.long_running_executions, "warn"))
                (tile("Stale", metrics.stale_executions, "bad"))
                (tile("Started in 24 h", metrics.recent_executions_24h, ""))
            }
            @if dashboard.stores.is_empty() { p.none { "There is no ExecutionStore yet." } }
            @if dashboard.stores.len() > 1 || dashboard.health.status != HealthStatus::Healthy { (stores(dashboard)) }
        }
    }
}

fn tile(name: &str, value: i64, alarm: &str) -> Markup {
    let class = if value > 0 { alarm } else { "" };
    html! { div class={ "tile " (class) } { dt { (name) } dd { (value) } } }
}

fn stores(dashboard: &Dashboard) -> Markup {
    html! {
        ul.stores {
            @for (name, Health { status, metrics, reason, message, .. }) in &dashboard.stores {
                li {
                    span class={ "dot " (status_class(*status).0) } {}
                    strong { a id={ "store-" (name) } href={ "/?store=" (name) } { (name) } }
                    span { (status_class(*status).1) ", " (metrics.running_executions) " running" }
                    @if let (Some(reason), Some(message)) = (reason, message) {
                        p.why { (reason) ": " (message) }
                    }
                }
            }
        }
    }
}

/// Renders an error in place of the data.
pub(super) fn error_box(problem: &Problem) -> Markup {
    html! { p.error { (problem) } }
}

pub(super) fn unavailable(stores: &[Unavailable]) -> Markup {
    html! { @for store in stores { p.error { (store.store) ": " (store.detail) } } }
}

fn running(dashboard: &Dashboard) -> Markup {
    html! {
        section.card #running {
            h2 { "Running executions" }
            @match &dashboard.running {
                Err(problem) => (error_box(problem)),
                Ok(page) => {
                    (unavailable(&page.unavailable))
                    @if page.executions.is_empty() { p.none { "No executions are running." } }
                    @else {
                        div.scroll tabindex="0" role="region" aria-label="Running executions" {
                            table {
                                thead { tr {
                                    th scope="col" { "Execution" } th scope="col" { "Job" } th.early scope="col" { "Started" }
                                    th.wide scope="col" { "Age relative to deadline" } th scope="col" { "Deadline" }
                                } }
                                tbody { @for row in &page.executions { (execution(dashboard, row)) } }
                            }
                        }
                        @if page.next.is_some() {
                            p.hint { "This table shows the longest-running executions. To see all, use "
                                code { "jobexec list" } " or the API." }
                        }
                    }
                }
            }
        }
    }
}

fn execution(dashboard: &Dashboard, row: &Listed) -> Markup {
    let class = match (&row.stale, row.long_running) {
        (Some(_), _) => "bad",
        (None, true) => "warn",
        (None, false) => "good",
    };
    let source = format!("timeout from {}", row.timeout_source);
    html! {
        tr {
            th scope="row" {
                (row.id)
                @if dashboard.stores.len() > 1 { small { (row.store) } }
            }
            td {
                (job(row.job_id.as_deref(), row.execution_number))
                @if let Some(type_) = &row.job_type { small { (type_) } }
            }
            td.early { (time_ago(row.started_at, dashboard.now)) }
            td.wide {
                (bar(class, row))
                @match (&row.stale, &row.suspected, row.long_running) {
                    (Some(reason), ..) => span.tag.bad { (reason) },
                    (None, Some(what), _) => span.tag.warn { "suspected: " (what) },
                    (None, None, true) => span.tag.warn { "long-running" },
                    (None, None, false) => {},
                }
            }
            td title=(source) {
                @if row.timeout_seconds.is_none() { (NEVER) } @else { (time_ago(row.deadline, dashboard.now)) }
            }
        }
    }
}

/// Renders the age of an execution relative to its deadline, or nothing if either is unknown. Without a deadline, renders the age.
fn bar(class: &str, row: &Listed) -> Markup {
    if let (Some(age), None) = (row.runtime_seconds, row.timeout_seconds) {
        return html! { span.of { (humanize(age)) } };
    }
    let (Some(age), Some(start), Some(deadline)) = (row.runtime_seconds, row.started_at, row.deadline) else {
        return html! {};
    };
    let whole = (deadline - start).as_seconds_f64();
    let share = if whole > 0.0 { 100.0 * age / whole } else { 100.0 };
    let label = format!("{} of {}, {share:.0} %", humanize(age), humanize(whole));
    html! {
        svg class={ "bar " (class) } role="img" aria-label=(label) {
            title { (label) }
            rect.track width="100%" height="100%" rx="4" {}
            rect.fill width={ (format!("{:.1}", share.clamp(0.5, 100.0))) "%" } height="100%" rx="4" {}
        }
        span.of { (humanize(age)) " of " (humanize(whole)) }
    }
}

/// Renders the data of the plot, which the script draws. The sentence below it has the maxima, also for browsers
/// without JavaScript.
fn plot(dashboard: &Dashboard) -> Markup {
    let points = &dashboard.points;
    let column = |of: fn(&crate::db::samples::Point) -> i64| -> Vec<i64> { points.iter().map(of).collect() };
    let columns = [
        column(|point| point.at.timestamp()),
        column(|point| point.running),
        column(|point| point.long_running),
        column(|point| point.failed),
    ];
    let most = |column: &[i64]| column.iter().copied().max().unwrap_or_default();
    let failed: i64 = columns[3].iter().sum();
    html! {
        section.card #history {
            h2 { "The last 24 hours" }
            @if points.is_empty() {
                p.none { "No samples yet: the operator stores one every minute." }
            } @else {
                figure {
                    div #plot data-step=(dashboard.step.num_seconds()) data-columns=(format!("{columns:?}")) {}
                    figcaption {
                        "At most " (most(&columns[1])) " running, at most " (most(&columns[2])) " long-running, "
                        (failed) " failed or cancelled."
                    }
                }
            }
        }
    }
}

fn events(dashboard: &Dashboard) -> Markup {
    html! {
        section.card #events {
            h2 { "Recent actions" }
            @match &dashboard.events {
                Err(problem) => (error_box(problem)),
                Ok(page) => {
                    (unavailable(&page.unavailable))
                    @if page.events.is_empty() { p.none { "No actions yet." } }
                    @else {
                        div.scroll tabindex="0" role="region" aria-label="Recent actions" {
                            table {
                                thead { tr {
                                    th scope="col" { "Time" } th scope="col" { "Action" } th scope="col" { "Execution" }
                                    th scope="col" { "Job" } th scope="col" { "Reason" } th scope="col" { "Source" }
                                } }
                                tbody { @for row in &page.events { (event(dashboard, row)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn event(dashboard: &Dashboard, row: &AuditRecord) -> Markup {
    let class = match row.action.as_str() {
        "Failed" | "Cancelled" => "bad",
        "Warned" | "Alerted" => "warn",
        _ => "",
    };
    html! {
        tr {
            td { (time_ago(Some(row.at), dashboard.now)) }
            td { span class={ "tag " (class) } { (row.action) } }
            th scope="row" {
                (row.execution_id)
                @if dashboard.stores.len() > 1 { small { (row.store) } }
            }
            td { (job(row.job_id.as_deref(), row.execution_number)) }
            td {
                (row.reason)
                @if let Some(note) = &row.note { small { (note) } }
            }
            td {
                (row.source)
                @if let Some(actor) = &row.actor { small { (actor) } }
            }
        }
    }
}

/// Renders the clean-up form, if the user may clean up any store.
pub(super) fn cleanup_form(dashboard: &Dashboard) -> Markup {
    html! {
        @if !dashboard.cleanable.is_empty() {
            section.card #clean-up {
                h2 { "Clean up" }
                form method="post" action="/clean-up" {
                    div.fields {
                        div {
                            label for="store" { "Store" }
                            select #store name="store" {
                                @if dashboard.cleanable.len() > 1 { option value="" { "all stores that you may clean up" } }
                                @for name in &dashboard.cleanable { option value=(name) { (name) } }
                            }
                        }
                        div {
                            label for="max-hours" { "Running for longer than (hours)" }
                            input #max-hours name="max_hours" type="number" min="0.01" max="399996" step="any"
                                placeholder="by the policies" aria-describedby="what";
                        }
                        div.check {
                            input #include-governed name="include_governed" type="checkbox" value="on";
                            label for="include-governed" { "Include executions that a policy, an extension or AlertOnly governs" }
                        }
                    }
                    p.hint #what {
                        "Without hours, it ends the executions that are stale by the policies, as a sweep does. It asks for confirmation before it changes anything."
                    }
                    div.buttons {
                        button #dry-run type="submit" name="step" value="dry" { "Dry run" }
                        button #ask.danger type="submit" name="step" value="ask" { "Clean up …" }
                    }
                }
            }
        }
    }
}
