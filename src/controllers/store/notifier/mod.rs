//! Tells people what happened, beside everything else: what was posted becomes messages, and those are delivered or tried
//! again. No look ever waits for a mail server.

mod channel;
mod channels;
mod round;
mod way;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use super::look::Seen;
use crate::api::ExecutionStore;
use crate::controllers::Context;
use crate::controllers::in_force::InForce;
use crate::controllers::session::Session;
use crate::db::{Ledger, outbox};
use crate::notify::digest::Directory;
use crate::rules::Routes;
use channels::Channels;
pub(super) use channels::Report;
use round::Round;

/// How long to wait for deliveries: longer than one may take.
const LEAVE: Duration = Duration::from_secs(20);

/// What one session's look leaves for the next.
#[derive(Default)]
pub(super) struct Notifier {
    /// What the database was last told of whether anybody wants to be told.
    announced: Option<bool>,
    /// Whether people may know of trouble.
    unwell: Arc<Unwell>,
    /// How its channels stand.
    channels: Arc<Channels>,
    /// What is at work, and on whose behalf.
    under_way: Option<UnderWay>,
}

/// See [`Round`].
struct UnderWay {
    on_behalf_of: (Arc<Directory>, Routes),
    /// Dropped, it has the task end once what is being delivered has been, and that was noted: else it would be delivered again.
    leave: DropGuard,
    task: JoinHandle<()>,
}

/// Whether people may know of trouble: they may until the database says that they do not.
pub(super) struct Unwell(AtomicBool);

impl Default for Unwell {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Notifier {
    /// That of the next session: how its channels stand does not change with it.
    pub(super) fn anew(&self) -> Self {
        Self { channels: self.channels.clone(), ..Self::default() }
    }

    /// Says in the database whether anybody wants to be told, so that what is done now is posted. That it cannot be said is
    /// no reason to do nothing.
    pub(super) async fn announce(&mut self, store: &ExecutionStore, session: &Session, in_force: &InForce) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let wanted = directory(store, in_force).any();
        if session.read_only || self.announced == Some(wanted) {
            return;
        }
        let database = &session.database;
        match database.within(outbox::announce(database, store_id, wanted)).await {
            Ok(()) => self.announced = Some(wanted),
            Err(error) => {
                session.tally.failed(error.reason());
                tracing::warn!(store = store.name_any(), %error, "whether anybody is to be told could not be noted");
            }
        }
    }

    /// Has people told that all is well again, if it is and they know that it was not.
    pub(super) async fn recover(&self, store: &ExecutionStore, session: &Session, seen: &Seen) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let Some(live) = &seen.figures.live else { return };
        let well = live.long_running == 0 && live.stale == 0 && seen.open.is_none();
        // Taken before it is asked: trouble that is told of meanwhile is not forgotten.
        if !well || session.read_only || !self.unwell.0.swap(false, Ordering::AcqRel) {
            return;
        }
        let database = &session.database;
        match database.within(outbox::recover(database, store_id, live.now)).await {
            Ok(true) => {}
            Ok(false) => self.unwell.0.store(true, Ordering::Release),
            Err(error) => {
                self.unwell.0.store(true, Ordering::Release);
                session.note_error(&error);
                session.tally.failed(error.reason());
                tracing::warn!(store = store.name_any(), %error, "that all is well again could not be noted");
            }
        }
    }

    /// Goes on telling, unless that is under way on behalf of the same spec.
    pub(super) fn go_on(
        &mut self,
        context: &Arc<Context>,
        store: &ExecutionStore,
        session: &Arc<Session>,
        in_force: &Arc<InForce>,
    ) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let directory = directory(store, in_force);
        if session.read_only || !directory.any() {
            self.under_way = None;
            return;
        }
        if let Some(UnderWay { on_behalf_of, task, .. }) = &self.under_way
            && *on_behalf_of.0 == directory
            && on_behalf_of.1 == in_force.routes
            && !task.is_finished()
        {
            return;
        }
        let (directory, leave) = (Arc::new(directory), context.stop.child_token());
        let round = Round {
            context: context.clone(),
            store: store.clone(),
            session: session.clone(),
            store_id,
            in_force: in_force.clone(),
            directory: directory.clone(),
            channels: self.channels.clone(),
            unwell: self.unwell.clone(),
            leave: leave.clone(),
        };
        let task = context.deliveries.spawn(round.go());
        let on_behalf_of = (directory, in_force.routes.clone());
        self.under_way = Some(UnderWay { on_behalf_of, leave: leave.drop_guard(), task });
    }

    /// Begins to tell nobody any more. What is returned waits until what is being delivered has been.
    pub(super) fn leave(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let task = self.under_way.take().map(|UnderWay { leave, task, .. }| {
            drop(leave);
            task
        });
        async move {
            let Some(task) = task else { return };
            if tokio::time::timeout(LEAVE, task).await.is_err() {
                tracing::debug!("a message was still being delivered, and may be once more");
            }
        }
    }

    /// How telling people stands; `None`: nobody wants to be told.
    pub(super) fn report(
        &self,
        store: &ExecutionStore,
        session: &Session,
        in_force: &InForce,
    ) -> Option<Report> {
        let directory = directory(store, in_force);
        let recorded = session.read_only || matches!(session.ledger, Ledger::Tables { outbox: true, .. });
        directory.any().then(|| self.channels.report(store, &directory, recorded))
    }
}

/// Who is told of the executions of a store.
fn directory(store: &ExecutionStore, in_force: &InForce) -> Directory {
    let policies = in_force.policies.iter().filter(|read| read.policy.notifies);
    let channels = store.spec.notifications.as_ref().map(|notifications| notifications.channels.clone());
    Directory {
        namespace: store.namespace().unwrap_or_default(),
        store: store.name_any(),
        channels: channels.unwrap_or_default(),
        policies: policies.map(|read| (read.policy.name.clone(), read.channels.clone())).collect(),
    }
}
