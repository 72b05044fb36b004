//! `GET /metrics`: at the address of the API for authorized callers, and optionally at the address of the probes for
//! everybody who can reach it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::ValueEnum;

use super::app::App;
use super::auth::{Caller, Permission};
use super::problem::Problem;
use crate::metrics::{self, Format};
use crate::session::Context;

/// The path of the metrics.
const PATH: &str = "/metrics";

/// The addresses that serve metrics, and the required permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Exposure {
    /// At the address of the API, for callers with the right to get the non-resource URL /metrics in Kubernetes.
    #[default]
    Authenticated,
    /// At the address of the probes too, for everybody who can reach it.
    Open,
}

/// The route at the address of the API.
pub(super) fn authenticated() -> Router<Arc<App>> {
    Router::new().route(
        PATH,
        get(async |Caller(user): Caller, State(app): State<Arc<App>>, headers: HeaderMap| {
            app.authorizer.authorize(&user, &Permission::Metrics).await?;
            text(&app.context, &headers)
        }),
    )
}

/// The route at the address of the probes, without authentication.
pub(super) fn open(context: Arc<Context>) -> Router {
    let metrics = async |State(context): State<Arc<Context>>, headers: HeaderMap| {
        // Only the API returns problem details. Here, the status is enough.
        text(&context, &headers).map_err(|error| {
            tracing::error!(?error, "failed to encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR
        })
    };
    Router::new().route(PATH, get(metrics)).with_state(context)
}

fn text(context: &Context, headers: &HeaderMap) -> Result<Response, Problem> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    let text = metrics::text(context.metrics.clone(), context.snapshot(), format);
    let text = text.map_err(|error| Problem::Internal(format!("failed to encode the metrics: {error}")))?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}
