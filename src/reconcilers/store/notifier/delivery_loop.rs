//! One task for each store: it turns posted events into messages, delivers those that are due, and sleeps in between. It
//! ends when nothing is left; the next reconcile starts another one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use tokio_util::sync::CancellationToken;

use super::channel::{pause, pause_refused};
use super::channels::Channels;
use super::problem_notified::ProblemNotified;
use super::transport::{TransportCache, TransportError};
use crate::api::ExecutionStore;
use crate::api::notifications::{Channel, Notifications};
use crate::boundary::{Place, caught};
use crate::db::messages::{self, Pending, Taken};
use crate::db::{DbError, outbox};
use crate::notify::digest::{Admission, ChannelSet, digest};
use crate::notify::{Destination, Message, SendError, Templates};
use crate::runtime::cluster::Cluster;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The most messages of a store that are delivered at the same time.
const AT_ONCE: usize = 4;

/// The longest pause: after it, the work of another operator is noticed.
const REST: Duration = Duration::from_secs(30);

/// The shortest pause, which spares the server.
const MOMENT: Duration = Duration::from_millis(100);

/// The pause after a message whose channel does not exist.
const CHANNEL_BACK: Duration = Duration::from_mins(1);

/// The delivery of the notifications of one store.
pub(super) struct DeliveryLoop {
    pub(super) cluster: Arc<Cluster>,
    pub(super) store: ExecutionStore,
    pub(super) session: Arc<Session>,
    pub(super) store_id: i64,
    pub(super) effective_rules: Arc<EffectiveRules>,
    pub(super) directory: Arc<ChannelSet>,
    pub(super) channels: Arc<Channels>,
    pub(super) problem_notified: Arc<ProblemNotified>,
    /// Cancelled when another task delivers from now on, or none does.
    pub(super) leave: CancellationToken,
}

/// The waiting times, from `spec.notifications` or its defaults.
struct Times {
    group_wait: TimeDelta,
    group_interval: TimeDelta,
    give_up_after: TimeDelta,
}

impl DeliveryLoop {
    /// Runs until nothing is left.
    pub(super) async fn go(self) {
        let outcome = caught(Place::Notify, self.run()).await;
        if let Err(error) = outcome.map_err(DbError::from).flatten() {
            self.session.note_error(&error);
            self.session.counters.failed(error.reason());
            tracing::warn!(store = self.store.name_any(), %error, "people could not be told; the next look goes on");
        }
    }

