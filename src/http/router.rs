//! What is served where, and what every request passes on its way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::error_handling::HandleErrorLayer;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{BoxError, Router};
use tower::ServiceBuilder;
use tower::timeout::TimeoutLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::admission::{Credentials, Entrance, admit, in_a_slot};
use super::app::App;
use super::auth::{Access, Caller};
use super::documented::{self, Document};
use super::limits::{BODY_LIMIT, Limits};
use super::problem::Problem;
use super::slots::Slots;
use super::{cleanup, executions, explain, health, history, metrics, page, running, stats, trends};
use crate::boundary::{Panicked, Place, caught};
use crate::metrics::Metrics;

/// Names a request in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where the document is.
const DOCUMENT: &str = "/api/openapi.json";

/// What there is, each with what it says of itself.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(executions::executions))
        .routes(routes!(running::running))
        .routes(routes!(explain::explain))
        .routes(routes!(cleanup::cleanup))
        .routes(routes!(history::history))
        .routes(routes!(trends::trends))
        .routes(routes!(stats::stats))
}

/// The API.
pub(super) fn api(app: &Arc<App>, limits: Limits) -> Result<Router, serde_json::Error> {
    let (router, mut document) = routes().split_for_parts();
    documented::complete(&mut document);
    let document: Arc<str> = document.to_json()?.into();
    let document = get(move |caller: Caller, State(app): State<Arc<App>>| async move {
        app.gate.require(&caller.0, &Access::Path(DOCUMENT)).await?;
        Ok::<_, Problem>(([(CONTENT_TYPE, "application/json")], document.to_string()))
    });
    let metrics = app.context.metrics.clone();
    let slots = Slots::new(limits);
    let enter = |router: Router<Arc<App>>, credentials| {
        let entrance = Entrance { app: app.clone(), slots: slots.clone(), credentials };
        worked_on(router, entrance)
    };
    let router = enter(router.route(DOCUMENT, document).merge(metrics::authenticated()), Credentials::Token)
        .merge(enter(page::visited(), Credentials::Cookie))
        .merge(enter(page::open(), Credentials::None))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .with_state(app.clone());
    Ok(limited(router, limits, metrics))
}

/// What every request passes, the outermost first.
fn limited(router: Router, limits: Limits, metrics: Metrics) -> Router {
    let refused = move |error: BoxError| async move { refused(&error, limits.request) };
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(metrics, named))
        .layer(from_fn(small))
        .layer(HandleErrorLayer::new(refused))
        .layer(TimeoutLayer::new(limits.request));
    router.layer(layers)
}

/// What a request passes for which there is a handler, after that: only what begins work takes a slot.
fn worked_on(router: Router<Arc<App>>, entrance: Entrance) -> Router<Arc<App>> {
    let slots = entrance.slots.clone();
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(entrance, admit))
        .layer(from_fn(to_its_end))
        // What goes on without a client keeps its slot until its end: those who hang up and ask again would else have any number
        // of requests worked on.
        .layer(from_fn_with_state(slots, in_a_slot));
    router.route_layer(layers)
}

/// Goes on when its client has gone or has waited for too long: a statement goes on too, with its connection, and the next
/// request must not begin beside it.
async fn to_its_end(request: Request, next: Next) -> Response {
    let answer = tokio::spawn(caught(Place::Request, next.run(request))).await;
    // A task that is not there any more, as at the end of the process, counts as one that panicked.
    let answer = answer.unwrap_or(Err(Panicked(Place::Request)));
    answer.unwrap_or_else(|panicked| Problem::Internal(panicked.to_string()).into_response())
}

fn refused(error: &BoxError, limit: Duration) -> Problem {
    if error.is::<tower::timeout::error::Elapsed>() {
        Problem::TimedOut(limit)
    } else {
        Problem::Internal(error.to_string())
    }
}

/// Gives the request a name, its client's if he has one for it, and logs and counts what became of it.
async fn named(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let (method, begun) = (request.method().clone(), Instant::now());
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    // What clients make up is all one.
    let route = path.as_deref().unwrap_or("(none)");
    metrics.answered(route, response.status().as_u16(), begun.elapsed());
    tracing::debug!(
        request_id = id.to_str().unwrap_or_default(),
        %method,
        path,
        status = response.status().as_u16(),
        millis = begun.elapsed().as_millis(),
        "answered"
    );
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The name that the client gave the request, if it can stand in a log; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain =
        |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::new_v4().to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    })
}

/// Refuses a body that says itself that it is too large before anything else is done.
async fn small(request: Request, next: Next) -> Response {
    let length =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_LIMIT as u64) {
        return Problem::BodyTooLarge.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_text_of_a_panic_reaches_no_client_and_the_next_request_is_answered() {
        let limits = Limits {
            request: Duration::from_mins(1),
            requests: 1,
            requests_per_caller: None,
            connections: 1,
        };
        let broken = get(|| async {
            assert!(std::hint::black_box(false), "hunter2");
        });
        let router = Router::new().route("/broken", broken).route("/well", get(async || "well"));
        let router = limited(router.route_layer(from_fn(to_its_end)), limits, Metrics::default());
        let ask = |path: &str| {
            let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
            tower::ServiceExt::oneshot(router.clone(), request)
        };
        let answer = ask("/broken").await.unwrap();
        assert_eq!(answer.status(), axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("\"Internal\"") && !body.contains("hunter2"), "{body}");
        assert_eq!(ask("/well").await.unwrap().status(), axum::http::StatusCode::OK);
    }

    /// Two types of one name would take each other's place without a word.
    #[test]
    fn every_schema_is_in_the_document() {
        let (_, document) = routes().split_for_parts();
        let names: Vec<String> = document.components.unwrap().schemas.into_keys().collect();
        let expected = [
            "CleanUp",
            "CleanUpReport",
            "CleanedExecution",
            "Event",
            "Evidence",
            "Execution",
            "Executions",
            "Explanation",
            "Health",
            "History",
            "JobStats",
            "Metrics",
            "Outlook",
            "Problem",
            "Record",
            "Rule",
            "Sample",
            "Skipped",
            "Stats",
            "Trends",
            "Unavailable",
            "Verdict",
        ];
        assert_eq!(names, expected);
    }
}
