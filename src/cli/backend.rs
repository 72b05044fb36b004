//! Access to a store: directly in its database, or through the operator's API. Both return the same types, so each command
//! has one way to print them.

use std::ops::ControlFlow;

use super::CliError;
use super::direct::{self, Direct};
use super::queries::{CleanupRequest, HistoryQuery, ListQuery, RetryRequest, Samples, TrendsQuery};
use super::remote::{self, Remote};
use crate::db::audit::Entry;
use crate::db::cleanup::{Report, Row};
use crate::db::explain::{Explanation, Record};
use crate::db::health::Health;
use crate::db::retry;
use crate::db::running::Execution;
use crate::http::types::StoreName;

/// The options that select a store.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BackendArgs {
    /// Use the API of the operator that manages this `ExecutionStore`, in the current kube context; takes precedence over
    /// the database.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    store: Option<StoreName>,
    #[command(flatten)]
    direct: direct::Target,
    #[command(flatten)]
    remote: remote::Options,
}

/// An open store.
pub(super) enum Backend {
    /// The database named by a URL.
    Direct(Box<Direct>),
    /// The operator's API.
    Remote(Box<Remote>),
}

/// The explanation of an execution.
pub(super) struct Explained {
    pub(super) explanation: Explanation,
    pub(super) records: Vec<Record>,
    /// Whether an operator manages this table, so that policies and objects count.
    pub(super) managed: bool,
}

impl Backend {
    /// Connects to the database, or prepares to call the operator.
    pub(super) async fn open(args: BackendArgs) -> Result<Self, CliError> {
        Ok(match args.store {
            Some(store) => {
                args.direct.reject_with_store()?;
                Self::Remote(Box::new(Remote::open(store, args.remote).await?))
            }
            None => Self::Direct(Box::new(Direct::open(args.direct).await?)),
        })
    }

    /// Prints a warning if the mapping of the table may be wrong.
    pub(super) fn print_warning(&self) {
        if let Self::Direct(store) = self {
            store.print_warning();
        }
    }

    /// Checks that rows can be changed, as far as this is known before an attempt.
    pub(super) fn check_writable(&self) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => store.check_writable(),
            Self::Remote(_) => Ok(()),
        }
    }

    /// Checks the ids as far as possible, and makes sure that changes can be recorded, or warns that they will not be.
    pub(super) async fn prepare_to_write(&mut self, ids: &[String]) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => {
                store.ids(ids)?;
                store.prepare_to_write().await
            }
            Self::Remote(_) => Ok(()),
        }
    }

    /// Records retries, or returns what they would be.
    pub(super) async fn retry(&mut self, request: &RetryRequest) -> Result<Vec<retry::Row>, CliError> {
        match self {
            Self::Direct(store) => store.retry(request).await,
            Self::Remote(store) => store.retry(request).await,
        }
    }

    /// Passes executions to `on_page`, page by page, at most `limit`.
    pub(super) async fn list(
        &mut self,
        query: &ListQuery,
        limit: u64,
        on_page: impl FnMut(&[Execution]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => store.list(query, limit, on_page).await,
            Self::Remote(store) => store.list(query, limit, on_page).await,
        }
    }

    /// Passes audit records to `on_page`, newest first, page by page, at most `limit`.
    pub(super) async fn history(
        &mut self,
        query: &HistoryQuery,
        limit: u64,
        on_page: impl FnMut(&[Entry]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => store.history(query, limit, on_page).await,
            Self::Remote(store) => store.history(query, limit, on_page).await,
        }
    }

    /// Returns health counts over time.
    pub(super) async fn trends(&mut self, query: &TrendsQuery) -> Result<Samples, CliError> {
        match self {
            Self::Direct(store) => store.trends(query).await,
            Self::Remote(store) => Ok(store.trends(query).await?),
        }
    }

    /// Explains why an execution is stale or not.
    pub(super) async fn explain(&mut self, id: &str) -> Result<Explained, CliError> {
        match self {
            Self::Direct(store) => store.explain(id).await,
            Self::Remote(store) => {
                let (explanation, records) = store.explain(id).await?;
                Ok(Explained { explanation, records, managed: true })
            }
        }
    }

    /// Returns the health counts.
    pub(super) async fn health(&mut self) -> Result<Health, CliError> {
        match self {
            Self::Direct(store) => store.health().await,
            Self::Remote(store) => Ok(store.health().await?),
        }
    }

    /// Cleans up, or reports what that would do, and passes the rows to `on_page`, which may stop it.
    pub(super) async fn clean_up(
        &mut self,
        request: &CleanupRequest,
        on_page: impl FnMut(&[Row]) -> ControlFlow<()>,
    ) -> Result<Report, CliError> {
        match self {
            Self::Direct(store) => store.clean_up(request, on_page).await,
            Self::Remote(store) => store.clean_up(request, on_page).await,
        }
    }

    /// Closes the connections cleanly.
    pub(super) async fn close(self) {
        if let Self::Direct(store) = self {
            store.close().await;
        }
    }
}
