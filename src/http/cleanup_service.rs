//! The clean-up of one store. It continues when its client disconnects.

use std::ops::ControlFlow;
use std::time::Duration;

use chrono::TimeDelta;

use super::app::{App, CleanupLock};
use super::preflight::Preflight;
use super::problem::Problem;
use super::stores::{OpenStore, StoreAccess, StoreName};
use crate::boundary::{Panicked, Place, caught};
use crate::db::Ending;
use crate::db::StalenessPredicate;
use crate::db::cleanup::{self, Options, Row};
use crate::db::staleness::Suspicion;
use crate::metrics::End;
use crate::session::Context;

/// The maximum number of rows in a report.
pub(super) const MAX_REPORTED: usize = 1_000;

/// The source in audit records.
const SOURCE: &str = "HttpApi";

/// The maximum wait until the counts include the clean-up, so that the client's next request sees it.
const COUNTS_WAIT: Duration = Duration::from_secs(1);

/// The parameters of a clean-up.
#[derive(Clone, Debug)]
pub(super) struct CleanupRequest {
    pub(super) older_than: Option<TimeDelta>,
    pub(super) ids: Vec<String>,
    pub(super) include_governed: bool,
    pub(super) suspicion: Option<Suspicion>,
    pub(super) dry_run: bool,
    pub(super) actor: String,
}

impl CleanupRequest {
    /// Returns the request with its ids as the table writes them.
    ///
    /// Fails with [`Problem::InvalidExecutionId`] if the id column cannot hold one of them.
    pub(super) fn canonicalize_ids(&self, open: &OpenStore) -> Result<Self, Problem> {
        let mut ids = Vec::with_capacity(self.ids.len());
        for id in &self.ids {
            let id = open.canonical_id(id)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(Self { ids, ..self.clone() })
    }
}

/// The outcome of a clean-up.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) cleaned: u64,
    pub(super) skipped: u64,
    /// The first [`MAX_REPORTED`] rows.
    pub(super) rows: Vec<Row>,
    /// The number of rows that are not in `rows`.
    pub(super) omitted: u64,
    /// The problem that stopped the clean-up before its end.
    pub(super) stopped_by: Option<Problem>,
}

/// Runs the clean-up and holds the lock until it ends. Only a dry run ends when its client disconnects.
pub(super) async fn run(
    app: &App,
    open: OpenStore,
    access: StoreAccess,
    request: CleanupRequest,
    lock: Option<CleanupLock>,
) -> Result<(StoreName, Outcome), Problem> {
    let context = app.context.clone();
    let outcome = if request.dry_run {
        let _permit = open.read_permit().await?;
        Box::pin(check_and_clean(&context, open.clone(), request)).await
    } else {
        let open = open.clone();
        let task = app.tasks.spawn(caught(Place::Request, async move {
            let outcome = run_to_completion(&context, open.clone(), request).await;
            if outcome.cleaned > 0 && !context.stop.is_cancelled() {
                refresh_counts(&context, &open.name, access).await;
            }
            drop(lock);
            outcome
        }));
        let outcome = task.await.unwrap_or(Err(Panicked(Place::Request)));
        outcome.map_err(|panicked| Problem::Internal(panicked.to_string()))?
    };
    match outcome.stopped_by {
        Some(problem) if outcome.rows.is_empty() => Err(problem),
        stopped_by => Ok((open.name, Outcome { stopped_by, ..outcome })),
    }
}

/// Requests new counts and waits a short time for them.
async fn refresh_counts(context: &Context, store: &StoreName, access: StoreAccess) {
    let handle = match access {
        StoreAccess::Local(Some(handle)) => handle,
        StoreAccess::Local(None) => return,
        StoreAccess::Remote(remote) => return remote.reader.note_change(),
    };
    let mut latest = handle.latest();
    handle.note_change();
    context.enqueue_store(&store.namespace, &store.name);
    let updated = async {
        tokio::select! {
            changed = latest.changed() => changed.is_ok(),
            () = context.stop.cancelled() => false,
        }
    };
    if !tokio::time::timeout(COUNTS_WAIT, updated).await.unwrap_or(false) {
        tracing::debug!(%store, "the counts are not updated yet");
    }
}

