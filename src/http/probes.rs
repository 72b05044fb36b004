//! The probes of the kubelet, `/livez` and `/readyz`, without TLS or authentication.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::session::Context;

/// The routes of the probes.
pub(super) fn router(context: Arc<Context>) -> Router {
    Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(ready)).with_state(context)
}

/// Ready once the operator has read every store that the API server shows and, if there are other replicas, holds its
/// Lease. Namespaces that the API server does not show must not block the others. If the API server becomes
/// unavailable later, the replica stays ready until the Lease is lost.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    let (unsynced, refused) = context.stores().gaps();
    let line = |namespaces: &[String], state: &str| match namespaces {
        [] => String::new(),
        names => format!("{state}: {}\n", names.join(", ")),
    };
    let gaps = line(&unsynced, "the ExecutionStores of these namespaces are not synced yet")
        + &line(&refused, "the ExecutionStores of these namespaces cannot be watched, see the log");
    if context.stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator is stopping\n".to_owned())
    } else if !context.stores().seen() {
        (StatusCode::SERVICE_UNAVAILABLE, gaps)
    } else if !context.sharding.holds() {
        (StatusCode::SERVICE_UNAVAILABLE, format!("this replica does not hold its Lease yet\n{gaps}"))
    } else {
        (StatusCode::OK, format!("ok\n{gaps}"))
    }
}
