//! The functions that observe executions, list them, explain them, and learn from their history.

use chrono::TimeDelta;
use jobexec_operator::api::ExecutionStore;
use jobexec_operator::db::running::{self, Which};
use jobexec_operator::db::staleness::{Rules, evidence};
use jobexec_operator::db::workloads::{self, State, Workload, Workloads};
use jobexec_operator::db::{
    StalenessPredicate, execution, explain, health, heartbeats, held, history, list, observations, observe,
    samples, stats,
};
use serde_json::json;

use super::Setting;
use crate::statements::recorder::Recorder;

pub(super) async fn of_evidence(recorder: &mut Recorder, s: &Setting<'_>, store: &ExecutionStore) {
    let (database, predicate) = (s.database, &s.predicate);
    recorder
        .of(
            "observations::update_running_without_start",
            observations::update_running_without_start(database, predicate),
        )
        .await;
    recorder.of("observations::update_paused", observations::update_paused(database, predicate)).await;
    recorder.of("evidence::observe", evidence::observe(database, predicate)).await;
    if let Some(spec) = &store.spec.workloads {
        let seen = vec![Workload { name: "Job/nightly".into(), uid: "u".into(), state: State::Alive }];
        let workloads = Workloads { seen, ..Workloads::default() };
        recorder
            .of("workloads::update", workloads::update(database, predicate, Some(&workloads), spec.recreated))
            .await;
        recorder
            .of("workloads::update.unseen", workloads::update(database, predicate, None, spec.recreated))
            .await;
    }
    let mut watch = heartbeats::Watch::default();
    let every = TimeDelta::seconds(15);
    recorder.of("heartbeats::update", heartbeats::update(database, predicate, &mut watch, every)).await;
}

pub(super) async fn of_looking(recorder: &mut Recorder, s: &Setting<'_>) {
    let (database, predicate, ids) = (s.database, &s.predicate, &s.ids);
    let m = predicate.mapping;
    let horizon = TimeDelta::hours(1);
    recorder.of("observe::pulse", observe::pulse(database, predicate, horizon)).await;
    let deadlines = predicate.with_evidence(false);
    recorder.of("observe::pulse.deadlines", observe::pulse(database, &deadlines, horizon)).await;
    let memory = StalenessPredicate { rules: Rules::Memory, ..s.predicate };
    recorder.of("observe::pulse.memory", observe::pulse(database, &memory, horizon)).await;
    let live = recorder.of("observe::live", observe::live(database, predicate)).await;
    recorder.of("observe::running", observe::running(database, m)).await;
    recorder.of("observe::governed", observe::governed(database, predicate)).await;
    let census = recorder.of("observe::census", observe::census(database, m)).await;
    recorder.of("observe::contradictions", observe::contradictions(database, m)).await;
    recorder.of("health::check", health::check(database, predicate, 3)).await;
    recorder.of("samples::keep", samples::keep(database, s.store_id, &live, Some(census))).await;
    recorder.of("list::stale", list::stale(database, predicate, 10)).await;
    for which in [Which::Running, Which::Overdue, Which::Stale, Which::All] {
        let filter = running::Filter { which, ..running::Filter::default() };
        let page = recorder
            .of(&format!("running::page.{which:?}"), running::page(database, predicate, &filter, None, 1))
            .await;
        if matches!(which, Which::Running | Which::Overdue) {
            continue;
        }
        let filter = running::Filter { which, older_than: Some(TimeDelta::zero()), job_id: Some("1".into()) };
        let name = format!("running::page.{which:?}.next");
        recorder.of(&name, running::page(database, predicate, &filter, page.next.as_ref(), 1)).await;
    }
    recorder.of("running::look", running::look(database, predicate, ids.clone())).await;
    let window = Some(execution::Window { limit: 10, finished: TimeDelta::hours(1) });
    recorder.of("execution::read", execution::read(database, predicate, &s.ledger, ids, window)).await;
    recorder.of("execution::read.named", execution::read(database, predicate, &s.ledger, ids, None)).await;
    recorder.of("explain::explain", explain::explain(database, predicate, &ids[0])).await;
    recorder.of("explain::outside", explain::outside(database, predicate, &ids[0])).await;
    recorder.of("explain::records", explain::records(database, predicate, &ids[0])).await;
    recorder.of("held::update", held::update(database, predicate, Vec::new())).await;
    recorder.of("held::known", held::known(database, s.store_id)).await;
    recorder.of("held::forget", held::forget(database, s.store_id)).await;
}

pub(super) async fn of_history(recorder: &mut Recorder, s: &Setting<'_>) {
    let (database, m) = (s.database, s.predicate.mapping);
    let question = |per: &str, types: Vec<String>| history::Question {
        uid: "policy".into(),
        name: "nightly".into(),
        generation: 1,
        jobs: if per == "Job" { vec!["2".into()] } else { Vec::new() },
        all: per != "Job" && types.is_empty(),
        types,
        spec: serde_json::from_value(json!({"per": per, "minSamples": 1})).unwrap(),
    };
    let by_job = question("Job", Vec::new());
    let figures = recorder.of("history::ask", history::ask(database, m, &by_job)).await;
    if m.knows_types() {
        let by_type = question("JobType", vec!["report".into()]);
        recorder.of("history::ask.types", history::ask(database, m, &by_type)).await;
    }
    recorder.of("history::keep", history::keep(database, &s.ledger, &by_job, &figures)).await;
    recorder.of("history::load", history::load(database, &s.ledger)).await;
    recorder.of("history::forget", history::forget(database, &s.ledger, &["policy".into()])).await;
    let types = if m.knows_types() { vec!["report".to_owned()] } else { Vec::new() };
    let question = stats::Question { since: TimeDelta::days(1), types, limit: 10 };
    recorder.of("stats::ask", stats::ask(database, m, &s.ledger, &question)).await;
}
