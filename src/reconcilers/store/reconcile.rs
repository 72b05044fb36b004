//! One reconcile of a store, with a file for each stage: connect → sync rules → observe → decide → apply → publish. It
//! writes nothing to Kubernetes itself: the publisher writes the status independently.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::adoption;
use super::apply::{Applied, apply, log_sweep};
use super::connect::connect;
use super::counts_collector::ChangeKind;
use super::decide::{Decision, decide};
use super::observe::{Observed, observe};
use super::reconciled::{Answered, Complete, Progress, Reconciled};
use super::retries;
use super::schedule::{RETRY, requeue_after};
use super::state::StoreState;
use super::sync_rules::sync_rules;
use crate::api::{ExecutionStore, Mode};
use crate::db::DbError;
use crate::db::retry::Pending;
use crate::db::sweep::Trigger;
use crate::session::context::Context;
use crate::session::handle::StoreHandle;
use crate::session::not_ready::NotReady;
use crate::session::session::Session;

/// Reconciles the store.
pub(super) async fn reconcile(
    context: &Context,
    store: &ExecutionStore,
    handle: &StoreHandle,
    state: &mut StoreState,
) -> Reconciled {
    let connected = match connect(context, store, handle, state).await {
        Ok(connected) => connected,
        Err(why) => return not_ready(store, handle, state, why),
    };
    let session = connected.session.clone();
    let notified = handle.take_change();
    let requested = handle.take_counts_request();
    let change = if notified || requested { ChangeKind::Changed } else { ChangeKind::None };
    let outcome = pipeline(context, store, &session, state, change).await;
    handle.mark_reconciled();
    let (progress, requeue_after) = match outcome {
        Ok((progress, requeue_after)) => {
            state.failure = None;
            (progress, requeue_after)
        }
        Err(error) => {
            let pause = failed(store, handle, state, &error);
            (Progress::Failed(error), pause)
        }
    };
    Reconciled {
        session: Ok(connected),
        progress,
        answered: answered(store, state),
        unavailable: state.evidence.unavailable.clone(),
        notified,
        sync_status: handle.sync_status(),
        closed: state.batcher.take_closed(Instant::now()),
        requeue_after,
    }
}

/// Runs the stages that need the session. Returns how far they came, and when to reconcile again.
async fn pipeline(
    context: &Context,
    store: &ExecutionStore,
    session: &Arc<Session>,
    state: &mut StoreState,
    mut change: ChangeKind,
) -> Result<(Progress, Duration), DbError> {
    let Some(rules) = sync_rules(context, store, session, state).await? else {
        return Ok((Progress::CacheNotSynced, RETRY));
    };
    session.check_fault().await?;
    state.notifier.announce(store, session, &rules).await;
    let may_write = store.spec.mode == Mode::Enforce && session.unwritable.is_none() && !session.read_only;
    let observed = observe(context, store, session, state, rules, may_write).await?;
    let (rules_changed, deadlines_changed) = note(state, &observed);
    let decision = decide(store, session, state, &observed, may_write).await?;
    let Applied { pulse, sweep, refused } =
        apply(context, store, session, state, &observed, &decision, may_write).await?;
    let closed = !matches!(decision, Decision::BreakerOpen(_));
    let retries = retries::start(store, session, &observed, may_write && closed).await?;
    change = change.max(match &sweep {
        Some(swept) if swept.sweep.trigger == Trigger::Requested => ChangeKind::Requested,
        Some(swept) if swept.ended > 0 => ChangeKind::Changed,
        _ if rules_changed => ChangeKind::Changed,
        _ => ChangeKind::None,
    });
    let enqueue = context.queue.enqueuer(store);
    let counts = state.session.counter.counts(store, session, &observed.rules, change, enqueue).await;
    let last_hour = counts.census.map(|census| census.last_hour);
    session.retry_budget.update(&store.spec.retry, last_hour);
    if let Some(swept) = &sweep {
        log_sweep(store, swept, &pulse, &counts);
    }
    // Another try at rows that are still held is not reported.
    let sweep = sweep.filter(|swept| !state.note_stuck(swept, &pulse));
    let open = match decision {
        Decision::BreakerOpen(why) => Some(why),
        Decision::Sweep(_) | Decision::Wait => None,
    };
    state.notifier.recover(store, session, counts.live.as_ref(), open.is_some()).await;
    let notifying = state.notifier.report(store, session, &observed.rules);
    let requeue_after = requeue_after(store, state, &observed.rules, &pulse, may_write && open.is_none())
        .min(retries.as_ref().and_then(Pending::due_in).unwrap_or(Duration::MAX));
    let held = state.passed_over.clone().unwrap_or_default();
    let complete = Complete {
        pulse,
        counts,
        open,
        rules_changed,
        deadlines_changed,
        sweep,
        refused,
        held,
        retries,
        notifying,
    };
    Ok((Progress::Complete(Box::new(complete)), requeue_after))
}

/// Stores the observation for the next reconcile. Returns whether the rules changed, and whether that may have moved
/// deadlines of executions without a rule of their own.
fn note(state: &mut StoreState, observed: &Observed) -> (bool, bool) {
    state.now = Some(observed.pulse.now);
    let last = state.session.effective_rules.replace(observed.rules.clone());
    let rules_changed = last.as_ref() != Some(&observed.rules);
    let moved = last.is_some_and(|last| !last.compiled.same_policies(&observed.rules.compiled));
    (rules_changed, moved)
}

/// Handles the failure to get a session.
fn not_ready(
    store: &ExecutionStore,
    handle: &StoreHandle,
    state: &mut StoreState,
    why: NotReady,
) -> Reconciled {
    if let NotReady::Database(error) = &why {
        handle.counters.failed(error.reason());
    }
    handle.mark_reconciled();
    // An attempt that got no connection from the pool has learnt nothing about the database.
    if !why.is_busy() {
        handle.drop_session(why.of_connection(), state.notifier.leave());
    }
    let pause = state.pause_after(why.reason());
    tracing::warn!(store = %store.name_any(), reason = why.reason(), error = %why, "the store is not ready");
    Reconciled {
        requeue_after: pause,
        ..Reconciled::not_ready(why, handle.sync_status(), answered(store, state))
    }
}

/// Handles the failure of a stage. Returns the pause before the next reconcile.
fn failed(store: &ExecutionStore, handle: &StoreHandle, state: &mut StoreState, error: &DbError) -> Duration {
    tracing::warn!(store = %store.name_any(), reason = error.reason(), %error, "a reconcile of the store failed");
    handle.counters.failed(error.reason());
    // An attempt that got no connection from the pool has learnt nothing about the database.
    if !matches!(error, DbError::Busy(_)) {
        handle.drop_session(error.of_connection(), state.notifier.leave());
    }
    state.outage |= !error.answered();
    state.pause_after(error.reason())
}

/// The annotations that were last answered.
fn answered(store: &ExecutionStore, state: &StoreState) -> Answered {
    Answered {
        sweep: state.answered.clone(),
        resume: state.breaker.resumed(),
        adopt: state.adopted.clone(),
        unadopted: adoption::told(store, state),
    }
}
