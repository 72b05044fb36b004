//! What is in force for a store: what people wish, compiled, and in the database before anybody is told that it is.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use kube::ResourceExt as _;

use super::Context;
use super::session::Session;
use super::wishes::{Read, Wishes};
use crate::api::ExecutionStore;
use crate::db::history::{Figures, Question};
use crate::db::{DbError, Ledger, extend, promise, rules, stores};
use crate::rules::{
    Base, Compiled, Dynamic, Figure, Policy, Routes, Scope, Wish, compile, execution_source, policy_source,
    store_source,
};

/// What is in force for a store.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// The rules.
    pub compiled: Compiled,
    /// The policies that they come from.
    pub policies: Vec<Read>,
    /// Which of them say who is told of what.
    pub routes: Routes,
}

impl InForce {
    /// Has those told whom policies that cannot be read any more had told.
    fn keep_channels(&mut self, last: &Self, unreadable: &[String]) {
        let gone = |read: &&Read| unreadable.contains(&policy_source(&read.policy.name));
        let kept: Vec<Read> = last.policies.iter().filter(gone).cloned().collect();
        self.policies.extend(kept);
        let all: Vec<Policy> = self.policies.iter().map(|read| read.policy.clone()).collect();
        self.routes = Routes::of(&all);
    }

    /// Whether what an object says of the execution `key` is in force, or that of another object for the same one; where it
    /// says nothing, whether nothing is in force on its behalf.
    pub fn holds(&self, name: &str, key: &str, wish: Option<&Wish>) -> bool {
        let rules = &self.compiled.rules;
        let place =
            rules.binary_search_by(|rule| (rule.scope, rule.key.as_str()).cmp(&(Scope::Execution, key)));
        let rule = place.ok().and_then(|place| rules.get(place));
        let own = execution_source(name);
        let own = HashSet::from([own.as_str()]);
        match (rule, wish) {
            (None, wish) => wish.is_none(),
            (Some(rule), None) => !rule.is_from(&own),
            (Some(rule), Some(wish)) => {
                !rule.is_from(&own)
                    || (rule.timeout.as_ref().map(|t| t.value) == wish.timeout
                        && rule.extend_by.as_ref().map(|e| e.value) == wish.extend_by)
            }
        }
    }
}

/// What a session knows of it.
#[derive(Default)]
pub(super) struct Known {
    in_force: tokio::sync::Mutex<Option<Arc<InForce>>>,
    /// What history said, by the UID of the policy that asked.
    history: std::sync::Mutex<BTreeMap<String, Figures>>,
}

impl Known {
    pub(super) fn with_history(history: BTreeMap<String, Figures>) -> Self {
        Self { in_force: tokio::sync::Mutex::default(), history: std::sync::Mutex::new(history) }
    }
}

