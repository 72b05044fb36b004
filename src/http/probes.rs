//! For the kubelet, without TLS and without asking who: `/livez` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::controllers::Context;

/// The probes.
pub(super) fn router(context: Arc<Context>) -> Router {
    Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(ready)).with_state(context)
}

/// Ready once every store that exists has been seen and, beside other replicas, the Lease is held. That the API server is
/// away later changes nothing, until the Lease is lost.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, &'static str) {
    if context.stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator is stopping\n")
    } else if !context.stores_seen() {
        (StatusCode::SERVICE_UNAVAILABLE, "not all ExecutionStores have been seen\n")
    } else if !context.membership.holds() {
        (StatusCode::SERVICE_UNAVAILABLE, "the Lease of this replica is not held yet\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}
