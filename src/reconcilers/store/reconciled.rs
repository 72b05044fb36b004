//! What a reconcile came to, for the status and the log.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::notifier::Report;
use super::swept::Swept;
use crate::db::DbError;
use crate::db::held::Held;
use crate::db::observe::Pulse;
use crate::db::sweep::Refused;
use crate::session::counts::HealthCounts;
use crate::session::handle::SyncStatus;
use crate::session::not_ready::NotReady;
use crate::session::session::Session;

/// The session in use.
pub(super) struct Connected {
    pub(super) session: Arc<Session>,
    /// Whether this reconcile opened it.
    pub(super) opened: bool,
}

/// The values of the annotations that ask for something, as last answered.
#[derive(Clone, Default)]
pub(super) struct Answered {
    /// The sweep request.
    pub(super) sweep: Option<String>,
    /// The request to close the circuit breaker.
    pub(super) resume: Option<String>,
    /// The request to adopt.
    pub(super) adopt: Option<String>,
    /// Why the last request to adopt was not carried out, if one was tried.
    pub(super) unadopted: Option<String>,
}

/// What a reconcile came to.
pub(super) struct Reconciled {
    /// The session, or why there is none.
    pub(super) session: Result<Connected, NotReady>,
    /// How far the pipeline came.
    pub(super) progress: Progress,
    pub(super) answered: Answered,
    /// Why evidence other than deadlines does not count at present, if it is configured: a reason and a message.
    pub(super) unavailable: Option<(&'static str, String)>,
    /// Whether the table reported a change.
    pub(super) notified: bool,
    /// How far the store's `JobExecution` objects are in sync.
    pub(super) sync_status: Option<SyncStatus>,
    /// The sweeps, or batches of them, that have ended and can be announced.
    pub(super) closed: Vec<Uuid>,
    /// When to reconcile again.
    pub(super) requeue_after: Duration,
}

/// How far the pipeline came.
pub(super) enum Progress {
    /// There is no session.
    NotConnected,
    /// Not all `JobExecution` and `ExecutionPolicy` objects have been seen, so nothing may be judged.
    CacheNotSynced,
    /// It failed.
    Failed(DbError),
    /// It came to its end.
    Complete(Box<Complete>),
}

/// The results of all stages.
pub(super) struct Complete {
    /// What is left after the sweep.
    pub(super) pulse: Pulse,
    /// The counts, as last taken.
    pub(super) counts: HealthCounts,
    /// Why the circuit breaker is open, if it is.
    pub(super) open: Option<String>,
    /// Whether the rules in effect differ from those at the last reconcile.
    pub(super) rules_changed: bool,
    /// Whether that may have moved deadlines of executions that have no rule of their own.
    pub(super) deadlines_changed: bool,
    /// The sweep, if one ran that is worth reporting.
    pub(super) sweep: Option<Swept>,
    /// The stale executions that the server does not let the operator fail.
    pub(super) refused: Vec<Refused>,
    /// The stale executions that other transactions have held for long.
    pub(super) held: Vec<Held>,
    /// How notifications stand, where anybody wants them.
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

    /// The results of all stages, if the pipeline came to its end.
    pub(super) fn complete(&self) -> Option<&Complete> {
        match &self.progress {
            Progress::Complete(complete) => Some(complete),
            _ => None,
        }
    }

    /// What went wrong once the session was there.
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

    /// Whether this reconcile opened the session.
    pub(super) fn opened(&self) -> bool {
        matches!(self.session, Ok(Connected { opened: true, .. }))
    }

    /// Whether the store's `JobExecution` objects should be reconciled now, and sweeps announced.
    pub(super) fn is_news(&self) -> bool {
        let swept = self.complete().and_then(|complete| complete.sweep.as_ref());
        self.opened() || swept.is_some_and(|swept| swept.ended > 0)
    }
}
