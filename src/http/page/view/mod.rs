//! Renders HTML. It has no inline scripts or styles, because the Content-Security-Policy forbids them. Data from
//! tables is escaped.

mod cleanup;
mod dashboard;
mod stats;
mod text;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets::ASSETS;
use super::dashboard::Dashboard;
use crate::http::problem::Problem;

pub(super) use cleanup::cleanup;
pub(super) use stats::stats;

/// Headers that allow only the operator's own files, no forms to other sites, and no embedding in frames. The referrer
/// policy is `same-origin`, because browsers that send no referrer do not report the origin of a form either.
const HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// An HTML response.
pub(super) struct Rendered {
    status: StatusCode,
    /// The value of `Retry-After`, in seconds.
    retry_after: Option<HeaderValue>,
    markup: Markup,
}

impl Rendered {
    const fn ok(markup: Markup) -> Self {
        Self { status: StatusCode::OK, retry_after: None, markup }
    }

    /// Returns the response with this status.
    pub(super) fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        let headers = HEADERS.map(|(name, value)| (HeaderName::from_static(name), value));
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        let mut response = (self.status, html, headers, self.markup.into_string()).into_response();
        response.headers_mut().extend(self.retry_after.map(|after| (RETRY_AFTER, after)));
        response
    }
}

/// The layout of all pages.
struct Layout<'a> {
    title: &'a str,
    /// The name of the user, if signed in.
    name: Option<&'a str>,
    /// Whether the page refreshes itself: with the script, or by reloading if JavaScript is off.
    auto_refresh: bool,
}

impl Layout<'_> {
    fn wrap(&self, inner: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (self.title) }
                    link rel="icon" href=(ASSETS.icon.path) type="image/svg+xml";
                    link rel="stylesheet" href=(ASSETS.plot_style.path);
                    link rel="stylesheet" href=(ASSETS.style.path);
                    @if self.auto_refresh {
                        noscript { meta http-equiv="refresh" content="30"; }
                        script src=(ASSETS.plot.path) defer {}
                        script src=(ASSETS.script.path) defer {}
                    }
                }
                body {
                    header.top {
                        a.brand href="/" { "jobexec" }
                        @if let Some(name) = self.name {
                            form method="post" action="/sign-out" {
                                span.user title=(name) { (name) }
                                button.quiet type="submit" { "Sign out" }
                            }
                        }
                    }
                    main { (inner) }
                }
            }
        }
    }
}

/// Renders the dashboard as a whole page.
pub(super) fn page(name: &str, dashboard: &Dashboard) -> Rendered {
    let title = dashboard::title(dashboard);
    let frame = Layout { title: &title, name: Some(name), auto_refresh: true };
    let inner = html! {
        p.lost #lost role="alert" hidden { "The operator does not answer: this data is out of date." }
        (dashboard::live(dashboard))
        section.card #to-stats {
            h2 { "Execution statistics by job type" }
            (stats::periods(dashboard.selected.as_ref(), None))
        }
        (dashboard::cleanup_form(dashboard))
    };
    Rendered::ok(frame.wrap(&inner))
}

/// Renders the part of the dashboard that the script refreshes.
pub(super) fn fragment(dashboard: &Dashboard) -> Rendered {
    Rendered::ok(dashboard::live(dashboard))
}

/// Renders the sign-in form, with the error of the previous attempt.
pub(super) fn sign_in(problem: Option<&Problem>) -> Rendered {
    let inner = html! {
        section.card.narrow {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.error #error role="alert" { (problem) } }
            form method="post" action="/sign-in" {
                label for="token" { "Token" }
                input #token type="password" name="token" autocomplete="off" spellcheck="false" required autofocus
                    aria-describedby="how";
                p.hint #how {
                    "A token of a Kubernetes ServiceAccount or user, for example from "
                    code { "kubectl create token NAME" }
                    ". Only this browser stores it, until you sign out or close the browser."
                }
                button.primary type="submit" { "Sign in" }
            }
        }
    };
    let status = problem.map_or(StatusCode::UNAUTHORIZED, |problem| problem.kind().0);
    let shown =
        Rendered::ok(Layout { title: "Sign in · jobexec", name: None, auto_refresh: false }.wrap(&inner))
            .with(status);
    Rendered { retry_after: problem.and_then(Problem::retry_after), ..shown }
}

/// Renders an error, with a link back to the page.
pub(super) fn problem(name: Option<&str>, problem: &Problem) -> Rendered {
    let (status, _, title) = problem.kind();
    Rendered { retry_after: problem.retry_after(), ..error_page(name, status, title, &problem.to_string()) }
}

/// Renders the error for a form that another site sent.
pub(super) fn cross_site() -> Rendered {
    let detail = "Another site sent this form, or a program that is not a browser. Open the page itself; programs use the API.";
    error_page(None, StatusCode::FORBIDDEN, "The form was not sent from this page", detail)
}

fn error_page(name: Option<&str>, status: StatusCode, title: &str, detail: &str) -> Rendered {
    let inner = html! {
        section.card.narrow #problem role="alert" {
            h1 { (title) }
            p { (detail) }
            a.button href="/" { "Back" }
        }
    };
    Rendered::ok(Layout { title, name, auto_refresh: false }.wrap(&inner)).with(status)
}
