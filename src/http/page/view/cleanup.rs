//! What a clean-up would do, the question, and what it did.

use maud::{Markup, html};

use super::text::{count, job, length};
use super::{Frame, Shown};
use crate::http::cleanup::{Report, Row};
use crate::http::page::{Order, Step};

/// The page after one of the buttons.
pub(in crate::http::page) fn cleanup(name: &str, order: &Order, report: &Report) -> Shown {
    let executions = count(report.cleaned, "execution");
    let title = match order.step {
        Step::Dry => format!("Would end {executions}"),
        Step::Ask if report.cleaned == 0 => "There is nothing to clean up".to_owned(),
        Step::Ask => format!("End {executions}?"),
        Step::Do => format!("Ended {executions}"),
    };
    let inner = html! {
        section.card #report {
            h1 role="status" { (title) }
            @for store in &report.unavailable { p.error role="alert" { (store.store) ": " (store.detail) } }
            (sentence(order.step, report))
            (buttons(order, report))
            @if !report.executions.is_empty() { (rows(report)) }
            @if report.omitted > 0 { p.hint { "And " (report.omitted) " more." } }
        }
    };
    Shown::ok(Frame { title: &format!("{title} · jobexec"), name: Some(name), fresh: false }.around(&inner))
}

fn sentence(step: Step, report: &Report) -> Markup {
    html! {
        p {
            @match step {
                Step::Dry => "A dry run: nothing was changed. ",
                Step::Ask if report.cleaned > 0 => "They are marked as ended in their table, which cannot be taken back. What is stale by then is what counts. ",
                Step::Ask => "Nothing is stale, or old enough. ",
                Step::Do => "Each is recorded with your name. ",
            }
            @if report.skipped > 0 { (count(report.skipped, "other execution")) " left as they are, see below." }
        }
    }
}

/// The way back comes first, so that Enter alone ends nothing.
fn buttons(order: &Order, report: &Report) -> Markup {
    let asks = order.step == Step::Ask && report.cleaned > 0;
    html! {
        form.buttons method="post" action="/clean-up" {
            input type="hidden" name="store" value=(order.store);
            input type="hidden" name="max_hours" value=(order.max_hours);
            @if order.include_governed.is_some() { input type="hidden" name="include_governed" value="on"; }
            a.button #back href="/" autofocus { @if asks { "No, change nothing" } @else { "Back" } }
            @if asks {
                button #do.danger type="submit" name="step" value="do" { "Yes, end " (count(report.cleaned, "execution")) }
            } @else if order.step == Step::Dry && report.cleaned > 0 {
                button #ask.danger type="submit" name="step" value="ask" { "Clean up …" }
            }
        }
    }
}

fn rows(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Executions" {
            table {
                thead { tr {
                    th scope="col" { "Execution" } th scope="col" { "Job" } th scope="col" { "Runtime" }
                    th scope="col" { "What" } th scope="col" { "Why" }
                } }
                tbody { @for row in &report.executions { (line(report.dry_run, row)) } }
            }
        }
    }
}

fn line(dry_run: bool, row: &Row) -> Markup {
    let what = match (row.action.as_deref(), dry_run) {
        (None, _) => "left as it is".to_owned(),
        (Some(action), true) => format!("would be {}", action.to_lowercase()),
        (Some(action), false) => action.to_lowercase(),
    };
    html! {
        tr {
            th scope="row" { (row.id) small { (row.store) } }
            td { (job(row.job_id.as_deref(), row.execution_number)) }
            td { (row.runtime_seconds.map_or_else(|| "–".to_owned(), length)) }
            td { span class=(if row.action.is_some() { "tag bad" } else { "tag" }) { (what) } }
            td {
                @if let Some(skipped) = &row.skipped { (skipped.reason) small { (skipped.message) } }
                @else {
                    (row.reason.as_deref().unwrap_or("–"))
                    @if let Some(source) = &row.source { small { (source) } }
                }
            }
        }
    }
}
