//! Gathers evidence that time alone does not give, and tells of executions that run for long: at each poll, but so
//! seldom on a large table that it keeps the database busy for at most 5 % of the time.

use std::fmt::Display;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::controllers::session::Session;
use crate::controllers::{Context, workloads};
use crate::db::{DbError, Judge, evidence, warnings};

/// At most 5 % of the time.
const SHARE: u32 = 20;

/// When evidence was last gathered.
#[derive(Default)]
pub(super) struct Witness {
    last: Option<(Instant, Duration)>,
    asked: bool,
    /// Why some of it does not count at present, if it does not: a reason and a message.
    pub(super) unseen: Option<(&'static str, String)>,
}

impl Witness {
    /// Whether it is time.
    pub(super) fn is_due(&self, store: &ExecutionStore) -> bool {
        // A little less than the poll interval, so that each poll does it.
        let every = store.spec.poll_interval.get().mul_f64(0.9);
        self.asked || self.last.is_none_or(|(at, took)| at.elapsed() >= every.max(took * SHARE))
    }

    /// The next look gathers evidence, whenever it comes.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Gathers it. Returns whether it could; else what could not be seen does not count, and everything else goes on.
    pub(super) async fn gather(
        &mut self,
        context: &Context,
        store: &ExecutionStore,
        session: &Session,
        judge: &Judge<'_>,
    ) -> bool {
        let begun = Instant::now();
        self.asked = false;
        self.unseen = None;
        let gathered =
            if session.read_only { Ok(()) } else { self.update(context, store, session, judge).await };
        if let Err(error) = &gathered {
            session.tally.failed(error.reason());
            self.fail(store, error.reason(), error);
        }
        self.last = Some((begun, begun.elapsed()));
        gathered.is_ok()
    }

    /// Notes that evidence does not count at present.
    pub(super) fn fail(&mut self, store: &ExecutionStore, reason: &'static str, error: &impl Display) {
        tracing::warn!(store = store.name_any(), reason, %error, "evidence other than deadlines does not count at present");
        self.unseen = Some((reason, error.to_string()));
    }

    async fn update(
        &mut self,
        context: &Context,
        store: &ExecutionStore,
        session: &Session,
        judge: &Judge<'_>,
    ) -> Result<(), DbError> {
        let database = &session.database;
        database.within(evidence::update_jobs(database, judge)).await?;
        if session.workloads.is_some() {
            let seen = workloads::see(context, store, session.mapping.id_type()).await;
            if let Err(error) = &seen {
                let message = format!(
                    "Jobs and Pods cannot be listed ({error}): see that the operator's ServiceAccount may list jobs and \
                     pods (manifests/install/workloads.yaml)"
                );
                self.fail(store, "ListFailed", &message);
            }
            database.within(evidence::update_workloads(database, judge, seen.as_ref().ok())).await?;
        }
        for warned in database.within(warnings::update(database, judge, &session.ledger)).await? {
            session.tally.warned(&warned.reason);
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
        Ok(())
    }
}
