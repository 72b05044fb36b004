//! The result of a reconcile, for the status and the log.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::notifier::Report;
use super::swept::Swept;
use crate::db::DbError;
use crate::db::held::Held;
use crate::db::observe::DeadlineSnapshot;
use crate::db::retry::Pending;
use crate::db::sweep::Refused;
use crate::session::counts::HealthCounts;
use crate::session::handle::SyncStatus;
use crate::session::not_ready::NotReady;
use crate::session::session::Session;

/// The session in use.
pub(super) struct Connected {
    pub(super) session: Arc<Session>,
    /// True if this reconcile opened it.
    pub(super) opened: bool,
}

/// The values of the request annotations that were last answered.
#[derive(Clone, Default)]
pub(super) struct Answered {
    /// The sweep request.
    pub(super) sweep: Option<String>,
    /// The request to close the circuit breaker.
    pub(super) resume: Option<String>,
    /// The request to adopt.
    pub(super) adopt: Option<String>,
    /// The reason why the last request to adopt was not carried out, if one was tried.
    pub(super) unadopted: Option<String>,
}

/// The result of a reconcile.
pub(super) struct Reconciled {
    /// The session, or the reason why there is none.
    pub(super) session: Result<Connected, NotReady>,
    /// The stage that the pipeline reached.
    pub(super) progress: Progress,
    pub(super) answered: Answered,
    /// The reason and the message if evidence other than deadlines is configured and does not count at present.
    pub(super) unavailable: Option<(&'static str, String)>,
    /// True if the table reported a change.
    pub(super) notified: bool,
    /// The state of the store's `JobExecution` objects.
    pub(super) sync_status: Option<SyncStatus>,
    /// The sweeps, or batches of them, that have ended and can be announced.
    pub(super) closed: Vec<Uuid>,
    /// The pause before the next reconcile.
    pub(super) requeue_after: Duration,
}

/// The stage that the pipeline reached.
pub(super) enum Progress {
    /// There is no session.
    NotConnected,
    /// The `JobExecution` and `ExecutionPolicy` caches have not synced, so nothing may be judged.
    CacheNotSynced,
    /// A stage failed.
    Failed(DbError),
    /// All stages completed.
    Complete(Box<Complete>),
}

/// The results of all stages.
pub(super) struct Complete {
    /// The stale executions and the next deadline after the sweep.
    pub(super) pulse: DeadlineSnapshot,
    /// The counts, as last taken.
    pub(super) counts: HealthCounts,
    /// The reason why the circuit breaker is open, if it is.
    pub(super) open: Option<String>,
    /// True if the rules in effect differ from those at the last reconcile.
    pub(super) rules_changed: bool,
    /// True if that may have moved deadlines of executions that have no rule of their own.
    pub(super) deadlines_changed: bool,
    /// The sweep, if one ran that is worth reporting.
    pub(super) sweep: Option<Swept>,
    /// The stale executions that the server does not let the operator fail.
    pub(super) refused: Vec<Refused>,
    /// The stale executions that other transactions have held for long.
    pub(super) held: Vec<Held>,
    /// The retries that wait, if the operator itself retries executions of the store.
    pub(super) retries: Option<Pending>,
    /// The state of notifications, if any channel is configured.
    pub(super) notifying: Option<Report>,
}

impl Reconciled {
    /// The result without a session.
    pub(super) fn not_ready(why: NotReady, sync_status: Option<SyncStatus>, answered: Answered) -> Self {
        Self {
            session: Err(why),
            progress: Progress::NotConnected,
            answered,
            unavailable: None,
            notified: false,
            sync_status,
            closed: Vec::new(),
            requeue_after: Duration::ZERO,
        }
    }

    /// The results of all stages, if all completed.
    pub(super) fn complete(&self) -> Option<&Complete> {
        match &self.progress {
            Progress::Complete(complete) => Some(complete),
            _ => None,
        }
    }

    /// The error of the stage that failed.
    pub(super) fn error(&self) -> Option<&DbError> {
        match &self.progress {
            Progress::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The session, if there is one.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().ok().map(|connected| &connected.session)
    }

    /// True if this reconcile opened the session.
    pub(super) fn opened(&self) -> bool {
        matches!(self.session, Ok(Connected { opened: true, .. }))
    }

    /// True if the store's `JobExecution` objects should be reconciled now, and sweeps announced.
    pub(super) fn is_news(&self) -> bool {
        let swept = self.complete().and_then(|complete| complete.sweep.as_ref());
        self.opened() || swept.is_some_and(|swept| swept.ended > 0)
    }
}
