//! A store through the operator's HTTPS API: the operator has its rows and judges them, whoever asks needs no way to the
//! database.
//!
//! - `options`: what may be said of all of this;
//! - `find` and `reach`: the operator's Pod and a port-forward to it, or an address;
//! - `tls`, `token`: who may answer, and who asks;
//! - `client`: a request and its answer; `error`: what can be wrong with it;
//! - here and in `cleanup`: what is asked for.

mod cleanup;
mod client;
mod error;
mod find;
mod options;
mod reach;
mod tls;
mod token;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::history::Wanted as Events;
use super::list::Wanted as Listed;
use super::trends::{Kept, Wanted as Sampled};
use super::{CliError, output};
use crate::api::duration;
use crate::db::audit::Entry;
use crate::db::explain::{Explanation, Record};
use crate::db::health::{Health, Status};
use crate::db::running::{Execution, Which};
use crate::db::samples::Point;
use crate::http::wire::{self, MOST, StoreName, Verdict};
use client::Client;
pub use error::RemoteError;
pub(super) use options::{Options, api_url, namespace};

/// The first page is small, so that it comes at once.
const FIRST: u32 = 100;

/// A store, through the operator.
pub(super) struct Remote {
    store: StoreName,
    client: Client,
}

impl Remote {
    /// Makes ready to ask; whether anybody answers is seen when something is asked.
    pub(super) async fn open(store: StoreName, options: Options) -> Result<Self, RemoteError> {
        Ok(Self { store, client: options.client().await? })
    }

    fn named(&self) -> (&'static str, String) {
        ("store", self.store.to_string())
    }

    /// Hands executions to `told`, page by page, at most `limit`.
    pub(super) async fn list(
        &mut self,
        wanted: &Listed,
        limit: u64,
        mut told: impl FnMut(&[Execution]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut query = vec![self.named(), ("which", which(wanted.which).to_owned())];
        query.extend(wanted.older_than.map(|age| ("older_than", duration::format(age))));
        query.extend(wanted.job.clone().map(|job| ("job", job)));
        self.pages("/api/system/executions", query, FIRST, limit, |page: wire::Executions| {
            let executions: Vec<Execution> = page.executions.into_iter().map(Execution::from).collect();
            told(&executions)?;
            Ok((executions.len(), page.next))
        })
        .await
    }

    /// Hands what was done to `told`, page by page, at most `limit`.
    pub(super) async fn history(
        &mut self,
        wanted: &Events,
        limit: u64,
        mut told: impl FnMut(&[Entry]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut query = vec![self.named()];
        query.extend(wanted.since.map(|since| ("since", duration::format(since))));
        query.extend(wanted.job.clone().map(|job| ("job", job)));
        query.extend(wanted.id.clone().map(|id| ("id", id)));
        self.pages("/api/system/history", query, MOST, limit, |page: wire::History| {
            let entries: Vec<Entry> = page.events.into_iter().map(Entry::from).collect();
            told(&entries)?;
            Ok((entries.len(), page.next))
        })
        .await
    }

    /// Hands the pages of a list to `told`, the first one of at most `size` rows, until there are `limit`. It says how many
    /// rows a page had and where the next one begins.
    async fn pages<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        query: Vec<(&'static str, String)>,
        mut size: u32,
        limit: u64,
        mut told: impl FnMut(T) -> Result<(usize, Option<String>), CliError>,
    ) -> Result<(), CliError> {
        let (mut rest, mut cursor) = (limit, None);
        while rest > 0 {
            let asked = size.min(u32::try_from(rest).unwrap_or(u32::MAX));
            let mut query = query.clone();
            query.push(("limit", asked.to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let (count, next) = told(self.client.get(path, &query).await?)?;
            rest = rest.saturating_sub(count as u64);
            if next.is_none() {
                break;
            }
            (cursor, size) = (next, MOST);
        }
        Ok(())
    }

    /// Why an execution is stale, or is not, and what is recorded of it.
    pub(super) async fn explain(&mut self, id: &str) -> Result<(Explanation, Vec<Record>), CliError> {
        let StoreName { namespace, name } = &self.store;
        let escaped = utf8_percent_encode(id, NON_ALPHANUMERIC);
        let path = format!("/api/system/executions/{namespace}/{name}/{escaped}/explain");
        let told: Result<wire::Explanation, _> = self.client.get(&path, &[]).await;
        match told {
            Err(RemoteError::Problem(problem)) if problem.reason == "ExecutionNotFound" => {
                Err(CliError::NoExecution(id.to_owned()))
            }
            told => Ok(told?.into()),
        }
    }

    /// Health over time.
    pub(super) async fn trends(&mut self, wanted: &Sampled) -> Result<Kept, RemoteError> {
        let (since, step) = (duration::format(wanted.since), duration::format(wanted.step));
        let query = [self.named(), ("since", since), ("step", step)];
        let told: wire::Trends = self.client.get("/api/system/trends", &query).await?;
        Ok(Kept { points: told.points.into_iter().map(Point::from).collect(), now: told.now })
    }

    /// The figures of health that the operator took last. Why it is a warning is said beside the output.
    pub(super) async fn health(&mut self) -> Result<Health, RemoteError> {
        let told: wire::Health = self.client.get("/api/system/health", &[self.named()]).await?;
        // The figures say it, as they do when they are straight from the database.
        let plain = told.reason.as_deref() == Some("StaleExecutions");
        let why = match (told.reason, told.message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (reason, message) => {
                reason.or(message).unwrap_or_else(|| "nothing is known of it yet".to_owned())
            }
        };
        let status = match told.status {
            Verdict::Healthy => Status::Healthy,
            Verdict::Warning if plain => Status::Warning,
            Verdict::Warning => {
                output::say(&format!("jobexec: {}", output::plain(&why)));
                Status::Warning
            }
            Verdict::Unhealthy => return Err(RemoteError::Unhealthy { store: self.store.to_string(), why }),
        };
        Ok(Health { status, metrics: told.metrics.into() })
    }
}

/// Sees that an operator's API answers and knows who asks. A refusal proves it as well as an answer: for either of them the
/// operator has asked Kubernetes.
pub(super) async fn ping(options: Options) -> Result<(), RemoteError> {
    let told: Result<wire::Health, _> = options.client().await?.get("/api/system/health", &[]).await;
    match told {
        Err(RemoteError::Problem(problem)) if problem.reason != "Forbidden" => {
            Err(RemoteError::Problem(problem))
        }
        Ok(_) | Err(RemoteError::Problem(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// As the API names them.
const fn which(which: Which) -> &'static str {
    match which {
        Which::Running => "running",
        Which::Overdue => "overdue",
        Which::Stale => "stale",
        Which::All => "all",
    }
}
