//! Brings the rules in effect for a store in line with its objects: compiled, and written to the database before anything
//! reports that they apply.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use kube::ResourceExt as _;

use crate::api::ExecutionStore;
use crate::db::history::{Figures, Question};
use crate::db::{DbError, Ledger, extend, promise, rules, stores};
use crate::rules::{
    ComputedTimeout, HistoryTimeout, Policy, Routes, RuleSet, StoreDefaults, compile, store_source,
};
use crate::runtime::cluster::Cluster;
use crate::runtime::overrides::DesiredState;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

impl Session {
    /// Brings the rules in effect in line with the objects, and returns them. `check`: also compares them with the
    /// database if the overrides are unchanged, since another operator may have changed it. While the caches have not
    /// synced, the last rules stay in effect; `None`: there are none yet, so nothing may be judged.
    pub async fn sync_rules(
        &self,
        cluster: &Cluster,
        store: &ExecutionStore,
        check: bool,
    ) -> Result<Option<Arc<EffectiveRules>>, DbError> {
        if self.is_follower() {
            return self.load_rules(cluster, store).await;
        }
        let namespace = store.namespace().unwrap_or_default();
        let mut known = self.known.effective_rules.lock().await;
        let Some(overrides) = cluster.overrides(&namespace, &store.name_any(), &self.mapping) else {
            return Ok(known.clone());
        };
        let incomplete = overrides.are_incomplete();
        if incomplete && known.is_none() && !matches!(self.ledger, Ledger::Tables { .. }) {
            // There is no record of their earlier overrides: a deadline that one of them moved would be missed.
            return Ok(None);
        }
        let before = match (known.as_ref(), &self.ledger) {
            // An operator that was restarted finds it in the database.
            (None, Ledger::Tables { store_id, .. }) if incomplete => {
                let source = store_source(&store.name_any());
                self.database.within(rules::load(&self.database, *store_id, &source)).await?
            }
            (known, _) => known.map(|known| known.compiled.clone()),
        };
        let unreadable = overrides.kept(before.as_ref());
        let mut wanted = self.compile(store, overrides, before.as_ref(), &unreadable);
        if let Some(known) = known.as_ref().filter(|_| !unreadable.is_empty()) {
            wanted.keep_channels(known, &unreadable);
        }
        if let Some(known) = known.as_ref().filter(|known| !check && ***known == wanted) {
            return Ok(Some(known.clone()));
        }
        if let Ledger::Tables { store_id, .. } = self.ledger {
            let mapping = stores::record(store);
            // Before the rules change, the deadlines that they promise to extended executions are recorded.
            let source = store_source(&store.name_any());
            let promised = promise::keep(&self.database, &self.mapping, store_id, &source);
            self.database.within(promised).await?;
            let replaced = rules::replace(&self.database, store_id, &wanted.compiled, &unreadable, &mapping);
            let (differed, fault) = self.database.within(replaced).await?;
            self.note_fault(fault);
            let pruned = extend::prune(&self.database, &self.mapping, store_id);
            if let Err(error) = self.database.within(pruned).await {
                // Leftover extensions belong to executions that have ended.
                tracing::debug!(%error, "extensions of executions that have ended were not dropped");
            }
            if differed && known.as_deref() == Some(&wanted) {
                tracing::info!(store = store.name_any(), "the rules in the database were put right");
            }
        }
        Ok(Some(known.insert(Arc::new(wanted)).clone()))
    }

    /// The rules that another replica has put into effect; if it has no tables for them, those that the objects ask for.
    async fn load_rules(
        &self,
        cluster: &Cluster,
        store: &ExecutionStore,
    ) -> Result<Option<Arc<EffectiveRules>>, DbError> {
        if let Ledger::Tables { store_id, .. } = self.ledger {
            let source = store_source(&store.name_any());
            let loaded = self.database.within(rules::load(&self.database, store_id, &source)).await?;
            return Ok(loaded.map(|compiled| {
                Arc::new(EffectiveRules { compiled, policies: Vec::new(), routes: Routes::default() })
            }));
        }
        let namespace = store.namespace().unwrap_or_default();
        let overrides = cluster.overrides(&namespace, &store.name_any(), &self.mapping);
        let overrides = overrides.filter(|overrides| !overrides.are_incomplete());
        Ok(overrides.map(|overrides| Arc::new(self.compile(store, overrides, None, &[]))))
    }

    /// The rules in effect, if they are known.
    pub async fn effective_rules(&self) -> Option<Arc<EffectiveRules>> {
        self.known.effective_rules.lock().await.clone()
    }

    /// The computed timeouts, by the UID of the policy.
    pub fn history(&self) -> MutexGuard<'_, BTreeMap<String, Figures>> {
        self.known.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(
        &self,
        store: &ExecutionStore,
        overrides: DesiredState,
        last: Option<&RuleSet>,
        kept: &[String],
    ) -> EffectiveRules {
        let history = self.history();
        let policies: Vec<_> = overrides
            .policies
            .iter()
            .map(|read| Policy {
                dynamic: read.question.as_ref().map(|question| {
                    history.get(&read.uid).map_or(HistoryTimeout::Pending, |figures| {
                        HistoryTimeout::Known(figures_of(figures, question))
                    })
                }),
                ..read.policy.clone()
            })
            .collect();
        let routes = Routes::of(&policies);
        let compiled =
            compile(StoreDefaults::of(&store.name_any(), &store.spec), overrides.executions, policies);
        let compiled = match last {
            // The overrides of an object that can no longer be used stay in effect.
            Some(last) if !kept.is_empty() => compiled.carry_over(last, kept),
            _ => compiled,
        };
        EffectiveRules { compiled, policies: overrides.policies, routes }
    }
}

/// The computed timeouts, each at least the floor of the policy: the values in the database may have been changed there.
fn figures_of(figures: &Figures, question: &Question) -> Vec<ComputedTimeout> {
    let floor = question.spec.floor.to_chrono();
    let figure = |computed: &crate::db::history::Computed| ComputedTimeout {
        job: computed.job_id.clone(),
        type_: computed.job_type.clone(),
        timeout: computed.timeout().max(floor),
    };
    figures.computed.iter().map(figure).collect()
}
