//! The HTML. It has no script and no style of its own, which the policy that is sent with it forbids; whatever comes from
//! a table is escaped.

mod board;
mod cleanup;
mod stats;
mod text;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets::ASSETS;
use super::board::Board;
use crate::http::problem::Problem;

pub(super) use cleanup::cleanup;
pub(super) use stats::stats;

/// Nothing but our own files, and no form that goes elsewhere; in nobody's frame. `same-origin`, as without any referrer
/// browsers do not say where a form is from.
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

/// HTML to be sent.
pub(super) struct Shown {
    status: StatusCode,
    /// When to try again, in seconds.
    retry_after: Option<HeaderValue>,
    markup: Markup,
}

impl Shown {
    const fn ok(markup: Markup) -> Self {
        Self { status: StatusCode::OK, retry_after: None, markup }
    }

    /// With this status.
    pub(super) fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        let headers = HEADERS.map(|(name, value)| (HeaderName::from_static(name), value));
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        let mut response = (self.status, html, headers, self.markup.into_string()).into_response();
        response.headers_mut().extend(self.retry_after.map(|after| (RETRY_AFTER, after)));
        response
    }
}

/// What stands around everything.
struct Frame<'a> {
    title: &'a str,
    /// Who has signed in.
    name: Option<&'a str>,
    /// Whether it is to be loaded anew where there is no script.
    fresh: bool,
}

impl Frame<'_> {
    fn around(&self, inner: &Markup) -> Markup {
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
                    @if self.fresh {
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

/// The dashboard.
pub(super) fn page(name: &str, shown: &Board) -> Shown {
    let title = board::title(shown);
    let frame = Frame { title: &title, name: Some(name), fresh: true };
    let inner = html! {
        p.lost #lost role="alert" hidden { "The operator does not answer: what you see is old." }
        (board::live(shown))
        section.card #to-stats {
            h2 { "How often each job type ends well, and how long it takes" }
            (stats::periods(shown.only.as_ref(), None))
        }
        (board::clean_up_form(shown))
    };
    Shown::ok(frame.around(&inner))
}

/// What changes of it.
pub(super) fn fragment(shown: &Board) -> Shown {
    Shown::ok(board::live(shown))
}

/// Where a token is asked for; with what is wrong with the one before.
pub(super) fn sign_in(problem: Option<&Problem>) -> Shown {
    let inner = html! {
        section.card.narrow {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.error #error role="alert" { (problem) } }
            form method="post" action="/sign-in" {
                label for="token" { "Token" }
                input #token type="password" name="token" autocomplete="off" spellcheck="false" required autofocus
                    aria-describedby="how";
                p.hint #how {
                    "A token of a Kubernetes ServiceAccount or user, for example of "
                    code { "kubectl create token NAME" }
                    ". It is kept by this browser until you sign out or close it, and by nobody else."
                }
                button.primary type="submit" { "Sign in" }
            }
        }
    };
    let status = problem.map_or(StatusCode::UNAUTHORIZED, |problem| problem.kind().0);
    let shown =
        Shown::ok(Frame { title: "Sign in · jobexec", name: None, fresh: false }.around(&inner)).with(status);
    Shown { retry_after: problem.and_then(Problem::retry_after), ..shown }
}

/// What is wrong, and a way back.
pub(super) fn problem(name: Option<&str>, problem: &Problem) -> Shown {
    let (status, _, title) = problem.kind();
    Shown { retry_after: problem.retry_after(), ..wrong(name, status, title, &problem.to_string()) }
}

/// A form that was not sent from here.
pub(super) fn foreign() -> Shown {
    let detail =
        "The form was sent by another site, or by no browser: open the page itself. Programs use the API.";
    wrong(None, StatusCode::FORBIDDEN, "This was not sent from the page", detail)
}

fn wrong(name: Option<&str>, status: StatusCode, title: &str, detail: &str) -> Shown {
    let inner = html! {
        section.card.narrow #problem role="alert" {
            h1 { (title) }
            p { (detail) }
            a.button href="/" { "Back" }
        }
    };
    Shown::ok(Frame { title, name, fresh: false }.around(&inner)).with(status)
}
