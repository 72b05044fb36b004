//! The counts of a table that only people need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::db::observe::{self, Census, Contradictions, Live};
use crate::db::{DbError, Ledger, again, refusals, samples};
use crate::session::handle::Governed;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The counts last taken; `None`: not yet, or they could not be taken.
#[derive(Clone, Debug, Default)]
pub struct HealthCounts {
    pub(crate) live: Option<Live>,
    /// How many running executions each object says something of that counts.
    pub(crate) governed: Option<Governed>,
    pub(crate) census: Option<Census>,
    pub(crate) contradictions: Option<Contradictions>,
    /// How many status changes the transition trigger refused, where it is installed.
    pub(crate) refused: Option<i64>,
}

impl HealthCounts {
    /// Those of this moment, which nobody keeps; what could not be taken is not there.
    pub(crate) async fn now(
        store: &ExecutionStore,
        session: &Arc<Session>,
        effective_rules: &Arc<EffectiveRules>,
    ) -> Self {
        let what = Take { all: false, keep: false, known: Self::default() };
        take(store.name_any(), session.clone(), effective_rules.clone(), what).await.0
    }

    /// Whether the running executions were counted.
    pub(crate) fn are_taken(&self) -> bool {
        self.live.is_some()
    }
}

/// What to do beside counting what runs.
pub(crate) struct Take {
    /// Count the whole table.
    pub(crate) all: bool,
    /// Keep the counts as a sample.
    pub(crate) keep: bool,
    /// What was known before.
    pub(crate) known: HealthCounts,
}

/// That counts cannot be taken is no reason to stop anything else.
pub(crate) async fn take(
    store: String,
    session: Arc<Session>,
    effective_rules: Arc<EffectiveRules>,
    Take { all, keep, known }: Take,
) -> (HealthCounts, Duration) {
    let (database, mapping) = (&session.database, &session.mapping);
    let _reading = session.database.reading().await;
    let begun = Instant::now();
    let judge = session.judge(&effective_rules);
    let told = |error| told(&store, &session, error);
    let live = database.within(observe::live(database, &judge)).await.map_err(told).ok();
    let governed = if effective_rules.policies.is_empty() {
        None
    } else {
        let counts = database.within(observe::governed(database, &judge)).await.map_err(told).ok();
        counts.map(|counts| Governed { effective_rules: effective_rules.clone(), counts: Arc::new(counts) })
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
            tracing::info!(store, %error, "the counts of this minute could not be kept");
        }
    }
    (HealthCounts { live, governed, census, contradictions, refused }, begun.elapsed())
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
    tracing::warn!(store, %error, "counts of the table could not be taken");
}
