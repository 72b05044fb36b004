//! Notifies people, beside everything else: posted events become messages, which are delivered and retried. No reconcile
//! waits for a mail server.

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
use crate::db::observe::RunningCounts;
use crate::db::{Ledger, outbox};
use crate::notify::digest::ChannelSet;
use crate::rules::Routes;
use crate::runtime::cluster::Cluster;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;
use channels::Channels;
pub(super) use channels::Report;
use delivery_loop::DeliveryLoop;
use problem_notified::ProblemNotified;

/// The time to wait for deliveries: longer than one may take.
const LEAVE: Duration = Duration::from_secs(20);

/// The notifications of one session, kept from one reconcile to the next.
#[derive(Default)]
pub(super) struct Notifier {
    /// The last value written to the database: whether any channel is configured.
    announced: Option<bool>,
    /// True if people may know of a problem.
    problem_notified: Arc<ProblemNotified>,
    /// The state of the channels.
    channels: Arc<Channels>,
    /// The running delivery loop, and the configuration it runs with.
    under_way: Option<UnderWay>,
}

/// A running [`DeliveryLoop`].
struct UnderWay {
    on_behalf_of: (Arc<ChannelSet>, Routes),
    /// Dropping it ends the task after the current deliveries are done and recorded: otherwise they would be delivered
    /// again.
    leave: DropGuard,
    task: JoinHandle<()>,
}

impl Notifier {
    /// The notifier of the next session, which keeps the state of the channels.
    pub(super) fn for_new_session(&self) -> Self {
        Self { channels: self.channels.clone(), ..Self::default() }
    }

    /// Records in the database whether any channel is configured, so that events are posted from now on. A failure stops
    /// nothing else.
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
                session.counters.failed(error.reason());
                tracing::warn!(store = store.name_any(), %error, "whether anybody is to be told could not be noted");
            }
        }
    }

    /// Posts that the store is healthy again, if it is and people know of a problem.
    pub(super) async fn recover(
        &self,
        store: &ExecutionStore,
        session: &Session,
        live: Option<&RunningCounts>,
        breaker_open: bool,
    ) {
        let Ledger::Tables { store_id, outbox: true } = session.ledger else { return };
        let Some(live) = live else { return };
        let well = live.long_running == 0 && live.stale == 0 && !breaker_open;
        // Cleared before the query: a problem that is reported meanwhile is not forgotten.
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
                session.counters.failed(error.reason());
                tracing::warn!(store = store.name_any(), %error, "that all is well again could not be noted");
            }
        }
    }

    /// Starts the delivery loop, unless it runs with the same configuration.
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

    /// Stops the delivery loop. The returned future waits for the current deliveries.
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

    /// The report on notifications; `None`: no channel is configured.
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

/// The channels for the executions of a store.
fn directory(store: &ExecutionStore, effective_rules: &EffectiveRules) -> ChannelSet {
    let policies = effective_rules.policies.iter().filter(|read| read.policy.notifies);
    let channels = store.spec.notifications.as_ref().map(|notifications| notifications.channels.clone());
    ChannelSet {
        namespace: store.namespace().unwrap_or_default(),
        store: store.name_any(),
        channels: channels.unwrap_or_default(),
        policies: policies.map(|read| (read.policy.name.clone(), read.channels.clone())).collect(),
    }
}
