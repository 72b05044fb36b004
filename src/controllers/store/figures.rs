//! The figures that only people need: counted beside enforcement, seldom, and never in its way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::aside::Aside;
use super::memory::Governed;
use super::pruner::Pruner;
use crate::api::ExecutionStore;
use crate::controllers::in_force::InForce;
use crate::controllers::session::Session;
use crate::db::observe::{self, Census, Contradictions, Live};
use crate::db::{DbError, Ledger, again, refusals, samples};

/// Counting keeps the server busy for at most 5 % of the time.
const SHARE: u32 = 20;

/// How long a look waits for figures, so that those that come soon are told with what they belong to; a later look
/// tells the others.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often figures are kept, at the most. The first ones are those of a session that has lasted for so long.
const SAMPLE: Duration = Duration::from_mins(1);

/// The figures last taken; `None`: not yet, or they could not be taken.
#[derive(Clone, Debug, Default)]
pub(in crate::controllers) struct Figures {
    pub(super) live: Option<Live>,
    /// How many running executions each object says something of that counts.
    pub(super) governed: Option<Governed>,
    pub(super) census: Option<Census>,
    pub(super) contradictions: Option<Contradictions>,
    /// How many status changes the transition trigger refused, where it is installed.
    pub(super) refused: Option<i64>,
}

impl Figures {
    /// Those of this moment, which nobody keeps; what could not be taken is not there.
    pub(in crate::controllers) async fn now(
        store: &ExecutionStore,
        session: &Arc<Session>,
        in_force: &Arc<InForce>,
    ) -> Self {
        let what = Take { all: false, keep: false, known: Self::default() };
        take(store.name_any(), session.clone(), in_force.clone(), what).await.0
    }

    /// Whether the running executions were counted.
    pub(in crate::controllers) fn are_taken(&self) -> bool {
        self.live.is_some()
    }
}

/// Takes the figures of one session.
#[derive(Default)]
pub(super) struct Counter {
    known: Figures,
    /// When they were last asked for, and when the whole table was.
    asked: Option<Instant>,
    asked_all: Option<Instant>,
    /// When figures were last kept, or their session was first counted.
    kept: Option<Instant>,
    took: Duration,
    /// Whether the table is known to have changed since.
    outdated: bool,
    /// Not looked for again and again: that would keep a server from taking them that many stores share.
    under_way: Option<Aside<(Figures, Duration)>>,
    pruner: Pruner,
}

/// What a look asks of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing happened.
    None,
    /// Executions were failed, the table said that it changed, or other rules are in force.
    Changed,
    /// A person asked for a sweep, and wants to see all of it.
    Requested,
}

impl Counter {
    /// What is known, after taking what is due.
    pub(super) async fn figures(
        &mut self,
        store: &ExecutionStore,
        session: &Arc<Session>,
        in_force: &Arc<InForce>,
        news: News,
        nudge: impl FnOnce() + Send + 'static,
    ) -> Figures {
        self.outdated |= news != News::None;
        if news == News::Requested {
            let (known, pruner) = (std::mem::take(&mut self.known), std::mem::take(&mut self.pruner));
            *self = Self { known, kept: self.kept, pruner, ..Self::default() };
        }
        if self.under_way.is_none() && self.due(store) {
            self.ask(store, session, in_force, nudge);
        }
        if let Some(under_way) = &mut self.under_way
            && let Some(taken) = under_way.wait(PATIENCE).await
        {
            self.under_way = None;
            // What was known says nothing of now. The next ones are taken at the next poll.
            (self.known, self.took) = taken.unwrap_or_default();
        }
        self.known.clone()
    }

    /// When a look is wanted for the figures alone.
    pub(super) fn wants_look_in(&self) -> Option<Duration> {
        if self.under_way.is_some() {
            return None;
        }
        self.outdated.then(|| self.rest())
    }

