//! Metrics of the operator itself.

use std::fmt;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::page::Page;
use crate::boundary;

/// From a reconciliation without news to one that waits for a silent server.
const RECONCILE_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// From an answer out of memory to the longest allowed request.
const REQUEST_BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Metrics of the operator itself.
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
    /// Runs one reconciliation of `controller`, and counts it.
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

    /// Counts one reconciliation of `controller`, whether it succeeded, and its duration.
    pub fn reconciled(&self, controller: &'static str, well: bool, took: Duration) {
        let outcome = if well { "success" } else { "error" };
        self.reconciles.get_or_create(&Outcome { controller, outcome }).inc();
        self.reconcile_seconds.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// Counts one request to the API. `route` is the pattern of its path, so that its values are bounded.
    pub fn answered(&self, route: &str, code: u16, took: Duration) {
        let route = route.to_owned();
        self.requests.get_or_create(&Request { route: route.clone(), code }).inc();
        self.request_seconds.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauge(
            "jobexec_build_info",
            "1, with the version of the operator. Alert if it is absent: then no operator manages the executions.",
            [(version, 1_i64)],
        )?;
        page.counter(
            "jobexec_panics",
            "Panics by location: each is a defect that ended only that part of the work. Alert on any; the line `panic` in the \
             log names the place in the source.",
            boundary::counts().map(|(place, count)| ([("where", place.as_str())], count)),
        )?;
        page.metric(
            "jobexec_reconciles",
            "Reconciliations by controller and outcome. Errors concern Kubernetes: alert if most fail. Problems of a store's \
             database appear in jobexec_store_condition and jobexec_store_database_errors_total.",
            &self.reconciles,
        )?;
        page.metric(
            "jobexec_reconcile_duration_seconds",
            "Duration of reconciliations, by controller. Not for alerts: check it when executions are ended late.",
            &self.reconcile_seconds,
        )?;
        page.metric(
            "jobexec_http_requests",
            "Requests to the HTTPS API by path pattern and status code. Alert on many with a code of 500 and above.",
            &self.requests,
        )?;
        page.metric(
            "jobexec_http_request_duration_seconds",
            "Duration of requests to the HTTPS API, by path pattern.",
            &self.request_seconds,
        )
    }
}
