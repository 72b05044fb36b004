//! The HTTPS API: what the operator knows and does, for people and programs without a Kubernetes client.
//!
//! - [`listen`] accepts connections, as many as `eviction` admits from each `origin`; `connection` serves one, with [`tls`] and
//!   its `limits`; `router` says what is where;
//! - `admission` decides who a request is from, whether the caller may send its body, and reads that; only then it takes one of
//!   the `slots`. [`auth`] asks Kubernetes for all that; `stores` is what the caller then gets to see;
//! - one file an endpoint: `health`, whose figures are `fresh`; `executions` with `running`; `explain`; `cleanup` with its `cleaner`
//!   (`ready` is what it makes sure of before); `history`, over several stores by `pages`; `trends` and `stats`, both over a
//!   `period`; all are in the `OpenAPI` document (`documented`);
//! - `page` shows the same to a person with a browser;
//! - `wire` is what a client reads and writes of all this;
//! - `metrics` are for Prometheus, `probes` for the kubelet; `problem` is what can be wrong.
//!
//! Nothing here is needed for enforcement, and reads take one connection of a store at a time.

mod admission;
mod app;
pub mod auth;
mod cleaner;
mod cleanup;
mod connection;
mod documented;
mod eviction;
mod executions;
mod explain;
mod extract;
mod fresh;
mod health;
mod history;
mod limits;
pub mod listen;
pub mod metrics;
mod origin;
mod page;
mod pages;
mod period;
mod phase;
mod probes;
mod problem;
mod ready;
mod router;
mod running;
mod slots;
mod stats;
mod stores;
pub mod tls;
mod trends;
pub(crate) mod wire;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::controllers::Context;
use app::App;
use auth::Gate;
use connection::{Service, Timing};
pub use limits::Limits;
use limits::{DRAIN_LIMIT, HEAD_LIMIT, PROBE_HEAD_LIMIT};
use listen::{Front, Listen};
use tls::Identity;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API is served.
    pub https: Listen,
    /// The certificate for it.
    pub certificate: tls::Source,
    /// Who is asked.
    pub auth: auth::Options,
    /// Where the probes are served.
    pub probes: Listen,
    /// Who gets to see metrics.
    pub metrics: metrics::Exposure,
    /// What one client may take from the others.
    pub limits: Limits,
}

/// Serves until `stop` is cancelled and what is under way has ended, or has been broken off.
pub async fn serve(context: Arc<Context>, options: Options, stop: CancellationToken) {
    let mut router = probes::router(context.clone());
    if options.metrics == metrics::Exposure::Open {
        if options.probes == Listen::Off {
            tracing::warn!("metrics are to be open, and there is no address for that: set --probe-address");
        }
        router = router.merge(metrics::open(context.clone()));
    }
    let files = limits::open_files();
    let Options { limits, https, .. } = options;
    let timing = Timing { head: HEAD_LIMIT, last: limits.request, keep_alive: true };
    // A kubelet connects for each probe: a connection that is kept is somebody else's.
    let of_probe = Timing { head: PROBE_HEAD_LIMIT, keep_alive: false, ..timing };
    let service = Service { router, identity: None, timing: of_probe, stop: stop.clone() };
    let capacity = limits::of_probes(files);
    let probes = Front { name: "probes", listen: options.probes, capacity, service };
    let app = Arc::new(App::new(context.clone(), Gate::new(context.client.clone(), options.auth)));
    let router = match router::api(&app, limits) {
        Ok(router) => router,
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document cannot be written: the API is not served");
            return within_the_limit(probes.serve(), &stop).await;
        }
    };
    let identity = Some(Arc::new(Identity::new(options.certificate)));
    let service = Service { router, identity, timing, stop: stop.clone() };
    let api = Front { name: "https", listen: https, capacity: limits.of_api(files), service };
    let serving = async {
        tokio::join!(probes.serve(), api.serve());
        app.tasks.close();
        app.tasks.wait().await;
    };
    within_the_limit(serving, &stop).await;
}

/// One limit for all that is under way once `stop` is cancelled.
async fn within_the_limit(serving: impl Future<Output = ()>, stop: &CancellationToken) {
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        () = serving => {}
        () = limit => tracing::info!("requests under way are broken off; what clean-ups have committed stays"),
    }
}
