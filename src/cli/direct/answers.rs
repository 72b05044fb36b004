//! Queries and changes of a store without Kubernetes.

use std::ops::ControlFlow;

use super::{Direct, SOURCE};
use crate::api::{Duration, duration};
use crate::cli::CliError;
use crate::cli::actions::warn_if_unrecorded;
use crate::cli::actor;
use crate::cli::backend::Explained;
use crate::cli::queries::CleanupRequest;
use crate::cli::queries::{HistoryQuery, ListQuery, RetryRequest, Samples, TrendsQuery};
use crate::db::audit::{self, Entry};
use crate::db::cleanup::{self, Options, Report, Row};
use crate::db::health::{self, Health};
use crate::db::heartbeats::{self, Watch};
use crate::db::retry::{self, NotPossible, Request, Which};
use crate::db::running::{self, Execution};
use crate::db::samples::since;
use crate::db::{DbError, Ledger, StalenessPredicate, explain, ledger};

/// The first page is small, so that it appears at once. Later pages grow, because under many rules finding some stale
/// executions costs as much as finding them all.
const FIRST_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 10_000;

/// How many audit records to read at once.
const AUDIT_PAGE: u32 = 500;

/// The SQLSTATE of a missing table.
const UNDEFINED_TABLE: &str = "42P01";