    async fn run(&self) -> Result<(), DbError> {
        let spec = self.store.spec.notifications.clone().unwrap_or_default();
        // Compiled at the first message, since that takes time.
        let templates = OnceLock::new();
        let (transports, times) = (TransportCache::default(), Times::of(&spec));
        self.hasten().await?;
        while !self.leave.is_cancelled() {
            let Some(rest) = self.turn(&templates, &transports, &times).await? else { break };
            tokio::select! {
                () = tokio::time::sleep(rest.min(REST)) => {}
                () = self.leave.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Does the work that is due. Returns how long to sleep; `None`: nothing is left.
    async fn turn(
        &self,
        templates: &OnceLock<Templates>,
        transports: &TransportCache,
        times: &Times,
    ) -> Result<Option<Duration>, DbError> {
        let database = &self.session.database;
        let held = self.channels.held();
        let pending = database.within(messages::pending(database, self.store_id, &held.all)).await?;
        let given_up = if pending.waiting > 0 { self.give_up_old(times, &held.failing).await? } else { 0 };
        let waiting = pending.waiting.saturating_sub(i64::try_from(given_up).unwrap_or(0));
        self.channels.waiting(waiting, &pending.channels);
        self.channels.foreign(pending.foreign);
        let write_at = times.write_at(&pending);
        if write_at.is_some_and(|at| at <= pending.now) {
            // If no message came of it, the posted events may be unreadable: a pause spares the server.
            return Ok(Some(if self.write().await? > 0 { Duration::ZERO } else { MOMENT }));
        }
        if pending.next.is_some_and(|at| at <= pending.now) {
            let taken = database.within(messages::take(database, self.store_id, &held.all)).await?;
            if taken.is_empty() {
                // Another operator is taking them at the same time.
                return Ok(Some(MOMENT));
            }
            let spec = self.store.spec.notifications.as_ref();
            let templates =
                templates.get_or_init(|| Templates::new(spec.and_then(|n| n.templates.as_ref())).0);
            let deliveries = futures::stream::iter(taken);
            deliveries.for_each_concurrent(AT_ONCE, |taken| self.deliver(templates, transports, taken)).await;
            return Ok(Some(Duration::ZERO));
        }
        if pending.posted.is_none() && pending.waiting == 0 {
            return Ok(None);
        }
        let next = [write_at, pending.next].into_iter().flatten().min();
        let rest = next.map_or(REST, |at| (at - pending.now).to_std().unwrap_or_default());
        let held = self.channels.next().map_or(REST, |at| at.saturating_duration_since(Instant::now()));
        Ok(Some(rest.min(held).max(MOMENT)))
    }

    /// Lets messages no longer wait if the spec of their channel has changed.
    async fn hasten(&self) -> Result<(), DbError> {
        let (database, changed) = (&self.session.database, self.channels.changed());
        if changed.is_empty() {
            return Ok(());
        }
        database.within(messages::hasten(database, self.store_id, &changed)).await?;
        self.channels.hastened(&changed);
        Ok(())
    }

    /// Turns posted events into messages, and returns how many.
    async fn write(&self) -> Result<usize, DbError> {
        let (database, mapping) = (&self.session.database, &self.session.mapping);
        let (routes, directory) = (&self.effective_rules.routes, &self.directory);
        let write = |posted: &outbox::Posted, at: DateTime<Utc>| {
            digest(directory, &posted.executions, &posted.notes, at, |execution| {
                routes.policy(execution.job_id.as_deref(), execution.job_type.as_deref())
            })
        };
        let _reading = database.reading().await;
        // Set before and after: the statement may be cancelled after it was committed.
        self.problem_notified.0.store(true, Ordering::Release);
        let letters = database.within(outbox::digest(database, mapping, self.store_id, write)).await?;
        self.problem_notified.0.store(true, Ordering::Release);
        tracing::debug!(store = self.store.name_any(), letters, "messages were written");
        Ok(letters)
    }

    async fn deliver(&self, templates: &Templates, transports: &TransportCache, taken: Taken) {
        let attempt = caught(Place::Notify, Box::pin(self.attempt(templates, transports, &taken))).await;
        let outcome = match attempt {
            Ok(outcome) => outcome,
            // A panic must not cancel the concurrent deliveries, or those messages would be delivered again.
            Err(panicked) => self.put_off(&taken, &panicked.to_string()).await,
        };
        if let Err(error) = outcome {
            // The message is delivered again, which its recipient can detect by the id.
            self.session.counters.failed(error.reason());
            tracing::warn!(store = self.store.name_any(), message = %taken.id, %error, "what became of a message could not be noted");
        }
    }

    async fn attempt(
        &self,
        templates: &Templates,
        transports: &TransportCache,
        taken: &Taken,
    ) -> Result<(), DbError> {
        let database = &self.session.database;
        let Some(message) = &taken.message else {
            return self.give_up(taken, "another version wrote it, and it cannot be read").await;
        };
        let Some(channel) = self.directory.channel(&taken.channel) else {
            // A policy may come back soon; otherwise the message is abandoned in time.
            let error = "its channel is not in the spec";
            return database.within(messages::failed(database, taken.id, error, CHANNEL_BACK)).await;
        };
        if !self.goes_to(channel, taken, message).await? {
            let why = "its recipient is not in the spec, and owns none of the executions that it tells of";
            return self.give_up(taken, why).await;
        }
        let transport = transports.find(&self.cluster.client, &self.store, &taken.channel, channel).await;
        let outcome = match transport {
            Ok(transport) => self
                .send(templates, message, &transport.to(&taken.recipient))
                .await
                .map_err(TransportError::Send),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            return self.record_failure(transports, taken, error).await;
        }
        self.session.counters.delivered();
        self.channels.delivered(&taken.channel, &taken.recipient);
        tracing::info!(store = self.store.name_any(), channel = taken.channel, message = %taken.id, "people were told");
        database.within(messages::delivered(database, taken.id)).await
    }

    /// Reports whether a message may go to its recipient. Somebody else may have written it, or the spec or the row may
    /// have changed.
    async fn goes_to(&self, channel: &Channel, taken: &Taken, message: &Message) -> Result<bool, DbError> {
        match ChannelSet::admits(channel, &taken.recipient, message) {
            Admission::Told => Ok(true),
            Admission::Stranger => Ok(false),
            Admission::Owner => {
                let ids: Vec<&str> = message.executions.iter().map(|e| e.id.as_str()).collect();
                let (database, mapping) = (&self.session.database, &self.session.mapping);
                database.within(messages::is_owner(database, mapping, &ids, &taken.recipient)).await
            }
        }
    }

    /// Records a failed attempt. It is retried, unless that is useless.
    async fn record_failure(
        &self,
        transports: &TransportCache,
        taken: &Taken,
        error: TransportError,
    ) -> Result<(), DbError> {
        self.session.counters.not_delivered(error.reason());
        let text = error.to_string().replace('\0', "");
        let (channel, recipient) = (&taken.channel, &taken.recipient);
        let refused = matches!(error, TransportError::Send(SendError::RecipientRefused { .. }));
        let news = match &error {
            TransportError::Send(SendError::RecipientRefused { .. }) => {
                self.channels.refused(channel, recipient, text.clone())
            }
            TransportError::Send(SendError::InvalidAddress(..)) => {
                self.channels.record_failure(channel, recipient, text.clone())
            }
            error => {
                transports.forget(channel);
                self.channels.failed(channel, error.reason(), text.clone())
            }
        };
        if news {
            // The condition reports it without waiting for the next poll.
            self.cluster.enqueue_store(&self.directory.namespace, &self.directory.store);
        }
        if matches!(&error, TransportError::Send(error) if error.is_final()) {
            return self.give_up(taken, &text).await;
        }
        tracing::info!(store = self.store.name_any(), channel, message = %taken.id, error = text, "people could not be told");
        if refused {
            let database = &self.session.database;
            let pause = |attempts| pause_refused(times(attempts));
            return database.within(messages::refused(database, self.store_id, taken, &text, pause)).await;
        }
        self.put_off(taken, &text).await
    }

    /// Schedules another try of a message, after a pause that grows with the number of attempts.
    async fn put_off(&self, taken: &Taken, why: &str) -> Result<(), DbError> {
        let (database, again_in) = (&self.session.database, pause(times(taken.attempts)));
        database.within(messages::failed(database, taken.id, why, again_in)).await
    }

    /// Abandons a message that can never be delivered.
    async fn give_up(&self, taken: &Taken, why: &str) -> Result<(), DbError> {
        let (store, channel) = (self.store.name_any(), &taken.channel);
        tracing::warn!(store, channel, message = %taken.id, why, "a message was given up");
        self.given_up(1);
        let database = &self.session.database;
        database.within(messages::give_up(database, taken.id, why)).await
    }

    fn given_up(&self, messages: u64) {
        self.session.counters.given_up(messages);
        self.channels.given_up(messages);
    }

    async fn send(
        &self,
        templates: &Templates,
        message: &Message,
        destination: &Destination,
    ) -> Result<(), SendError> {
        let delivery = destination.deliver(&self.cluster.dialer, templates, message).await;
        self.channels.template(delivery.template_errors.first().map(ToString::to_string));
        delivery.outcome
    }

    /// Abandons messages that were retried for long enough.
    async fn give_up_old(&self, times: &Times, failing: &[String]) -> Result<u64, DbError> {
        let database = &self.session.database;
        let old = messages::give_up_old(database, self.store_id, times.give_up_after, failing);
        let old = database.within(old).await?;
        if let Some(first) = old.first() {
            self.given_up(old.len() as u64);
            let (store, error) =
                (self.store.name_any(), first.error.as_deref().unwrap_or("it was never tried"));
            tracing::warn!(store, messages = old.len(), channel = first.channel, message = %first.id, error, "messages were given up");
        }
        Ok(old.len() as u64)
    }
}

fn times(attempts: i32) -> u32 {
    u32::try_from(attempts).unwrap_or(1)
}

impl Times {
    fn of(spec: &Notifications) -> Self {
        Self {
            group_wait: spec.group_wait.to_chrono(),
            group_interval: spec.group_interval.to_chrono(),
            give_up_after: spec.give_up_after.to_chrono(),
        }
    }

    /// The time to turn posted events into messages.
    fn write_at(&self, pending: &Pending) -> Option<DateTime<Utc>> {
        let first = pending.posted? + self.group_wait;
        Some(pending.told.map_or(first, |told| first.max(told + self.group_interval)))
    }
}
