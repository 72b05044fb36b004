//! Tells people what happened, beside everything else: what was posted becomes messages, and those are delivered or tried
//! again. No look ever waits for a mail server.

mod channel;
mod channels;
mod delivery_loop;
mod problem_notified;
mod transport;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::ResourceExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use crate::api::ExecutionStore;
use crate::db::observe::Live;
use crate::db::{Ledger, outbox};
use crate::notify::digest::Directory;
use crate::rules::Routes;
use crate::runtime::cluster::Cluster;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;
use channels::Channels;
pub(super) use channels::Report;
use delivery_loop::DeliveryLoop;
use problem_notified::ProblemNotified;

/// How long to wait for deliveries: longer than one may take.
const LEAVE: Duration = Duration::from_secs(20);

/// What one session's look leaves for the next.
#[derive(Default)]
pub(super) struct Notifier {
    /// What the database was last told of whether anybody wants to be told.
    announced: Option<bool>,
    /// Whether people may know of trouble.
    problem_notified: Arc<ProblemNotified>,
    /// How its channels stand.
    channels: Arc<Channels>,
    /// What is at work, and on whose behalf.
    under_way: Option<UnderWay>,
}

/// See [`DeliveryLoop`].
struct UnderWay {
    on_behalf_of: (Arc<Directory>, Routes),
    /// Dropped, it has the task end once what is being delivered has been, and that was noted: else it would be delivered again.
    leave: DropGuard,
    task: JoinHandle<()>,
}

impl Notifier {
    /// That of the next session: how its channels stand does not change with it.
    pub(super) fn for_new_session(&self) -> Self {
        Self { channels: self.channels.clone(), ..Self::default() }
    }

    /// Says in the database whether anybody wants to be told, so that what is done now is posted. That it cannot be said is
    /// no reason to do nothing.
    pub(super) async fn announce(
        &mut self,
        store: &ExecutionStore,
        session: &Session,
        effective_rules: &EffectiveRules,
    ) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let wanted = directory(store, effective_rules).any();
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
    pub(super) async fn recover(
        &self,
        store: &ExecutionStore,
        session: &Session,
        live: Option<&Live>,
        breaker_open: bool,
    ) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let Some(live) = live else { return };
        let well = live.long_running == 0 && live.stale == 0 && !breaker_open;
        // Taken before it is asked: trouble that is told of meanwhile is not forgotten.
        if !well || session.read_only || !self.problem_notified.0.swap(false, Ordering::AcqRel) {
            return;
        }
        let database = &session.database;
        match database.within(outbox::recover(database, store_id, live.now)).await {
            Ok(true) => {}
            Ok(false) => self.problem_notified.0.store(true, Ordering::Release),
            Err(error) => {
                self.problem_notified.0.store(true, Ordering::Release);
                session.note_error(&error);
                session.tally.failed(error.reason());
                tracing::warn!(store = store.name_any(), %error, "that all is well again could not be noted");
            }
        }
    }

    /// Goes on telling, unless that is under way on behalf of the same spec.
    pub(super) fn go_on(
        &mut self,
        cluster: &Arc<Cluster>,
        store: &ExecutionStore,
        session: &Arc<Session>,
        effective_rules: &Arc<EffectiveRules>,
    ) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let directory = directory(store, effective_rules);
        if session.read_only || !directory.any() {
            self.under_way = None;
            return;
        }
        if let Some(UnderWay { on_behalf_of, task, .. }) = &self.under_way
            && *on_behalf_of.0 == directory
            && on_behalf_of.1 == effective_rules.routes
            && !task.is_finished()
        {
            return;
        }
        let (directory, leave) = (Arc::new(directory), cluster.stop.child_token());
        let delivery_loop = DeliveryLoop {
            cluster: cluster.clone(),
            store: store.clone(),
            session: session.clone(),
            store_id,
            effective_rules: effective_rules.clone(),
            directory: directory.clone(),
            channels: self.channels.clone(),
            problem_notified: self.problem_notified.clone(),
            leave: leave.clone(),
        };
        let task = cluster.deliveries.spawn(delivery_loop.go());
        let on_behalf_of = (directory, effective_rules.routes.clone());
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
        effective_rules: &EffectiveRules,
    ) -> Option<Report> {
        let directory = directory(store, effective_rules);
        let recorded = session.read_only || matches!(session.ledger, Ledger::Tables { outbox: true, .. });
        directory.any().then(|| self.channels.report(store, &directory, recorded))
    }
}

/// Who is told of the executions of a store.
fn directory(store: &ExecutionStore, effective_rules: &EffectiveRules) -> Directory {
    let policies = effective_rules.policies.iter().filter(|read| read.policy.notifies);
    let channels = store.spec.notifications.as_ref().map(|notifications| notifications.channels.clone());
    Directory {
        namespace: store.namespace().unwrap_or_default(),
        store: store.name_any(),
        channels: channels.unwrap_or_default(),
        policies: policies.map(|read| (read.policy.name.clone(), read.channels.clone())).collect(),
    }
}
