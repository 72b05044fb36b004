//! Metrics, as Prometheus reads them.
//!
//! - [`Metrics`] counts what the whole operator does, [`Tally`] what is done to one store: the reconcilers report facts to
//!   them and know nothing of their names;
//! - a [`Snapshot`] is how stores and policies are at one moment, taken from what the conditions are made of too, so that
//!   both say the same, and so that what is gone has no series;
//! - `exposition` writes all of it; `stores`, `enforcement`, `policies`, `caches`, `replica` and `process` have the names and the help texts of
//!   theirs.
//!
//! Labels are bounded: names of stores and policies, and words of the code; never a job or an execution.

mod caches;
mod enforcement;
mod exposition;
mod policies;
mod process;
mod replica;
mod snapshot;
mod stores;
mod tally;

use std::fmt;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::boundary;
pub use exposition::Format;
use exposition::Page;
pub use snapshot::{CacheNow, Done, PolicyNow, Pool, ReplicaNow, Snapshot, StoreNow};
pub use tally::{End, Tally};

/// From a look that finds nothing to one that waits for a silent server.
const RECONCILE_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// From what is known by heart to the longest that a request may take.
const REQUEST_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What the operator counts of itself.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter>,
    reconcile_seconds: Family<Controller, Histogram>,
    requests: Family<Request, Counter>,
    request_seconds: Family<Route, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    code: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| Histogram::new(RECONCILE_BUCKETS)),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
        }
    }
}

impl Metrics {
    /// Does one reconcile of `controller`, and counts it.
    pub async fn measure<T, E>(
        &self,
        controller: &'static str,
        reconcile: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let outcome = reconcile.await;
        self.reconciled(controller, outcome.is_ok(), begun.elapsed());
        outcome
    }

    /// Counts one reconcile of `controller`, and whether it reached its end.
    pub fn reconciled(&self, controller: &'static str, well: bool, took: Duration) {
        let outcome = if well { "success" } else { "error" };
        self.reconciles.get_or_create(&Outcome { controller, outcome }).inc();
        self.reconcile_seconds.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// Counts one request to the API. `route` is the pattern of its path, of which there are few.
    pub fn answered(&self, route: &str, code: u16, took: Duration) {
        let route = route.to_owned();
        self.requests.get_or_create(&Request { route: route.clone(), code }).inc();
        self.request_seconds.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    /// All of it, at this moment.
    pub fn text(&self, snapshot: Snapshot, format: Format) -> Result<String, fmt::Error> {
        exposition::write(self.clone(), snapshot, format)
    }

    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauge(
            "jobexec_build_info",
            "1, with the version of the operator. Alert when it is absent: then nobody looks after the executions.",
            [(version, 1_i64)],
        )?;
        page.counter(
            "jobexec_panics",
            "Panics by where they happened: each is a defect that ended that part of the work and nothing else. Alert on any; \
             the line `panic` in the log names the place in the source.",
            boundary::counts().map(|(place, count)| ([("where", place.as_str())], count)),
        )?;
        page.metric(
            "jobexec_reconciles",
            "Reconciles by controller and outcome. An error is about Kubernetes: alert when most of them are; what is wrong \
             with a store's database is told by jobexec_store_condition and jobexec_store_database_errors_total.",
            &self.reconciles,
        )?;
        page.metric(
            "jobexec_reconcile_duration_seconds",
            "How long reconciles take, by controller. Of no use for alerts: look here when deadlines are met late.",
            &self.reconcile_seconds,
        )?;
        page.metric(
            "jobexec_http_requests",
            "Requests to the HTTPS API by the pattern of their path and the status of the answer. Alert on many with a code \
             of 500 and above.",
            &self.requests,
        )?;
        page.metric(
            "jobexec_http_request_duration_seconds",
            "How long requests to the HTTPS API take, by the pattern of their path.",
            &self.request_seconds,
        )
    }
}
