//! The dashboard.

use maud::{Markup, html};

use super::text::{count, job, length, moment};
use crate::http::executions::Listed;
use crate::http::health::{Health, Verdict};
use crate::http::history::Event;
use crate::http::page::board::Board;
use crate::http::problem::Problem;
use crate::http::stores::Unavailable;

/// What a tab is called.
pub(super) fn title(board: &Board) -> String {
    format!("{} · jobexec", verdict(board.health.status).1)
}

/// What changes from one moment to the next: the sections that the script puts in place of those of the same id.
pub(super) fn live(board: &Board) -> Markup {
    html! {
        div #live data-title=(title(board)) {
            (health(board))
            (running(board))
            (plot(board))
            (events(board))
        }
    }
}

const fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Healthy => ("good", "Healthy"),
        Verdict::Warning => ("warn", "Warning"),
        Verdict::Unhealthy => ("bad", "Unhealthy"),
    }
}

fn health(board: &Board) -> Markup {
    let (class, word) = verdict(board.health.status);
    let metrics = &board.health.metrics;
    html! {
        section #health aria-label="Health" {
            div class={ "banner " (class) } {
                h1 { (word) }
                p {
                    @if let Some(only) = &board.only {
                        (only) " · " a href="/" { "show all stores" }
                    } @else {
                        (count(board.stores.len().try_into().unwrap_or(u64::MAX), "store"))
                    }
                    " · counted " (moment(Some(metrics.timestamp), board.now))
                }
            }
            dl.tiles {
                (tile("Running", metrics.running_executions, ""))
                (tile("Scheduled", metrics.scheduled_executions, ""))
                (tile("Long-running", metrics.long_running_executions, "warn"))
                (tile("Stale", metrics.stale_executions, "bad"))
                (tile("Started in 24 h", metrics.recent_executions_24h, ""))
            }
            @if board.stores.is_empty() { p.none { "There is no ExecutionStore yet." } }
            @if board.stores.len() > 1 || board.health.status != Verdict::Healthy { (stores(board)) }
        }
    }
}

fn tile(name: &str, figure: i64, alarm: &str) -> Markup {
    let class = if figure > 0 { alarm } else { "" };
    html! { div class={ "tile " (class) } { dt { (name) } dd { (figure) } } }
}

fn stores(board: &Board) -> Markup {
    html! {
        ul.stores {
            @for (name, Health { status, metrics, reason, message, .. }) in &board.stores {
                li {
                    span class={ "dot " (verdict(*status).0) } {}
                    strong { a id={ "store-" (name) } href={ "/?store=" (name) } { (name) } }
                    span { (verdict(*status).1) ", " (metrics.running_executions) " running" }
                    @if let (Some(reason), Some(message)) = (reason, message) {
                        p.why { (reason) ": " (message) }
                    }
                }
            }
        }
    }
}

/// Why something is not shown.
pub(super) fn trouble(problem: &Problem) -> Markup {
    html! { p.error { (problem) } }
}

pub(super) fn unavailable(stores: &[Unavailable]) -> Markup {
    html! { @for store in stores { p.error { (store.store) ": " (store.detail) } } }
}

fn running(board: &Board) -> Markup {
    html! {
        section.card #running {
            h2 { "Running executions" }
            @match &board.running {
                Err(problem) => (trouble(problem)),
                Ok(page) => {
                    (unavailable(&page.unavailable))
                    @if page.executions.is_empty() { p.none { "Nothing runs." } }
                    @else {
                        div.scroll tabindex="0" role="region" aria-label="Running executions" {
                            table {
                                thead { tr {
                                    th scope="col" { "Execution" } th scope="col" { "Job" } th.early scope="col" { "Started" }
                                    th.wide scope="col" { "Age against deadline" } th scope="col" { "Deadline" }
                                } }
                                tbody { @for row in &page.executions { (execution(board, row)) } }
                            }
                        }
                        @if page.next.is_some() {
                            p.hint { "The longest-running ones. There are more: "
                                code { "jobexec list" } " and the API tell them all." }
                        }
                    }
                }
            }
        }
    }
}