    fn due(&self, store: &ExecutionStore) -> bool {
        // A little less than the poll interval, so that each poll takes them.
        let every = store.spec.poll_interval.get().mul_f64(0.9);
        let waited = self.asked.is_none_or(|at| at.elapsed() >= every);
        (self.outdated || waited) && self.rest().is_zero()
    }

    /// How long the server has still to be left alone.
    fn rest(&self) -> Duration {
        self.asked.map_or(Duration::ZERO, |at| (self.took * SHARE).saturating_sub(at.elapsed()))
    }

    fn ask(
        &mut self,
        store: &ExecutionStore,
        session: &Arc<Session>,
        in_force: &Arc<InForce>,
        nudge: impl FnOnce() + Send + 'static,
    ) {
        let now = Instant::now();
        let every = store.spec.sweep_interval.get();
        let all = self.asked_all.is_none_or(|at| now.duration_since(at) >= every);
        self.asked = Some(now);
        self.asked_all = if all { Some(now) } else { self.asked_all };
        self.outdated = false;
        let kept = *self.kept.get_or_insert(now);
        let keep = now.duration_since(kept) >= SAMPLE;
        self.kept = Some(if keep { now } else { kept });
        let what = Take { all, keep: keep && !session.read_only, known: self.known.clone() };
        if what.keep {
            self.pruner.go_on(store.name_any(), session, store.spec.history.retention.to_chrono());
        }
        let taking = take(store.name_any(), session.clone(), in_force.clone(), what);
        self.under_way = Some(Aside::begin(taking, nudge));
    }
}

/// What to do beside counting what runs.
struct Take {
    /// Count the whole table.
    all: bool,
    /// Keep the figures as a sample.
    keep: bool,
    /// What was known before.
    known: Figures,
}

/// That figures cannot be taken is no reason to stop anything else.
async fn take(
    store: String,
    session: Arc<Session>,
    in_force: Arc<InForce>,
    Take { all, keep, known }: Take,
) -> (Figures, Duration) {
    let (database, mapping) = (&session.database, &session.mapping);
    let _reading = session.database.reading().await;
    let begun = Instant::now();
    let judge = session.judge(&in_force);
    let told = |error| told(&store, &session, error);
    let live = database.within(observe::live(database, &judge)).await.map_err(told).ok();
    let governed = if in_force.policies.is_empty() {
        None
    } else {
        let counts = database.within(observe::governed(database, &judge)).await.map_err(told).ok();
        counts.map(|counts| Governed { in_force: in_force.clone(), counts: Arc::new(counts) })
    };
    let census = database.within(observe::census(database, mapping)).await.map_err(told).ok();
    let contradictions =
        if all { contradictions(&session).await.map_err(told).ok() } else { known.contradictions };
    let refused = match session.ledger {
        Ledger::Tables { store_id, .. } => {
            database.within(refusals::count(database, store_id)).await.map_err(told).ok().flatten()
        }
        Ledger::Missing(_) => None,
    };
    if let (true, Some(live), Ledger::Tables { store_id, .. }) = (keep, &live, &session.ledger) {
        let kept = database.within(samples::keep(database, *store_id, live, census)).await;
        if let Err(error) = kept {
            session.tally.failed(error.reason());
            tracing::info!(store, %error, "the figures of this minute could not be kept");
        }
    }
    (Figures { live, governed, census, contradictions, refused }, begun.elapsed())
}

/// What contradicts itself in the table, and with what was done before.
async fn contradictions(session: &Session) -> Result<Contradictions, DbError> {
    let database = &session.database;
    let mut found = database.within(observe::contradictions(database, &session.mapping)).await?;
    if let Ledger::Tables { store_id, .. } = session.ledger {
        found.started_again = database.within(again::count(database, store_id)).await?;
    }
    Ok(found)
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is that of map_err")]
fn told(store: &str, session: &Session, error: DbError) {
    session.tally.failed(error.reason());
    tracing::warn!(store, %error, "figures of the table could not be taken");
}
