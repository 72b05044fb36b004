//! The counts of a table that enforcement does not need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::db::observe::{self, IntegrityViolations, RunningCounts, TableCounts};
use crate::db::{DbError, Ledger, again, refusals, samples};
use crate::session::handle::Governed;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The counts last taken; `None`: not yet, or they could not be taken.
#[derive(Clone, Debug, Default)]
pub struct HealthCounts {
    pub(crate) live: Option<RunningCounts>,
    /// The number of running executions that each object governs.
    pub(crate) governed: Option<Governed>,
    pub(crate) census: Option<TableCounts>,
    pub(crate) contradictions: Option<IntegrityViolations>,
    /// The number of status changes that the transition trigger refused, if it is installed.
    pub(crate) refused: Option<i64>,
}

impl HealthCounts {
    /// Takes the counts without storing them. Counts that fail are `None`.
    pub(crate) async fn now(
        store: &ExecutionStore,
        session: &Arc<Session>,
        effective_rules: &Arc<EffectiveRules>,
    ) -> Self {
        let what = Selection { all: false, keep: false, known: Self::default() };
        take(store.name_any(), session.clone(), effective_rules.clone(), what).await.0
    }

    /// Reports whether the running executions were counted.
    pub(crate) fn are_taken(&self) -> bool {
        self.live.is_some()
    }
}

/// The work to do in addition to counting running executions.
pub(crate) struct Selection {
    /// Count the whole table.
    pub(crate) all: bool,
    /// Store the counts as a sample.
    pub(crate) keep: bool,
    /// The counts last taken.
    pub(crate) known: HealthCounts,
}

/// Takes the counts. A failure stops nothing else.
pub(crate) async fn take(
    store: String,
    session: Arc<Session>,
    effective_rules: Arc<EffectiveRules>,
    Selection { all, keep, known }: Selection,
) -> (HealthCounts, Duration) {
    let (database, mapping) = (&session.database, &session.mapping);
    let _reading = session.database.reading().await;
    let begun = Instant::now();
    let predicate = session.predicate(&effective_rules);
    let told = |error| told(&store, &session, error);
    let live = database.within(observe::live(database, &predicate)).await.map_err(told).ok();
    let governed = if effective_rules.policies.is_empty() {
        None
    } else {
        let counts = database.within(observe::governed(database, &predicate)).await.map_err(told).ok();
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
            session.counters.failed(error.reason());
            tracing::info!(store, %error, "the counts of this minute could not be kept");
        }
    }
    (HealthCounts { live, governed, census, contradictions, refused }, begun.elapsed())
}

/// The rows that contradict themselves, or contradict earlier records.
async fn contradictions(session: &Session) -> Result<IntegrityViolations, DbError> {
    let database = &session.database;
    let mut found = database.within(observe::contradictions(database, &session.mapping)).await?;
    if let Ledger::Tables { store_id, .. } = session.ledger {
        found.started_again = database.within(again::count(database, store_id)).await?;
    }
    Ok(found)
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is that of map_err")]
fn told(store: &str, session: &Session, error: DbError) {
    session.counters.failed(error.reason());
    tracing::warn!(store, %error, "counts of the table could not be taken");
}
