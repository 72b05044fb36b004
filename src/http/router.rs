//! The routes, and the middleware of each request.

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

use super::admission::{Admission, Credentials, admit, with_slot};
use super::app::App;
use super::auth::{Caller, Permission};
use super::limits::{BODY_LIMIT, Limits};
use super::openapi::{self, Document};
use super::problem::Problem;
use super::slots::Slots;
use super::{audit, cleanup, executions, explain, health, metrics, page, retry, running, stats, trends};
use crate::boundary::{Panicked, Place, caught};
use crate::metrics::Metrics;

/// Identifies a request in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The path of the `OpenAPI` document.
const DOCUMENT_PATH: &str = "/api/openapi.json";

/// All documented endpoints.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health))
        .routes(routes!(executions::executions))
        .routes(routes!(running::running))
        .routes(routes!(explain::explain))
        .routes(routes!(cleanup::cleanup))
        .routes(routes!(retry::retry))
        .routes(routes!(audit::history))
        .routes(routes!(trends::trends))
        .routes(routes!(stats::stats))
}

/// Builds the router of the API.
///
/// Fails if the `OpenAPI` document cannot be serialized.
pub(super) fn api(app: &Arc<App>, limits: Limits) -> Result<Router, serde_json::Error> {
    let (router, mut document) = routes().split_for_parts();
    openapi::add_headers(&mut document);
    let document: Arc<str> = document.to_json()?.into();
    let document = get(move |caller: Caller, State(app): State<Arc<App>>| async move {
        app.authorizer.authorize(&caller.0, &Permission::Path(DOCUMENT_PATH)).await?;
        Ok::<_, Problem>(([(CONTENT_TYPE, "application/json")], document.to_string()))
    });
    let metrics = app.context.metrics.clone();
    let slots = Slots::new(limits);
    let admitted = |router: Router<Arc<App>>, credentials| {
        let admission = Admission { app: app.clone(), slots: slots.clone(), credentials };
        apply_route_layers(router, admission)
    };
    let router =
        admitted(router.route(DOCUMENT_PATH, document).merge(metrics::authenticated()), Credentials::Token)
            .merge(admitted(page::signed_in_routes(), Credentials::Cookie))
            .merge(admitted(page::public_routes(), Credentials::None))
            .fallback(async || Problem::NotFound)
            .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
            .with_state(app.clone());
    Ok(apply_layers(router, limits, metrics))
}

/// Applies the middleware for every request, outermost first.
fn apply_layers(router: Router, limits: Limits, metrics: Metrics) -> Router {
    let on_error = move |error: BoxError| async move { map_layer_error(&error, limits.request) };
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(metrics, request_log))
        .layer(from_fn(check_content_length))
        .layer(HandleErrorLayer::new(on_error))
        .layer(TimeoutLayer::new(limits.request));
    router.layer(layers)
}

/// Applies the middleware for requests that have a handler. It runs after [`apply_layers`]. Only admitted requests
/// take a slot.
fn apply_route_layers(router: Router<Arc<App>>, admission: Admission) -> Router<Arc<App>> {
    let slots = admission.slots.clone();
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(admission, admit))
        .layer(from_fn(detach_from_client))
        // Work that continues without a client keeps its slot until it ends. Otherwise clients that disconnect and
        // retry could start any number of requests.
        .layer(from_fn_with_state(slots, with_slot));
    router.route_layer(layers)
}

/// Continues when the client has disconnected or the request has timed out: its SQL statement also continues and holds
/// its connection, and the next request must not start beside it.
async fn detach_from_client(request: Request, next: Next) -> Response {
    let answer = tokio::spawn(caught(Place::Request, next.run(request))).await;
    // A task that no longer exists, for example because the process is ending, counts as panicked.
    let answer = answer.unwrap_or(Err(Panicked(Place::Request)));
    answer.unwrap_or_else(|panicked| Problem::Internal(panicked.to_string()).into_response())
}

fn map_layer_error(error: &BoxError, limit: Duration) -> Problem {
    if error.is::<tower::timeout::error::Elapsed>() {
        Problem::TimedOut(limit)
    } else {
        Problem::Internal(error.to_string())
    }
}

/// Sets the request's id (the client's own, if it sent a valid one), logs the request and counts it.
async fn request_log(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let (method, begun) = (request.method().clone(), Instant::now());
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    // All unknown paths share one label, since clients can make up any number of them.
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

/// Returns the client's request id if it is safe to log, or else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain =
        |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::new_v4().to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    })
}

/// Rejects a body whose `Content-Length` is too large, before anything else is done.
async fn check_content_length(request: Request, next: Next) -> Response {
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
        let router =
            apply_layers(router.route_layer(from_fn(detach_from_client)), limits, Metrics::default());
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

    /// If two types had the same name, one would silently replace the other.
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
            "RequestedRetry",
            "Retry",
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
