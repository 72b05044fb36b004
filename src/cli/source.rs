//! Where a store's rows are had: straight from the database, or through the operator's API. Either gives the same values,
//! which each command prints in one way.

use std::ops::ControlFlow;

use super::cleanup::Order;
use super::direct::{self, Direct};
use super::remote::{self, Remote};
use super::{CliError, history, list, trends};
use crate::db::audit::Entry;
use crate::db::cleanup::{Report, Row};
use crate::db::explain::{Explanation, Record};
use crate::db::health::Health;
use crate::db::running::Execution;
use crate::http::wire::StoreName;

/// Where the store is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Place {
    /// The `ExecutionStore`, through the API of the operator that looks after it, by the current kube context; it counts
    /// before the database.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    store: Option<StoreName>,
    #[command(flatten)]
    direct: direct::Target,
    #[command(flatten)]
    remote: remote::Options,
}

/// An open store.
pub(super) enum Source {
    /// The database that a URL names.
    Direct(Box<Direct>),
    /// The operator.
    Remote(Box<Remote>),
}

/// An execution explained.
pub(super) struct Explained {
    pub(super) explanation: Explanation,
    pub(super) records: Vec<Record>,
    /// Whether an operator has put in force what people wish.
    pub(super) looked_after: bool,
}

impl Source {
    /// Connects to the database, or makes ready to ask the operator.
    pub(super) async fn open(place: Place) -> Result<Self, CliError> {
        Ok(match place.store {
            Some(store) => {
                place.direct.beside_a_store()?;
                Self::Remote(Box::new(Remote::open(store, place.remote).await?))
            }
            None => Self::Direct(Box::new(Direct::open(place.direct).await?)),
        })
    }

    /// Says what may be wrong with what is read here.
    pub(super) fn caution(&self) {
        if let Self::Direct(store) = self {
            store.say_how_it_reads();
        }
    }

    /// Sees that rows can be changed, as far as that is known before it is tried.
    pub(super) fn writable(&self) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => store.writable(),
            Self::Remote(_) => Ok(()),
        }
    }

    /// Makes sure that these can be ids, as far as that is known here, and that what is done can be recorded, or says that
    /// it will not be.
    pub(super) async fn prepare_to_write(&mut self, ids: &[String]) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => {
                store.ids(ids)?;
                store.prepare_to_write().await
            }
            Self::Remote(_) => Ok(()),
        }
    }

    /// Hands executions to `told`, page by page, at most `limit`.
    pub(super) async fn list(
        &mut self,
        wanted: &list::Wanted,
        limit: u64,
        told: impl FnMut(&[Execution]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => store.list(wanted, limit, told).await,
            Self::Remote(store) => store.list(wanted, limit, told).await,
        }
    }

    /// Hands what was done to `told`, the latest first, page by page, at most `limit`.
    pub(super) async fn history(
        &mut self,
        wanted: &history::Wanted,
        limit: u64,
        told: impl FnMut(&[Entry]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        match self {
            Self::Direct(store) => store.history(wanted, limit, told).await,
            Self::Remote(store) => store.history(wanted, limit, told).await,
        }
    }

    /// Health over time.
    pub(super) async fn trends(&mut self, wanted: &trends::Wanted) -> Result<trends::Kept, CliError> {
        match self {
            Self::Direct(store) => store.trends(wanted).await,
            Self::Remote(store) => Ok(store.trends(wanted).await?),
        }
    }

    /// Why an execution is stale, or is not.
    pub(super) async fn explain(&mut self, id: &str) -> Result<Explained, CliError> {
        match self {
            Self::Direct(store) => store.explain(id).await,
            Self::Remote(store) => {
                let (explanation, records) = store.explain(id).await?;
                Ok(Explained { explanation, records, looked_after: true })
            }
        }
    }

    /// The figures of health.
    pub(super) async fn health(&mut self) -> Result<Health, CliError> {
        match self {
            Self::Direct(store) => store.health().await,
            Self::Remote(store) => Ok(store.health().await?),
        }
    }

    /// Cleans up, or tells what that would do, and hands the rows to `told`, which may say to break off.
    pub(super) async fn clean_up(
        &mut self,
        order: &Order,
        told: impl FnMut(&[Row]) -> ControlFlow<()>,
    ) -> Result<Report, CliError> {
        match self {
            Self::Direct(store) => store.clean_up(order, told).await,
            Self::Remote(store) => store.clean_up(order, told).await,
        }
    }

    /// Closes the connections in order.
    pub(super) async fn close(self) {
        if let Self::Direct(store) = self {
            store.close().await;
        }
    }
}