impl Direct {
    /// Passes executions to `on_page`, page by page, at most `limit`.
    pub(crate) async fn list(
        &self,
        query: &ListQuery,
        limit: u64,
        mut on_page: impl FnMut(&[Execution]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let filter = running::Filter {
            which: query.which,
            older_than: query.older_than,
            job_id: query.job.as_deref().map(|id| self.job_id(id)).transpose()?,
        };
        let (predicate, mut rest, mut after, mut size) = (self.predicate(), limit, None, FIRST_PAGE);
        while rest > 0 {
            let limit = size.min(u32::try_from(rest).unwrap_or(u32::MAX));
            let page = running::page(&self.database, &predicate, &filter, after.as_ref(), limit);
            let page = self.database.within(page).await?;
            on_page(&page.executions)?;
            rest = rest.saturating_sub(page.executions.len() as u64);
            (after, size) = (page.next, size.saturating_mul(10).min(LARGEST_PAGE));
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Passes audit records to `on_page`, newest first, page by page, at most `limit`.
    pub(crate) async fn history(
        &self,
        query: &HistoryQuery,
        limit: u64,
        mut on_page: impl FnMut(&[Entry]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let store_id = self.recorded()?;
        let mut filter = audit::Filter {
            execution_id: query.id.as_deref().map(|id| self.id(id)).transpose()?,
            job_id: query.job.as_deref().map(|id| self.job_id(id)).transpose()?,
            since: query.since,
            before: None,
        };
        let mut rest = limit;
        while rest > 0 {
            let limit = AUDIT_PAGE.min(u32::try_from(rest).unwrap_or(u32::MAX));
            let page = audit::history(&self.database, store_id, &filter, limit);
            let entries = self.database.within(page).await?;
            on_page(&entries)?;
            rest -= entries.len() as u64;
            filter.before = entries.last().map(|entry| entry.event_id);
            if entries.len() < limit as usize {
                break;
            }
        }
        Ok(())
    }

    /// Returns health counts over time.
    pub(crate) async fn trends(&self, query: &TrendsQuery) -> Result<Samples, CliError> {
        let (store_id, now) = (self.recorded()?, ledger::now(&self.database).await?);
        let points = since(&self.database, store_id, query.since, query.step);
        let points = self.database.within(points).await.map_err(|error| match error {
            DbError::Statement(_, code) if code == UNDEFINED_TABLE => CliError::NotRecorded(
                "the schema jobexec is that of an older operator and has no table of samples: run `jobexec schema --apply` again"
                    .to_owned(),
            ),
            error => error.into(),
        })?;
        Ok(Samples { points, now })
    }

    /// Returns the id of the store in the operator's tables.
    fn recorded(&self) -> Result<i64, CliError> {
        match &self.ledger {
            Ledger::Tables { store_id, .. } => Ok(*store_id),
            Ledger::Missing(why) => Err(CliError::NotRecorded(why.clone())),
        }
    }

    /// Explains why an execution is stale or not.
    pub(crate) async fn explain(&self, id: &str) -> Result<Explained, CliError> {
        let (predicate, canonical) = (self.predicate(), self.id(id)?);
        let found = explain::explain(&self.database, &predicate, &canonical).await?;
        let Some(explanation) = found else {
            let outside = explain::outside(&self.database, &predicate, &canonical).await?;
            return Err(if outside {
                CliError::Outside(id.to_owned())
            } else {
                CliError::NoExecution(id.to_owned())
            });
        };
        let records = explain::records(&self.database, &predicate, &canonical).await?;
        Ok(Explained { explanation, records, managed: self.managed })
    }

    /// Records retries, or returns what they would be. The operator starts them.
    pub(crate) async fn retry(&mut self, request: &RetryRequest) -> Result<Vec<retry::Row>, CliError> {
        if let Some(why) = NotPossible::of(&self.predicate()) {
            return Err(CliError::NotDone(why.to_string()));
        }
        if !self.managed {
            return Err(CliError::NotDone(
                "no operator manages this table, so nobody would start the retry".to_owned(),
            ));
        }
        if !request.dry_run {
            self.check_writable()?;
        }
        self.print_warning();
        let which = match &request.which {
            Which::Ids(ids) => Which::Ids(self.ids(ids)?),
            Which::FailedFor { job_type: Some(_), .. } if !self.mapping.knows_types() => {
                return Err(CliError::NotDone("the mapping of the table has no job types".to_owned()));
            }
            which @ Which::FailedFor { .. } => which.clone(),
        };
        let request = Request {
            which,
            now: request.now,
            over: request.over,
            dry_run: request.dry_run,
            source: SOURCE,
            actor: Some(actor()),
        };
        let predicate = self.predicate();
        let done = retry::request(&self.database, &predicate, &self.ledger, &request);
        Ok(self.database.within(done).await?)
    }

    /// Returns the health counts.
    pub(crate) async fn health(&self) -> Result<Health, CliError> {
        let (predicate, threshold) = (self.predicate(), self.threshold());
        Ok(self.database.within(health::check(&self.database, &predicate, threshold)).await?)
    }

    /// Cleans up, or reports what that would do, and passes the rows to `on_page`.
    pub(crate) async fn clean_up(
        &self,
        request: &CleanupRequest,
        on_page: impl FnMut(&[Row]) -> ControlFlow<()>,
    ) -> Result<Report, CliError> {
        if let Some(suspicion) = request.suspicion {
            self.predicate().suspects(suspicion).map_err(|why| CliError::NotDone(why.to_string()))?;
        }
        let hours = request.max_hours.map(|hours| duration::of_seconds(hours * 3_600.0));
        let mut watch = Watch::default();
        if !request.dry_run {
            // Rows that the operator would hold back are held back here too, even before its first reconciliation.
            heartbeats::update(&self.database, &self.predicate(), &mut watch, self.poll_interval()).await?;
        }
        let predicate = StalenessPredicate { heartbeats_seen: watch.seen(), ..self.predicate() };
        let options = Options {
            older_than: hours.or(request.older_than.as_ref().map(Duration::to_chrono)),
            ids: self.ids(&request.ids)?,
            include_governed: request.include_governed,
            suspicion: request.suspicion,
            dry_run: request.dry_run,
            source: SOURCE,
            actor: Some(actor()),
        };
        let done = cleanup::run(&self.database, &predicate, &self.ledger, &options, on_page).await?;
        let (report, fault) = done;
        warn_if_unrecorded(fault.as_ref());
        Ok(report)
    }
}
