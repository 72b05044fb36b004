//! The functions that end executions, or give them more time.

use std::ops::ControlFlow;

use chrono::TimeDelta;
use jobexec_operator::api::OnStale;
use jobexec_operator::api::retry::OverBudget;
use jobexec_operator::db::cancel;
use jobexec_operator::db::cleanup;
use jobexec_operator::db::staleness::{RetryLimits, Suspicion};
use jobexec_operator::db::sweep::{self, Known, Sweep, Trigger};
use jobexec_operator::db::{
    Ledger, StalenessPredicate, again, extend, late, outbox, promise, retry, warnings,
};
use uuid::Uuid;

use super::Setting;
use crate::statements::recorder::Recorder;

pub(super) async fn of_ending(recorder: &mut Recorder, s: &Setting<'_>) {
    let (database, predicate, ledger) = (s.database, &s.predicate, &s.ledger);
    let m = predicate.mapping;
    recorder.of("outbox::announce", outbox::announce(database, s.store_id, true)).await;
    recorder.of("warnings::update", warnings::update(database, predicate, ledger)).await;
    recorder.of("again::note", again::note(database, predicate)).await;
    let pass = Sweep { id: Uuid::new_v4(), trigger: Trigger::Requested };
    let sweep = |ledger| {
        sweep::run(database, predicate, ledger, &pass, Known::default(), |_| ControlFlow::Continue(()))
    };
    recorder.of("sweep::run", sweep(ledger)).await;
    let missing = Ledger::Missing("not asked for".to_owned());
    recorder.of("sweep::run.unrecorded", sweep(&missing)).await;
    let known =
        Known { rows: vec![sweep::Refused { id: s.ids[0].clone(), why: "a trigger".into() }], again: true };
    recorder
        .of(
            "sweep::run.again",
            sweep::run(database, predicate, ledger, &pass, known, |_| ControlFlow::Continue(())),
        )
        .await;
    for dry_run in [true, false] {
        for (name, options) in clean_ups(s) {
            // The others list in the same way.
            if dry_run && name != "threshold" {
                continue;
            }
            let options = cleanup::Options { dry_run, ..options };
            let asked = cleanup::run(database, predicate, ledger, &options, |_| ControlFlow::Continue(()));
            recorder.of(&format!("cleanup::run.{name}{}", if dry_run { ".dry" } else { "" }), asked).await;
        }
    }
    let extension = extend::Request {
        id: s.ids[1].clone(),
        by: TimeDelta::hours(1),
        who: "CLI".into(),
        actor: "somebody".into(),
    };
    let effective_rules = Some(predicate.effective_rules);
    recorder.of("extend::extend", extend::extend(database, m, effective_rules, s.store_id, &extension)).await;
    recorder.of("promise::keep", promise::keep(database, m, s.store_id, "ExecutionStore/jobs")).await;
    recorder.of("extend::prune", extend::prune(database, m, s.store_id)).await;
    if s.cancels {
        let request = cancel::Request {
            key: s.ids[1].clone(),
            source: "JobExecution/two".into(),
            actor: None,
            started: None,
        };
        recorder.of("cancel::cancel", cancel::cancel(database, m, ledger, &[request])).await;
    }
    recorder.of("again::update", again::update(database, predicate)).await;
    recorder.of("again::count", again::count(database, s.store_id)).await;
    recorder.of("late::step", late::step(database, m, ledger, None)).await;
}

/// The same with retries, if the mapping has any.
pub(super) async fn of_retries(recorder: &mut Recorder, s: &Setting<'_>) {
    if s.predicate.mapping.retry_method().is_none() {
        return;
    }
    let mut rules = s.predicate.effective_rules.clone();
    rules.base.on_stale.value = OnStale::Retry;
    let retries = RetryLimits { budget: Some(10), over_budget: OverBudget::Fail, ..RetryLimits::NONE };
    let predicate = StalenessPredicate { effective_rules: &rules, retries, ..s.predicate };
    let pass = Sweep { id: Uuid::new_v4(), trigger: Trigger::Requested };
    let swept =
        sweep::run(s.database, &predicate, &s.ledger, &pass, Known::default(), |_| ControlFlow::Continue(()));
    recorder.of("sweep::run.retries", swept).await;
    s.others(
        "INSERT INTO jobexec.retries (store_id, execution_id, attempt, reason, source, due_at, waits, forced, tries)
         SELECT store_id, '1', 7, 'HeartbeatLost', '', now(), false, false, 0 FROM jobexec.stores",
    )
    .await;
    recorder.of("retry::start", retry::start(s.database, &predicate, &s.ledger)).await;
    recorder.of("retry::pending", retry::pending(s.database, s.store_id)).await;
    let named = retry::Request {
        which: retry::Which::Ids(vec![s.ids[0].clone()]),
        now: true,
        over: TimeDelta::zero(),
        dry_run: false,
        source: "CLI",
        actor: Some("somebody".into()),
    };
    let failed_for = retry::Which::FailedFor {
        reason: "HeartbeatLost".into(),
        since: TimeDelta::hours(2),
        job_type: Some("mail".into()),
    };
    let planned = retry::Request { which: failed_for, dry_run: true, ..named.clone() };
    for (name, request) in [("retry::request", named), ("retry::request.dry", planned)] {
        recorder.of(name, retry::request(s.database, &predicate, &s.ledger, &request)).await;
    }
    recorder.of("retry::latest", retry::latest(s.database, &predicate, &s.ids[0])).await;
}

/// The requests for a clean-up.
fn clean_ups(s: &Setting<'_>) -> Vec<(&'static str, cleanup::Options)> {
    let usual = cleanup::Options {
        older_than: None,
        ids: Vec::new(),
        include_governed: false,
        suspicion: None,
        dry_run: true,
        source: "CLI",
        actor: Some("somebody".into()),
    };
    let mut all = vec![
        ("ids", cleanup::Options { ids: vec![s.ids[6].clone(), s.ids[2].clone()], ..usual.clone() }),
        ("threshold", cleanup::Options { older_than: Some(TimeDelta::hours(100)), ..usual.clone() }),
        ("policies", usual.clone()),
    ];
    for suspicion in [Suspicion::JobFinished, Suspicion::WorkloadRecreated] {
        if s.predicate.suspects(suspicion).is_ok() {
            all.push((suspicion.as_str(), cleanup::Options { suspicion: Some(suspicion), ..usual.clone() }));
        }
    }
    all
}
