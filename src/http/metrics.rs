//! `GET /metrics`: to those whom Kubernetes allows it, at the address of the API; and where the administrator wants that, to
//! everybody who reaches the address of the probes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::ValueEnum;

use super::app::App;
use super::auth::{Access, Caller};
use super::problem::Problem;
use crate::controllers::Context;
use crate::metrics::Format;

/// Where they are.
const PATH: &str = "/metrics";

/// Who gets to see metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Exposure {
    /// At the address of the API, whoever may get the non-resource URL /metrics in Kubernetes.
    #[default]
    Authenticated,
    /// At the address of the probes too, whoever reaches it.
    Open,
}

/// At the address of the API.
pub(super) fn authenticated() -> Router<Arc<App>> {
    Router::new().route(
        PATH,
        get(async |Caller(user): Caller, State(app): State<Arc<App>>, headers: HeaderMap| {
            app.gate.require(&user, &Access::Metrics).await?;
            text(&app.context, &headers)
        }),
    )
}

/// At the address of the probes, where nobody is asked who he is.
pub(super) fn open(context: Arc<Context>) -> Router {
    let metrics = async |State(context): State<Arc<Context>>, headers: HeaderMap| {
        // Problems are the API's: here a status must do.
        text(&context, &headers).map_err(|error| {
            tracing::error!(?error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR
        })
    };
    Router::new().route(PATH, get(metrics)).with_state(context)
}

fn text(context: &Context, headers: &HeaderMap) -> Result<Response, Problem> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    let text = context.metrics.text(context.snapshot(), format);
    let text =
        text.map_err(|error| Problem::Internal(format!("the metrics could not be written: {error}")))?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}