impl Session {
    /// Brings what is in force in line with what the objects wish, and returns it. `check`: hold it against the
    /// database also if the wishes are as before, since another operator may have changed it. While not all objects
    /// have been seen what was in force last stays; `None`: nothing is known yet, so nothing may be judged.
    pub async fn bring_in_force(
        &self,
        context: &Context,
        store: &ExecutionStore,
        check: bool,
    ) -> Result<Option<Arc<InForce>>, DbError> {
        if self.is_borrowed() {
            return self.borrow_in_force(context, store).await;
        }
        let namespace = store.namespace().unwrap_or_default();
        let mut known = self.known.in_force.lock().await;
        let Some(wishes) = context.wishes(&namespace, &store.name_any(), &self.mapping) else {
            return Ok(known.clone());
        };
        let incomplete = wishes.are_incomplete();
        if incomplete && known.is_none() && !matches!(self.ledger, Ledger::Tables { .. }) {
            // What they said before is recorded nowhere: a deadline that one of them moved would be missed.
            return Ok(None);
        }
        let before = match (known.as_ref(), &self.ledger) {
            // An operator that was started anew finds it in the database.
            (None, Ledger::Tables { store_id, .. }) if incomplete => {
                let source = store_source(&store.name_any());
                self.database.within(rules::load(&self.database, *store_id, &source)).await?
            }
            (known, _) => known.map(|known| known.compiled.clone()),
        };
        let unreadable = wishes.kept(before.as_ref());
        let mut wanted = self.compile(store, wishes, before.as_ref(), &unreadable);
        if let Some(known) = known.as_ref().filter(|_| !unreadable.is_empty()) {
            wanted.keep_channels(known, &unreadable);
        }
        if let Some(known) = known.as_ref().filter(|known| !check && ***known == wanted) {
            return Ok(Some(known.clone()));
        }
        if let Ledger::Tables { store_id, .. } = self.ledger {
            let mapping = stores::record(store);
            // Before the rules change, what they promise to extended executions is noted.
            let source = store_source(&store.name_any());
            let promised = promise::keep(&self.database, &self.mapping, store_id, &source);
            self.database.within(promised).await?;
            let replaced = rules::replace(&self.database, store_id, &wanted.compiled, &unreadable, &mapping);
            let (differed, fault) = self.database.within(replaced).await?;
            self.note_fault(fault);
            let pruned = extend::prune(&self.database, &self.mapping, store_id);
            if let Err(error) = self.database.within(pruned).await {
                // What is left over is about executions that have ended.
                tracing::debug!(%error, "extensions of executions that have ended were not dropped");
            }
            if differed && known.as_deref() == Some(&wanted) {
                tracing::info!(store = store.name_any(), "the rules in the database were put right");
            }
        }
        Ok(Some(known.insert(Arc::new(wanted)).clone()))
    }

    /// What another replica has put in force; where it cannot say so in the database, what the objects wish.
    async fn borrow_in_force(
        &self,
        context: &Context,
        store: &ExecutionStore,
    ) -> Result<Option<Arc<InForce>>, DbError> {
        if let Ledger::Tables { store_id, .. } = self.ledger {
            let source = store_source(&store.name_any());
            let loaded = self.database.within(rules::load(&self.database, store_id, &source)).await?;
            return Ok(loaded.map(|compiled| {
                Arc::new(InForce { compiled, policies: Vec::new(), routes: Routes::default() })
            }));
        }
        let namespace = store.namespace().unwrap_or_default();
        let wishes = context.wishes(&namespace, &store.name_any(), &self.mapping);
        let wishes = wishes.filter(|wishes| !wishes.are_incomplete());
        Ok(wishes.map(|wishes| Arc::new(self.compile(store, wishes, None, &[]))))
    }

    /// What is in force, if that is known.
    pub async fn in_force(&self) -> Option<Arc<InForce>> {
        self.known.in_force.lock().await.clone()
    }

    /// What history said, by the UID of the policy that asked.
    pub fn history(&self) -> MutexGuard<'_, BTreeMap<String, Figures>> {
        self.known.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(
        &self,
        store: &ExecutionStore,
        wishes: Wishes,
        last: Option<&Compiled>,
        kept: &[String],
    ) -> InForce {
        let history = self.history();
        let policies: Vec<_> = wishes
            .policies
            .iter()
            .map(|read| Policy {
                dynamic: read.question.as_ref().map(|question| {
                    history
                        .get(&read.uid)
                        .map_or(Dynamic::Pending, |figures| Dynamic::Known(figures_of(figures, question)))
                }),
                ..read.policy.clone()
            })
            .collect();
        let routes = Routes::of(&policies);
        let compiled = compile(Base::of(&store.name_any(), &store.spec), wishes.executions, policies);
        let compiled = match last {
            // What an object said before it could not be used any more stays in force.
            Some(last) if !kept.is_empty() => compiled.keeping(last, kept),
            _ => compiled,
        };
        InForce { compiled, policies: wishes.policies, routes }
    }
}

/// What is kept in the database may have been changed there: no timeout is shorter than the policy lets any be.
fn figures_of(figures: &Figures, question: &Question) -> Vec<Figure> {
    let floor = question.spec.floor.to_chrono();
    let figure = |computed: &crate::db::history::Computed| Figure {
        job: computed.job_id.clone(),
        type_: computed.job_type.clone(),
        timeout: computed.timeout().max(floor),
    };
    figures.computed.iter().map(figure).collect()
}
