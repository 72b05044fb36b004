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

/// Ready once every store has been seen that the API server shows and, beside other replicas, the Lease is held; of what it does
/// not show others are not to suffer. That the API server is away later changes nothing, until the Lease is lost.
async fn ready(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    let (unseen, refused) = context.stores().gaps();
    let told = |which: &[String], what: &str| match which {
        [] => String::new(),
        names => format!("{what}: {}\n", names.join(", ")),
    };
    let gaps = told(&unseen, "not all ExecutionStores have been seen in")
        + &told(&refused, "ExecutionStores cannot be watched, see the log, in");
    if context.stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator is stopping\n".to_owned())
    } else if !context.stores().seen() {
        (StatusCode::SERVICE_UNAVAILABLE, gaps)
    } else if !context.membership.holds() {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the Lease of this replica is not held yet\n{gaps}"))
    } else {
        (StatusCode::OK, format!("ok\n{gaps}"))
    }
}
