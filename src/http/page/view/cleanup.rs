//! Renders a dry run, the confirmation, and the result of a clean-up.

use maud::{Markup, html};

use super::text::{count, humanize, job};
use super::{Layout, Rendered};
use crate::http::cleanup::{Report, Row};
use crate::http::page::{Action, CleanupForm};

/// Renders the page.
pub(in crate::http::page) fn cleanup(name: &str, form: &CleanupForm, report: &Report) -> Rendered {
    let executions = count(report.cleaned, "execution");
    let title = match form.action {
        Action::Dry => format!("Would end {executions}"),
        Action::Ask if report.cleaned == 0 => "Nothing to clean up".to_owned(),
        Action::Ask => format!("End {executions}?"),
        Action::Do => format!("Ended {executions}"),
    };
    let inner = html! {
        section.card #report {
            h1 role="status" { (title) }
            @for store in &report.unavailable { p.error role="alert" { (store.store) ": " (store.detail) } }
            (sentence(form.action, report))
            (buttons(form, report))
            @if !report.executions.is_empty() { (rows(report)) }
            @if report.omitted > 0 { p.hint { (report.omitted) " more are not shown." } }
        }
    };
    Rendered::ok(
        Layout { title: &format!("{title} · jobexec"), name: Some(name), auto_refresh: false }.wrap(&inner),
    )
}

fn sentence(action: Action, report: &Report) -> Markup {
    html! {
        p {
            @match action {
                Action::Dry => "A dry run: nothing was changed. ",
                Action::Ask if report.cleaned > 0 => "Their rows are marked as ended, which cannot be undone. The clean-up ends the executions that are stale at that time. ",
                Action::Ask => "No execution is stale or old enough. ",
                Action::Do => "Each action is recorded with your name. ",
            }
            @if report.skipped > 0 { (count(report.skipped, "other execution")) " skipped, see below." }
        }
    }
}

/// The link back comes first and has the focus, so that pressing Enter ends nothing.
fn buttons(form: &CleanupForm, report: &Report) -> Markup {
    let asks = form.action == Action::Ask && report.cleaned > 0;
    html! {
        form.buttons method="post" action="/clean-up" {
            input type="hidden" name="store" value=(form.store);
            input type="hidden" name="max_hours" value=(form.max_hours);
            @if form.include_governed.is_some() { input type="hidden" name="include_governed" value="on"; }
            a.button #back href="/" autofocus { @if asks { "No, change nothing" } @else { "Back" } }
            @if asks {
                button #do.danger type="submit" name="step" value="do" { "Yes, end " (count(report.cleaned, "execution")) }
            } @else if form.action == Action::Dry && report.cleaned > 0 {
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
                    th scope="col" { "Action" } th scope="col" { "Reason" }
                } }
                tbody { @for row in &report.executions { (table_row(report.dry_run, row)) } }
            }
        }
    }
}

fn table_row(dry_run: bool, row: &Row) -> Markup {
    let what = match (row.action.as_deref(), dry_run) {
        (None, _) => "skipped".to_owned(),
        (Some(action), true) => format!("would be {}", action.to_lowercase()),
        (Some(action), false) => action.to_lowercase(),
    };
    html! {
        tr {
            th scope="row" { (row.id) small { (row.store) } }
            td { (job(row.job_id.as_deref(), row.execution_number)) }
            td { (row.runtime_seconds.map_or_else(|| "–".to_owned(), humanize)) }
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
