//! A store through the operator's HTTPS API: the operator evaluates its rows, so the caller needs no access to the
//! database.
//!
//! - `options`: the options of the command line;
//! - `discovery` and `transport`: the operator's Pod and a port-forward to it, or an address;
//! - `tls`, `token`: authentication of the server and of the caller;
//! - `client`: requests and responses; `error`: their failures;
//! - this file, `cleanup` and `retry`: the endpoints.

mod cleanup;
mod client;
mod discovery;
mod error;
mod options;
mod retry;
mod tls;
mod token;
mod transport;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::queries::{HistoryQuery, ListQuery, Samples, TrendsQuery};
use super::{CliError, output};
use crate::api::duration;
use crate::db::audit::Entry;
use crate::db::explain::{Explanation, Record};
use crate::db::health::{Health, Status};
use crate::db::running::{Execution, Which};
use crate::db::samples::Point;
use crate::http::types::{self, HealthStatus, MAX_LIMIT, StoreName};
use client::Client;
pub use error::RemoteError;
pub(super) use options::{Options, api_url, namespace};

/// The first page is small, so that it appears at once.
const FIRST: u32 = 100;

/// A store, through the operator.
pub(super) struct Remote {
    store: StoreName,
    client: Client,
}

impl Remote {
    /// Prepares a client; the first request shows whether the API answers.
    pub(super) async fn open(store: StoreName, options: Options) -> Result<Self, RemoteError> {
        Ok(Self { store, client: options.client().await? })
    }

    fn store_param(&self) -> (&'static str, String) {
        ("store", self.store.to_string())
    }

    /// Passes executions to `on_page`, page by page, at most `limit`.
    pub(super) async fn list(
        &mut self,
        query: &ListQuery,
        limit: u64,
        mut on_page: impl FnMut(&[Execution]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut params = vec![self.store_param(), ("which", filter_name(query.which).to_owned())];
        params.extend(query.older_than.map(|age| ("older_than", duration::format(age))));
        params.extend(query.job.clone().map(|job| ("job", job)));
        self.pages("/api/system/executions", params, FIRST, limit, |page: types::Executions| {
            let executions: Vec<Execution> = page.executions.into_iter().map(Execution::from).collect();
            on_page(&executions)?;
            Ok((executions.len(), page.next))
        })
        .await
    }

    /// Passes audit records to `on_page`, page by page, at most `limit`.
    pub(super) async fn history(
        &mut self,
        query: &HistoryQuery,
        limit: u64,
        mut on_page: impl FnMut(&[Entry]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut params = vec![self.store_param()];
        params.extend(query.since.map(|since| ("since", duration::format(since))));
        params.extend(query.job.clone().map(|job| ("job", job)));
        params.extend(query.id.clone().map(|id| ("id", id)));
        self.pages("/api/system/history", params, MAX_LIMIT, limit, |page: types::History| {
            let entries: Vec<Entry> = page.events.into_iter().map(Entry::from).collect();
            on_page(&entries)?;
            Ok((entries.len(), page.next))
        })
        .await
    }

    /// Passes the pages of a list to `on_page`, at most `limit` rows, the first page with at most `size`. `on_page` returns the
    /// number of rows and the cursor of the next page.
    async fn pages<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        params: Vec<(&'static str, String)>,
        mut size: u32,
        limit: u64,
        mut on_page: impl FnMut(T) -> Result<(usize, Option<String>), CliError>,
    ) -> Result<(), CliError> {
        let (mut rest, mut cursor) = (limit, None);
        while rest > 0 {
            let asked = size.min(u32::try_from(rest).unwrap_or(u32::MAX));
            let mut params = params.clone();
            params.push(("limit", asked.to_string()));
            params.extend(cursor.map(|cursor| ("cursor", cursor)));
            let (count, next) = on_page(self.client.get(path, &params).await?)?;
            rest = rest.saturating_sub(count as u64);
            if next.is_none() {
                break;
            }
            (cursor, size) = (next, MAX_LIMIT);
        }
        Ok(())
    }

    /// Returns the path of an endpoint about one execution.
    fn execution_path(&self, id: &str, what: &str) -> String {
        let StoreName { namespace, name } = &self.store;
        let escaped = utf8_percent_encode(id, NON_ALPHANUMERIC);
        format!("/api/system/executions/{namespace}/{name}/{escaped}/{what}")
    }

    /// Explains why an execution is stale or not, and returns its audit records.
    pub(super) async fn explain(&mut self, id: &str) -> Result<(Explanation, Vec<Record>), CliError> {
        let path = self.execution_path(id, "explain");
        let response: Result<types::Explanation, _> = self.client.get(&path, &[]).await;
        match response {
            Err(RemoteError::Problem(problem)) if problem.reason == "ExecutionNotFound" => {
                Err(CliError::NoExecution(id.to_owned()))
            }
            response => Ok(response?.into()),
        }
    }

    /// Returns health counts over time.
    pub(super) async fn trends(&mut self, query: &TrendsQuery) -> Result<Samples, RemoteError> {
        let (since, step) = (duration::format(query.since), duration::format(query.step));
        let params = [self.store_param(), ("since", since), ("step", step)];
        let response: types::Trends = self.client.get("/api/system/trends", &params).await?;
        Ok(Samples { points: response.points.into_iter().map(Point::from).collect(), now: response.now })
    }

    /// Returns the health counts of the operator's last reconciliation. Prints the reason of a warning to standard error.
    pub(super) async fn health(&mut self) -> Result<Health, RemoteError> {
        let response: types::Health = self.client.get("/api/system/health", &[self.store_param()]).await?;
        // The counts show this reason, as they do when read from the database.
        let plain = response.reason.as_deref() == Some("StaleExecutions");
        let why = match (response.reason, response.message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (reason, message) => {
                reason.or(message).unwrap_or_else(|| "the operator has not reconciled it yet".to_owned())
            }
        };
        let status = match response.status {
            HealthStatus::Healthy => Status::Healthy,
            HealthStatus::Warning if plain => Status::Warning,
            HealthStatus::Warning => {
                output::eprint(&format!("jobexec: {}", output::escape_control(&why)));
                Status::Warning
            }
            HealthStatus::Unhealthy => {
                return Err(RemoteError::Unhealthy { store: self.store.to_string(), why });
            }
        };
        Ok(Health { status, metrics: response.metrics.into() })
    }
}

/// Checks that an operator's API answers and authenticates the caller. A refusal proves this as well: the operator must have
/// called Kubernetes for it.
pub(super) async fn ping(options: Options) -> Result<(), RemoteError> {
    let response: Result<types::Health, _> = options.client().await?.get("/api/system/health", &[]).await;
    match response {
        Err(RemoteError::Problem(problem)) if problem.reason != "Forbidden" => {
            Err(RemoteError::Problem(problem))
        }
        Ok(_) | Err(RemoteError::Problem(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the API's name of the filter.
const fn filter_name(which: Which) -> &'static str {
    match which {
        Which::Running => "running",
        Which::Overdue => "overdue",
        Which::Stale => "stale",
        Which::All => "all",
    }
}
