//! The HTTPS API, for people and programs without a Kubernetes client.
//!
//! - [`listen`] accepts connections, as many as `eviction` admits from each `origin`; `connection` serves one
//!   connection, with [`tls`] and its `limits`; `router` maps paths to handlers;
//! - `admission` authenticates the caller, checks whether the caller may send the body, and reads the body. Only
//!   then does the request take one of the `slots`. [`auth`] asks Kubernetes for these decisions; `store_lookup` finds
//!   the `stores` that the caller may use;
//! - each endpoint has one file: `health`, with counts kept current by `freshness`; `executions` with `running`;
//!   `explain`; `cleanup` with `cleanup_service` and the checks in `preflight`; `audit` (`/api/system/history`);
//!   `trends` and `stats`, both over a `time_range`. `pagination` merges the lists of several stores, and `openapi`
//!   describes all endpoints;
//! - `page` shows the same data to a person with a browser;
//! - `types` has the types that clients read and write;
//! - `metrics` serves Prometheus, `probes` the kubelet; `problem` lists all errors.
//!
//! Enforcement does not depend on this module. Reads use one connection of a store at a time.

mod admission;
mod app;
mod audit;
pub mod auth;
mod cleanup;
mod cleanup_service;
mod connection;
mod duration_schema;
mod eviction;
mod executions;
mod explain;
mod extract;
mod freshness;
mod health;
mod limits;
pub mod listen;
pub mod metrics;
mod openapi;
mod origin;
mod page;
mod pagination;
mod phase;
mod preflight;
mod probes;
mod problem;
mod retry;
mod router;
mod running;
mod slots;
mod stats;
mod store_lookup;
mod stores;
mod time_range;
pub mod tls;
mod trends;
pub(crate) mod types;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::session::Context;
use app::App;
use auth::Authorizer;
use connection::{ConnectionHandler, Timing};
pub use limits::Limits;
use limits::{DRAIN_LIMIT, HEAD_LIMIT, PROBE_HEAD_LIMIT};
use listen::{HttpListener, Listen};
use tls::Identity;

/// Options of the HTTP servers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address of the API.
    pub https: Listen,
    /// The source of the API's certificate.
    pub certificate: tls::Source,
    /// Options for authenticating and authorizing callers.
    pub auth: auth::Options,
    /// The address of the probes.
    pub probes: Listen,
    /// The exposure of metrics.
    pub metrics: metrics::Exposure,
    /// The limits that protect clients from each other.
    pub limits: Limits,
}

/// Serves until `stop` is cancelled and pending requests have ended, or until the time to drain them is over.
pub async fn serve(context: Arc<Context>, options: Options, stop: CancellationToken) {
    let mut router = probes::router(context.clone());
    if options.metrics == metrics::Exposure::Open {
        if options.probes == Listen::Off {
            tracing::warn!(
                "metrics are not served without authentication, because the probe address is off: set --probe-address"
            );
        }
        router = router.merge(metrics::open(context.clone()));
    }
    let files = limits::open_files();
    let Options { limits, https, .. } = options;
    let timing = Timing { head: HEAD_LIMIT, drain: limits.request, keep_alive: true };
    // A kubelet opens a connection for each probe, so only other clients would keep one open.
    let probe_timing = Timing { head: PROBE_HEAD_LIMIT, keep_alive: false, ..timing };
    let handler = ConnectionHandler { router, identity: None, timing: probe_timing, stop: stop.clone() };
    let capacity = limits::probe_capacity(files);
    let probes = HttpListener { name: "probes", listen: options.probes, capacity, handler };
    let app = Arc::new(App::new(context.clone(), Authorizer::new(context.client.clone(), options.auth)));
    let router = match router::api(&app, limits) {
        Ok(router) => router,
        Err(error) => {
            tracing::error!(%error, "failed to serialize the OpenAPI document: the API is not served");
            return with_drain_limit(probes.serve(), &stop).await;
        }
    };
    let identity = Some(Arc::new(Identity::new(options.certificate)));
    let handler = ConnectionHandler { router, identity, timing, stop: stop.clone() };
    let api = HttpListener { name: "https", listen: https, capacity: limits.api_capacity(files), handler };
    let serving = async {
        tokio::join!(probes.serve(), api.serve());
        app.tasks.close();
        app.tasks.wait().await;
    };
    with_drain_limit(serving, &stop).await;
}

/// Runs `serving` until it ends, or until [`DRAIN_LIMIT`] after `stop` is cancelled.
async fn with_drain_limit(serving: impl Future<Output = ()>, stop: &CancellationToken) {
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        () = serving => {}
        () = limit => tracing::info!("aborting pending requests; committed changes of clean-ups remain"),
    }
}
