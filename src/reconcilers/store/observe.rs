//! Stage 3, observe: gathers evidence if it is due, and reads the stale executions and the next deadline from the
//! database.

use std::sync::Arc;

use chrono::TimeDelta;
use kube::ResourceExt as _;

use super::schedule::horizon;
use super::state::StoreState;
use super::sync_rules::confirm_rules;
use crate::api::{ExecutionStore, SWEEP_REQUESTED};
use crate::db::observe::{self, DeadlineSnapshot};
use crate::db::{DbError, StalenessPredicate, again};
use crate::runtime::cluster::Cluster;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The outcome of the stage.
pub(super) struct Observed {
    /// The rules that executions were judged by.
    pub(super) rules: Arc<EffectiveRules>,
    /// True if evidence other than deadlines counts.
    pub(super) evidence: bool,
    pub(super) pulse: DeadlineSnapshot,
}

impl Observed {
    /// The predicate that executions were judged by.
    pub(super) fn predicate<'a>(&'a self, session: &'a Session) -> StalenessPredicate<'a> {
        session.predicate(&self.rules).with_evidence(self.evidence)
    }
}

/// Observes the store. `may_write`: stale executions may be ended.
pub(super) async fn observe(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    state: &mut StoreState,
    rules: Arc<EffectiveRules>,
    may_write: bool,
) -> Result<Observed, DbError> {
    let gathered = gather(cluster, store, session, state, &rules, may_write).await;
    let (evidence, pulse) = match pulse(store, session, &rules, gathered).await {
        // Evidence that cannot be evaluated is no reason to miss a deadline.
        Err(error) if gathered && error.answered() => {
            session.counters.failed(error.reason());
            state.evidence.fail(store, error.reason(), &error);
            (false, self::pulse(store, session, &rules, false).await?)
        }
        pulse => (gathered, pulse?),
    };
    let observed = Observed { rules, evidence, pulse };
    if !may_write || observed.pulse.stale == 0 {
        return Ok(observed);
    }
    // A failure to record this does not prevent an execution from being ended.
    if let Err(error) =
        session.database.within(again::note(&session.database, &observed.predicate(session))).await
    {
        session.counters.failed(error.reason());
        tracing::warn!(store = store.name_any(), %error, "executions that run again with the same start could not be noted");
    }
    let rules = confirm_rules(cluster, store, session, &observed.rules).await?;
    let pulse = self::pulse(store, session, &rules, evidence).await?;
    Ok(Observed { rules, evidence, pulse })
}

/// The stale executions and the next deadline, by these rules.
pub(super) async fn pulse(
    store: &ExecutionStore,
    session: &Session,
    rules: &EffectiveRules,
    evidence: bool,
) -> Result<DeadlineSnapshot, DbError> {
    let predicate = session.predicate(rules).with_evidence(evidence);
    let horizon = TimeDelta::from_std(horizon(store, rules)).unwrap_or(TimeDelta::MAX);
    session.database.within(observe::pulse(&session.database, &predicate, horizon)).await
}

/// Gathers evidence if it is due. Returns whether evidence counts.
async fn gather(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    state: &mut StoreState,
    rules: &EffectiveRules,
    may_write: bool,
) -> bool {
    let requested = store.annotations().get(SWEEP_REQUESTED) != state.answered.as_ref();
    let sweeps = may_write && (state.swept.is_none() || requested);
    let due = sweeps || state.evidence.is_due(store);
    due && state.evidence.gather(cluster, store, session, &session.predicate(rules)).await
}