/// Runs a clean-up that changes rows.
async fn run_to_completion(context: &Context, open: OpenStore, request: CleanupRequest) -> Outcome {
    // If there are only two connections, the other one belongs to the operator.
    let session = open.session.clone();
    let shared_with_operator = session.database.connections() <= 2;
    let _permit = if shared_with_operator { Some(session.database.reading().await) } else { None };
    Box::pin(check_and_clean(context, open, request)).await
}

/// Runs the checks of [`preflight`](super::preflight), then cleans up. This also applies to a dry run, so that it
/// reports what a clean-up would do, or why it would do nothing.
async fn check_and_clean(context: &Context, open: OpenStore, request: CleanupRequest) -> Outcome {
    let Preflight { open, store, evidence } = match open.preflight(context).await {
        Ok(ready) => ready,
        Err(problem) => return Outcome { stopped_by: Some(problem), ..Outcome::default() },
    };
    let predicate = open.session.predicate(&open.effective_rules).with_evidence(evidence);
    if let Some(Err(not_configured)) = request.suspicion.map(|suspicion| predicate.suspects(suspicion)) {
        let stopped_by = Some(Problem::EvidenceNotAsked(not_configured.to_string()));
        return Outcome { stopped_by, ..Outcome::default() };
    }
    // If a user corrects the spec during the clean-up, the new spec applies to the remaining rows.
    let changed = || (!context.is_current(&store)).then(|| open.changed(context));
    clean(context, &open, &predicate, request, changed).await
}

async fn clean(
    context: &Context,
    open: &OpenStore,
    predicate: &StalenessPredicate<'_>,
    request: CleanupRequest,
    changed: impl Fn() -> Option<Problem>,
) -> Outcome {
    let options = Options {
        older_than: request.older_than,
        ids: request.ids,
        include_governed: request.include_governed,
        suspicion: request.suspicion,
        dry_run: request.dry_run,
        source: SOURCE,
        actor: Some(request.actor),
    };
    let mut outcome = Outcome::default();
    let mut stopped_by = None;
    let cleaned = cleanup::run(&open.session.database, predicate, &open.session.ledger, &options, |rows| {
        if !options.dry_run {
            open.session.counters.ended(rows.iter().filter_map(end));
        }
        for row in rows {
            outcome.count(row);
            if !options.dry_run && row.skipped.is_none() {
                log(&open.name, row, options.actor.as_deref());
            }
        }
        stopped_by = if context.stop.is_cancelled() { Some(Problem::Stopping) } else { changed() };
        if stopped_by.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await;
    let failed = match cleaned {
        Ok((_, fault)) => {
            open.session.note_fault(fault);
            None
        }
        Err(error) => Some(open.failed(error)),
    };
    outcome.stopped_by = stopped_by.or(failed);
    outcome
}

/// Returns the metrics of a row if it was ended. A manual clean-up has no lag.
fn end(row: &Row) -> Option<End<'_>> {
    let reason = row.reason.as_deref().filter(|_| row.skipped.is_none())?;
    Some(End { reason, ending: Ending::parse(row.action.as_deref()?)?, lag: None })
}

impl Outcome {
    fn count(&mut self, row: &Row) {
        match row.skipped {
            None => self.cleaned += 1,
            Some(_) => self.skipped += 1,
        }
        if self.rows.len() < MAX_REPORTED {
            self.rows.push(row.clone());
        } else {
            self.omitted += 1;
        }
    }
}

/// Logs the row, for installations without an audit log in the database.
fn log(store: &StoreName, row: &Row, actor: Option<&str>) {
    tracing::info!(
        %store,
        execution = row.id,
        job = row.job_id,
        number = row.execution_number,
        action = row.action.as_deref(),
        reason = row.reason,
        actor,
        "ended an execution for a caller"
    );
}
