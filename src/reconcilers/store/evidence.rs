//! Gathers evidence other than deadlines, and reports executions that run for long: at each poll, but on a large table so
//! seldom that it keeps the database busy for at most 5 % of the time.

use std::fmt::Display;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::background::BackgroundTask;
use crate::api::ExecutionStore;
use crate::boundary;
use crate::db::heartbeats::{self, Watch};
use crate::db::staleness::evidence;
use crate::db::workloads::{self as observed_workloads, Workloads};
use crate::db::{DbError, StalenessPredicate, again, late, observations, warnings};
use crate::runtime::cluster::Cluster;
use crate::session::session::Session;
use crate::session::workloads::{self, Unknown};

/// Gathering evidence keeps the server busy for at most 5 % of the time.
const SHARE: u32 = 20;

/// The time for which a reconcile waits for Kubernetes to list the workloads. A list that comes later counts at the next
/// reconcile, so that no deadline waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

type Listed = Result<Workloads, Unknown>;

/// Collects the evidence of one store.
#[derive(Default)]
pub(super) struct EvidenceCollector {
    /// The workloads are being listed.
    listing: Option<BackgroundTask<Listed>>,
    last: Option<(Instant, Duration)>,
    asked: bool,
    /// The id of the record before which the search for executions that finished late continues.
    late: Option<i64>,
    /// The state of the server at the last reconcile.
    watch: Watch,
    /// The reason and the message if some of the evidence does not count at present.
    pub(super) unavailable: Option<(&'static str, String)>,
}

impl EvidenceCollector {
    /// Reports whether evidence is due.
    pub(super) fn is_due(&self, store: &ExecutionStore) -> bool {
        // Slightly less than the poll interval, so that each poll gathers it.
        let every = store.spec.poll_interval.get().mul_f64(0.9);
        self.asked
            || self.listing.is_some()
            || self.last.is_none_or(|(at, took)| at.elapsed() >= every.max(took * SHARE))
    }

    /// Makes the next reconcile gather evidence, whenever it comes.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Gathers evidence. Returns whether that succeeded: if not, evidence other than deadlines does not count, and
    /// everything else goes on.
    pub(super) async fn gather(
        &mut self,
        cluster: &Cluster,
        store: &ExecutionStore,
        session: &Session,
        predicate: &StalenessPredicate<'_>,
    ) -> bool {
        let workloads = if session.workloads.is_some() && !session.read_only {
            let Some(listed) = self.listed(cluster, store, session).await else { return false };
            Some(listed)
        } else {
            self.listing = None;
            None
        };
        let begun = Instant::now();
        self.asked = false;
        self.unavailable = None;
        let gathered =
            if session.read_only { Ok(()) } else { self.update(store, session, predicate, workloads).await };
        if let Err(error) = &gathered {
            session.counters.failed(error.reason());
            self.fail(store, error.reason(), error);
        }
        self.last = Some((begun, begun.elapsed()));
        gathered.is_ok()
    }

    /// The workloads that exist. `None`: Kubernetes is still being queried, and its answer triggers another reconcile.
    async fn listed(
        &mut self,
        cluster: &Cluster,
        store: &ExecutionStore,
        session: &Session,
    ) -> Option<Listed> {
        let listing = self.listing.get_or_insert_with(|| {
            let see = workloads::see(cluster, store, &session.mapping);
            BackgroundTask::begin(see, cluster.queue.enqueuer(store))
        });
        let listed = listing.wait(PATIENCE).await?;
        self.listing = None;
        if let Err(panicked) = &listed {
            self.fail(store, boundary::REASON, panicked);
        }
        listed.ok()
    }

    /// Records that some evidence does not count at present, in addition to anything else that does not.
    fn lack(&mut self, store: &ExecutionStore, reason: &'static str, lacking: &impl Display) {
        tracing::warn!(store = store.name_any(), reason, %lacking, "some evidence does not count at present");
        self.unavailable = Some(match self.unavailable.take() {
            Some((reason, why)) => (reason, format!("{why}; and {lacking}")),
            None => (reason, lacking.to_string()),
        });
    }

