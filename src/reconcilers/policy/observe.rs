//! The state of a policy in its store.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::status::{PolicyState, Standing};
use crate::api::ExecutionPolicy;
use crate::db::history::Figures;
use crate::rules::policy_source;
use crate::runtime::overrides::{Problem, ResolvedPolicy};
use crate::session::context::Context;

/// The interval at which the counts of a policy are refreshed.
const REFRESH: Duration = Duration::from_mins(1);

/// The pause while its store has no state for it yet.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Returns the state of the policy in its store, and when to reconcile it again. `None`: the store has not been
/// reconciled since the operator started, or not with the current version of this policy.
pub(super) async fn observe(context: &Context, object: &ExecutionPolicy) -> Option<(PolicyState, Duration)> {
    let namespace = object.namespace().unwrap_or_default();
    let name = &object.spec.store_ref.name;
    if context.stores().unseen_in(&namespace) {
        return None;
    }
    if context.store(&namespace, name).is_none() {
        return Some((PolicyState::StoreNotFound, REFRESH));
    }
    let store = ObjectRef::new(name).within(&namespace);
    let handle = context.known_handle(&store).filter(|handle| handle.is_reconciled())?;
    let Some(session) = handle.session() else { return Some((PolicyState::StoreNotReady, SOON)) };
    let effective_rules = session.effective_rules().await?;
    let uid = object.uid().unwrap_or_default();
    let read = effective_rules.policies.iter().find(|read| read.uid == uid);
    let Some(read) = read.filter(|read| Some(read.generation) == object.metadata.generation) else {
        context.enqueue_store(&namespace, name);
        return None;
    };
    let source = policy_source(&object.name_any());
    // Counts by other rules say nothing about this policy.
    let counted = handle.governed().filter(|governed| governed.effective_rules == effective_rules);
    let governed = counted.map(|governed| governed.counts.get(&source).copied().unwrap_or_default());
    let history = session.history().get(&uid).filter(|_| read.question.is_some()).cloned();
    let answered = |figures: &Figures| figures.generation == read.generation;
    let pending = read.question.is_some() && !history.as_ref().is_some_and(answered);
    let mut problems = read.problems.clone();
    problems.extend(mail(context, &namespace, name, read));
    let mut conflicts =
        effective_rules.compiled.conflicts.get(&read.policy.name).cloned().unwrap_or_default();
    conflicts.extend(effective_rules.routes.conflict(&read.policy.name).cloned());
    let standing = Standing {
        problems,
        conflicts,
        look_again: if governed.is_none() || pending { SOON } else { REFRESH },
        governed,
        pending,
        history,
    };
    let look_again = standing.look_again;
    Some((PolicyState::Standing(Box::new(standing)), look_again))
}

/// The problem that no e-mail can be sent, if that is so.
fn mail(context: &Context, namespace: &str, store: &str, read: &ResolvedPolicy) -> Option<Problem> {
    let mails = read.channels.iter().any(|channel| channel.email.is_some());
    let store = context.store(namespace, store).filter(|_| mails)?;
    let notifications = store.0.as_ref().ok()?.spec.notifications.as_ref();
    notifications.and_then(|notifications| notifications.smtp.as_ref()).is_none().then_some(Problem::Mail)
}
