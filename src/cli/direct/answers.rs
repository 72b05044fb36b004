//! What is asked of a store without Kubernetes.

use std::ops::ControlFlow;

use super::{Direct, SOURCE};
use crate::api::{Duration, duration};
use crate::cli::CliError;
use crate::cli::cleanup::Order;
use crate::cli::intent::say_of_fault;
use crate::cli::source::Explained;
use crate::cli::{history, list, person, trends};
use crate::db::audit::{self, Entry};
use crate::db::cleanup::{self, Options, Report, Row};
use crate::db::health::{self, Health};
use crate::db::heartbeats::{self, Watch};
use crate::db::running::{self, Execution};
use crate::db::samples::since;
use crate::db::{DbError, Judge, Ledger, explain, ledger};

/// The first page is small, so that it comes at once; the later ones are larger and larger, since under many rules to find
/// some that are stale costs as much as to find them all.
const FIRST: u32 = 100;
const MOST: u32 = 10_000;

/// How many entries of the history are read at once.
const ENTRIES: u32 = 500;

/// The SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

impl Direct {
    /// Hands executions to `told`, page by page, at most `limit`.
    pub(crate) async fn list(
        &self,
        wanted: &list::Wanted,
        limit: u64,
        mut told: impl FnMut(&[Execution]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let filter = running::Filter {
            which: wanted.which,
            older_than: wanted.older_than,
            job_id: wanted.job.as_deref().map(|id| self.job_id(id)).transpose()?,
        };
        let (judge, mut rest, mut after, mut size) = (self.judge(), limit, None, FIRST);
        while rest > 0 {
            let limit = size.min(u32::try_from(rest).unwrap_or(u32::MAX));
            let page = running::page(&self.database, &judge, &filter, after.as_ref(), limit);
            let page = self.database.within(page).await?;
            told(&page.executions)?;
            rest = rest.saturating_sub(page.executions.len() as u64);
            (after, size) = (page.next, size.saturating_mul(10).min(MOST));
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Hands what was done to `told`, page by page, at most `limit`.
    pub(crate) async fn history(
        &self,
        wanted: &history::Wanted,
        limit: u64,
        mut told: impl FnMut(&[Entry]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let store_id = self.recorded()?;
        let mut filter = audit::Filter {
            execution_id: wanted.id.as_deref().map(|id| self.id(id)).transpose()?,
            job_id: wanted.job.as_deref().map(|id| self.job_id(id)).transpose()?,
            since: wanted.since,
            before: None,
        };
        let mut rest = limit;
        while rest > 0 {
            let limit = ENTRIES.min(u32::try_from(rest).unwrap_or(u32::MAX));
            let page = audit::history(&self.database, store_id, &filter, limit);
            let entries = self.database.within(page).await?;
            told(&entries)?;
            rest -= entries.len() as u64;
            filter.before = entries.last().map(|entry| entry.event_id);
            if entries.len() < limit as usize {
                break;
            }
        }
        Ok(())
    }

    /// Health over time.
    pub(crate) async fn trends(&self, wanted: &trends::Wanted) -> Result<trends::Kept, CliError> {
        let (store_id, now) = (self.recorded()?, ledger::now(&self.database).await?);
        let points = since(&self.database, store_id, wanted.since, wanted.step);
        let points = self.database.within(points).await.map_err(|error| match error {
            DbError::Statement(_, code) if code == UNDEFINED_TABLE => CliError::NotRecorded(
                "the schema jobexec is an older operator's and has no table of samples: run `jobexec schema --apply` again"
                    .to_owned(),
            ),
            error => error.into(),
        })?;
        Ok(trends::Kept { points, now })
    }

    /// As what the records know the table.
    fn recorded(&self) -> Result<i64, CliError> {
        match &self.ledger {
            Ledger::Tables { store_id, .. } => Ok(*store_id),
            Ledger::Missing(why) => Err(CliError::NotRecorded(why.clone())),
        }
    }

    /// Why an execution is stale, or is not.
    pub(crate) async fn explain(&self, id: &str) -> Result<Explained, CliError> {
        let (judge, canonical) = (self.judge(), self.id(id)?);
        let found = explain::explain(&self.database, &judge, &canonical).await?;
        let Some(explanation) = found else {
            let outside = explain::outside(&self.database, &judge, &canonical).await?;
            return Err(if outside {
                CliError::Outside(id.to_owned())
            } else {
                CliError::NoExecution(id.to_owned())
            });
        };
        let records = explain::records(&self.database, &judge, &canonical).await?;
        Ok(Explained { explanation, records, looked_after: self.looked_after })
    }

    /// The figures of health.
    pub(crate) async fn health(&self) -> Result<Health, CliError> {
        let (judge, threshold) = (self.judge(), self.threshold());
        Ok(self.database.within(health::check(&self.database, &judge, threshold)).await?)
    }

    /// Cleans up, or tells what that would do, and hands the rows to `told`.
    pub(crate) async fn clean_up(
        &self,
        order: &Order,
        told: impl FnMut(&[Row]) -> ControlFlow<()>,
    ) -> Result<Report, CliError> {
        if let Some(suspicion) = order.suspicion {
            self.judge().suspects(suspicion).map_err(|why| CliError::NotDone(why.to_string()))?;
        }
        let hours = order.max_hours.map(|hours| duration::of_seconds(hours * 3_600.0));
        let mut watch = Watch::default();
        if !order.dry_run {
            // What the operator would hold is held here too, also before it has looked.
            heartbeats::update(&self.database, &self.judge(), &mut watch, self.poll_interval()).await?;
        }
        let judge = Judge { heartbeats_seen: watch.seen(), ..self.judge() };
        let options = Options {
            older_than: hours.or(order.older_than.as_ref().map(Duration::to_chrono)),
            ids: self.ids(&order.ids)?,
            include_governed: order.include_governed,
            suspicion: order.suspicion,
            dry_run: order.dry_run,
            source: SOURCE,
            actor: Some(person()),
        };
        let done = cleanup::run(&self.database, &judge, &self.ledger, &options, told).await?;
        let (report, fault) = done;
        say_of_fault(fault.as_ref());
        Ok(report)
    }
}