    /// Records that evidence does not count at present.
    pub(super) fn fail(&mut self, store: &ExecutionStore, reason: &'static str, error: &impl Display) {
        tracing::warn!(store = store.name_any(), reason, %error, "evidence other than deadlines does not count at present");
        self.unavailable = Some((reason, error.to_string()));
    }

    async fn update(
        &mut self,
        store: &ExecutionStore,
        session: &Session,
        predicate: &StalenessPredicate<'_>,
        workloads: Option<Listed>,
    ) -> Result<(), DbError> {
        let database = &session.database;
        database.within(observations::update_running_without_start(database, predicate)).await?;
        database.within(observations::update_paused(database, predicate)).await?;
        for lacking in evidence::observe(database, predicate).await? {
            self.lack(store, lacking.reason, &lacking.why);
        }
        if let Some(seen) = workloads {
            let recreated = store.spec.workloads.as_ref().map(|w| w.recreated).unwrap_or_default();
            if let Err(unknown) = &seen {
                self.lack(store, unknown.reason(), unknown);
            }
            database
                .within(observed_workloads::update(database, predicate, seen.as_ref().ok(), recreated))
                .await?;
        }
        let every = store.spec.poll_interval.to_chrono();
        if let Some(held) =
            database.within(heartbeats::update(database, predicate, &mut self.watch, every)).await?
        {
            self.lack(store, "HeartbeatsHeld", &held);
        }
        session.note_heartbeats(self.watch.seen());
        Self::look_for_again(session, predicate).await?;
        let warned = match database.within(warnings::update(database, predicate, &session.ledger)).await {
            // Warnings that cannot be recorded are not reported; evidence counts nevertheless.
            Err(DbError::Own(fault)) => {
                session.note_fault(Some(fault));
                Vec::new()
            }
            warned => warned?,
        };
        for warned in warned {
            session.counters.warned(&warned.reason);
            tracing::warn!(
                namespace = store.namespace().unwrap_or_default(),
                store = store.name_any(),
                execution = warned.id,
                job = warned.job_id,
                started_at = warned.started_at.map(|at| at.to_rfc3339()),
                deadline = warned.deadline.map(|at| at.to_rfc3339()),
                source = warned.source,
                reason = warned.reason,
                "an execution runs for long"
            );
        }
        self.look_for_late(store, session).await;
        Ok(())
    }

    /// Finds executions that run again with the same start time.
    async fn look_for_again(session: &Session, predicate: &StalenessPredicate<'_>) -> Result<(), DbError> {
        let database = &session.database;
        let found = async {
            again::update(database, predicate).await?;
            if predicate.effective_rules.may_alert_only() {
                again::note(database, predicate).await
            } else {
                Ok(())
            }
        };
        match database.within(found).await {
            // A failure to record them removes no evidence.
            Err(DbError::Own(fault)) => {
                session.note_fault(Some(fault));
                Ok(())
            }
            Err(error) if error.answered() => {
                session.counters.failed(error.reason());
                tracing::warn!(%error, "executions that run again with the same start could not be seen");
                Ok(())
            }
            done => done,
        }
    }

    /// Finds some of the executions that finished although they had been ended. A failure to search for them stops
    /// nothing else.
    async fn look_for_late(&mut self, store: &ExecutionStore, session: &Session) {
        let database = &session.database;
        let step = late::step(database, &session.mapping, &session.ledger, self.late);
        let step = match database.within(step).await {
            Ok(step) => step,
            Err(error) => {
                session.counters.failed(error.reason());
                session.note_error(&error);
                tracing::info!(store = store.name_any(), %error, "whether executions were finished late is not known");
                return;
            }
        };
        self.late = step.before;
        for late in &step.found {
            session.counters.finished_late();
            tracing::warn!(
                namespace = store.namespace().unwrap_or_default(),
                store = store.name_any(),
                execution = late.id,
                job = late.job_id,
                ended_at = late.ended_at.to_rfc3339(),
                status = late.status,
                "an execution that had been ended was finished after all: its timeout is too short"
            );
        }
    }
}