fn execution(board: &Board, row: &Listed) -> Markup {
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
                @if board.stores.len() > 1 { small { (row.store) } }
            }
            td {
                (job(row.job_id.as_deref(), row.execution_number))
                @if let Some(type_) = &row.job_type { small { (type_) } }
            }
            td.early { (moment(row.started_at, board.now)) }
            td.wide {
                (bar(class, row))
                @match (&row.stale, &row.suspected, row.long_running) {
                    (Some(reason), ..) => span.tag.bad { (reason) },
                    (None, Some(what), _) => span.tag.warn { "suspected: " (what) },
                    (None, None, true) => span.tag.warn { "long-running" },
                    (None, None, false) => {},
                }
            }
            td title=(source) { (moment(row.deadline, board.now)) }
        }
    }
}

/// How much of its time an execution has taken. Of an execution whose deadline is not known there is no bar.
fn bar(class: &str, row: &Listed) -> Markup {
    let (Some(age), Some(start), Some(deadline)) = (row.runtime_seconds, row.started_at, row.deadline) else {
        return html! {};
    };
    let whole = (deadline - start).as_seconds_f64();
    let share = if whole > 0.0 { 100.0 * age / whole } else { 100.0 };
    let label = format!("{} of {}, {share:.0} %", length(age), length(whole));
    html! {
        svg class={ "bar " (class) } role="img" aria-label=(label) {
            title { (label) }
            rect.track width="100%" height="100%" rx="4" {}
            rect.fill width={ (format!("{:.1}", share.clamp(0.5, 100.0))) "%" } height="100%" rx="4" {}
        }
        span.of { (length(age)) " of " (length(whole)) }
    }
}

/// The script draws it from the figures that stand here. Without a script the sentence tells the most of them.
fn plot(board: &Board) -> Markup {
    let points = &board.points;
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
                p.none { "No figures yet: they are kept once a minute." }
            } @else {
                figure {
                    div #plot data-step=(board.step.num_seconds()) data-columns=(format!("{columns:?}")) {}
                    figcaption {
                        "At most " (most(&columns[1])) " running, at most " (most(&columns[2])) " long-running, "
                        (failed) " failed or cancelled."
                    }
                }
            }
        }
    }
}

fn events(board: &Board) -> Markup {
    html! {
        section.card #events {
            h2 { "What was done lately" }
            @match &board.events {
                Err(problem) => (trouble(problem)),
                Ok(page) => {
                    (unavailable(&page.unavailable))
                    @if page.events.is_empty() { p.none { "Nothing yet." } }
                    @else {
                        div.scroll tabindex="0" role="region" aria-label="What was done lately" {
                            table {
                                thead { tr {
                                    th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Execution" }
                                    th scope="col" { "Job" } th scope="col" { "Why" } th scope="col" { "By" }
                                } }
                                tbody { @for row in &page.events { (event(board, row)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn event(board: &Board, row: &Event) -> Markup {
    let class = match row.action.as_str() {
        "Failed" | "Cancelled" => "bad",
        "Warned" | "Alerted" => "warn",
        _ => "",
    };
    html! {
        tr {
            td { (moment(Some(row.at), board.now)) }
            td { span class={ "tag " (class) } { (row.action) } }
            th scope="row" {
                (row.execution_id)
                @if board.stores.len() > 1 { small { (row.store) } }
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

/// Nothing for somebody who may not.
pub(super) fn clean_up_form(board: &Board) -> Markup {
    html! {
        @if !board.cleaned.is_empty() {
            section.card #clean-up {
                h2 { "Clean up" }
                form method="post" action="/clean-up" {
                    div.fields {
                        div {
                            label for="store" { "Store" }
                            select #store name="store" {
                                @if board.cleaned.len() > 1 { option value="" { "all that you may clean up" } }
                                @for name in &board.cleaned { option value=(name) { (name) } }
                            }
                        }
                        div {
                            label for="max-hours" { "Running for longer than (hours)" }
                            input #max-hours name="max_hours" type="number" min="0.01" max="399996" step="any"
                                placeholder="by the policies" aria-describedby="what";
                        }
                        div.check {
                            input #include-governed name="include_governed" type="checkbox" value="on";
                            label for="include-governed" { "those too that a policy, an extension or AlertOnly governs" }
                        }
                    }
                    p.hint #what {
                        "Without hours it ends what is stale by the policies, as a sweep does. You are asked before anything is changed."
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
