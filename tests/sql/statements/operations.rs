//! Every function of `src/db` that sends statements, called once for each form of its statement.

use std::ops::ControlFlow;

use chrono::{DateTime, TimeDelta, Utc};
use jobexec_operator::api::{ExecutionStore, Limit, OnStale};
use jobexec_operator::db::adopt::{self, How};
use jobexec_operator::db::audit::{self, Filter};
use jobexec_operator::db::cancel;
use jobexec_operator::db::cleanup;
use jobexec_operator::db::extras::{Extra, Retries};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::running::{self, Which};
use jobexec_operator::db::staleness::evidence;
use jobexec_operator::db::staleness::{Rules, Suspicion};
use jobexec_operator::db::sweep::{self, Known, Sweep, Trigger};
use jobexec_operator::db::workloads::{self, State, Workload, Workloads};
use jobexec_operator::db::{
    Database, Layout, Ledger, StalenessPredicate, again, execution, explain, extend, health, heartbeats,
    held, history, late, list, messages, observations, observe, outbox, own, promise, refusals, retention,
    rules, samples, schema, stats, stores, validate, warnings,
};
use jobexec_operator::notify::digest::OutgoingMessage;
use jobexec_operator::notify::message::Message;
use jobexec_operator::rules::{ExecutionOverride, Policy, RuleSet, StoreDefaults, Warn, compile};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::recorder::Recorder;

/// Functions that other operations call, and the repair of broken tables.
pub(super) const LEFT_OUT: [&str; 2] = ["observations::update", "own::mend"];

/// The parameters of most operations.
struct Setting<'a> {
    database: &'a Database,
    /// For statements of others than the operator.
    pool: &'a PgPool,
    predicate: StalenessPredicate<'a>,
    ledger: Ledger,
    store_id: i64,
    /// The ids of the rows.
    ids: Vec<String>,
    cancels: bool,
}

impl Setting<'_> {
    async fn others(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(self.pool).await.unwrap();
    }
}

pub(super) async fn run(recorder: &mut Recorder, database: &Database, pool: &PgPool, store: &ExecutionStore) {
    let layout = Layout::of(&store.spec);
    sqlx::raw_sql("DO $$ BEGIN CREATE ROLE worker; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        .execute(pool)
        .await
        .unwrap();
    recorder.of("schema::apply", schema::apply(database, &layout, Some("worker"), &[])).await;
    for extra in [Extra::Check, Extra::Transitions, Extra::Notify] {
        for retries in [Retries::Unknown, Retries::Seen] {
            let statements = extra.statements(&layout.table, Some("worker"), retries);
            if retries == Retries::Unknown || extra == Extra::Transitions {
                recorder.keep(&format!("extras::{extra:?}.{retries:?}"), &statements);
            }
        }
    }
    recorder.of("schema::ensure", schema::ensure(database, None)).await;
    recorder.of("schema::lacking", schema::lacking(database, None)).await;
    recorder.of("schema::refused", schema::refused(database, None)).await;
    let validated = recorder.of("validate::validate", validate::validate(database, &layout)).await.unwrap();
    let mapping = &validated.mapping;
    let claimant =
        StoreIdentity { uid: "uid".into(), predecessor: None, namespace: "n".into(), name: "jobs".into() };
    let claim = recorder.of("ledger::claim", ledger::claim(database, mapping, &claimant, false)).await;
    let Claim::Held { ledger, confirmed, .. } = claim else { panic!("{claim:?}") };
    let Ledger::Tables { store_id, .. } = ledger else { panic!("{ledger:?}") };
    recorder.of("ledger::claim.again", ledger::claim(database, mapping, &claimant, true)).await;
    recorder.of("ledger::enlist", ledger::register(database, mapping)).await;
    recorder.of("ledger::look_up", ledger::look_up(database, mapping)).await;
    recorder.of("ledger::now", ledger::now(database)).await;
    recorder.of("stores::all", stores::all(database)).await;

    let rules = compiled(store);
    let spec = &store.spec;
    let predicate = StalenessPredicate {
        single_active_execution: spec
            .single_active_execution
            .as_ref()
            .map(|single_active_execution| single_active_execution.grace_period.to_chrono()),
        workloads: spec.workloads.as_ref().map(|workloads| workloads.grace_period.to_chrono()),
        ..StalenessPredicate::new(mapping, &rules, Rules::Table(store_id), DateTime::UNIX_EPOCH)
    };
    let id = |n: u8| {
        if spec.table.columns.id.0 == "run" { Uuid::from_u128(n.into()).to_string() } else { n.to_string() }
    };
    let ids = (1..=7).map(id).collect();
    let cancels = !spec.table.statuses.cancelled.is_empty();
    let setting = Setting { database, pool, predicate, ledger, store_id, ids, cancels };
    of_rules(recorder, &setting, store).await;
    of_evidence(recorder, &setting, store).await;
    of_looking(recorder, &setting).await;
    of_history(recorder, &setting).await;
    of_ending(recorder, &setting).await;
    of_messages(recorder, &setting).await;
    of_records(recorder, &setting).await;
    recorder.of("ledger::release", ledger::release(database, store_id, "uid", confirmed)).await;
}

/// The rules: none for the default, one of each kind if everything is mapped.
fn compiled(store: &ExecutionStore) -> RuleSet {
    let base = StoreDefaults::of("jobs", &store.spec);
    let table = &store.spec.table;
    if table.name.0 == "job_executions" {
        return compile(base, Vec::new(), Vec::new());
    }
    let key = if table.columns.id.0 == "run" { Uuid::from_u128(7).to_string() } else { "7".to_owned() };
    let wish = ExecutionOverride {
        name: "seven".into(),
        created: 1,
        key,
        timeout: Some(Limit::After(TimeDelta::hours(9))),
        extend_by: Some(TimeDelta::hours(1)),
        by: None,
    };
    let by_job = Policy {
        name: "by-job".into(),
        created: 1,
        jobs: vec!["3".into()],
        timeout: Some(Limit::After(TimeDelta::hours(5))),
        on_stale: Some(OnStale::AlertOnly),
        warn: Some(Warn::Percent(50)),
        ..Policy::default()
    };
    let mut policies = vec![by_job];
    if table.columns.job_type.is_some() {
        policies.push(Policy {
            name: "by-type".into(),
            created: 1,
            types: vec!["report".into()],
            grace: Some(TimeDelta::hours(1)),
            heartbeat: Some(Limit::After(TimeDelta::hours(2))),
            ..Policy::default()
        });
    }
    compile(base, vec![wish], policies)
}

async fn of_rules(recorder: &mut Recorder, s: &Setting<'_>, store: &ExecutionStore) {
    let (database, id, rules) = (s.database, s.store_id, s.predicate.effective_rules);
    let mapping = stores::record(store);
    recorder.of("rules::replace", rules::replace(database, id, rules, &[], &mapping)).await;
    recorder.of("rules::replace.same", rules::replace(database, id, rules, &["2".into()], &mapping)).await;
    recorder.of("rules::load", rules::load(database, id, "ExecutionStore/jobs")).await;
    recorder.of("rules::stored", rules::stored(database, id, "ExecutionStore/jobs")).await;
}

async fn of_evidence(recorder: &mut Recorder, s: &Setting<'_>, store: &ExecutionStore) {
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

async fn of_looking(recorder: &mut Recorder, s: &Setting<'_>) {
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

async fn of_history(recorder: &mut Recorder, s: &Setting<'_>) {
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

async fn of_ending(recorder: &mut Recorder, s: &Setting<'_>) {
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

async fn of_messages(recorder: &mut Recorder, s: &Setting<'_>) {
    let (database, m, id) = (s.database, s.predicate.mapping, s.store_id);
    let channel = vec!["ops".to_owned()];
    let letters = |recipients: &[&str], at: DateTime<Utc>| -> Vec<OutgoingMessage> {
        let message =
            |recipient: &&str| OutgoingMessage { recipient: (*recipient).to_owned(), message: message(at) };
        recipients.iter().map(message).collect()
    };
    let write = |_: &outbox::Posted, at| letters(&["a@example.org", "b@example.org"], at);
    let written = recorder.of("outbox::digest", outbox::digest(database, m, id, write)).await;
    assert_eq!(written, 2, "nothing was posted");
    recorder.of("messages::pending", messages::pending(database, id, &[])).await;
    let taken = recorder.of("messages::take", messages::take(database, id, &[])).await;
    let [first, second] = &taken[..] else { panic!("{taken:?}") };
    recorder
        .of("messages::failed", messages::failed(database, first.id, "no", std::time::Duration::from_secs(1)))
        .await;
    let pause = |_| std::time::Duration::from_secs(1);
    recorder.of("messages::refused", messages::refused(database, id, second, "no", pause)).await;
    if m.owner() != "NULL::text" {
        let ids: Vec<&str> = s.ids.iter().map(String::as_str).collect();
        recorder.of("messages::is_owner", messages::is_owner(database, m, &ids, "owner@example.org")).await;
    }
    recorder.of("messages::hasten", messages::hasten(database, id, &channel)).await;
    recorder
        .of("messages::give_up_old", messages::give_up_old(database, id, TimeDelta::days(1), &channel))
        .await;
    recorder.of("messages::delivered", messages::delivered(database, first.id)).await;
    recorder.of("messages::give_up", messages::give_up(database, second.id, "no")).await;
    recorder.of("messages::expire", messages::expire(database, id)).await;
    recorder.of("messages::forget", messages::forget(database, id, TimeDelta::days(1))).await;
    for (name, how) in [("take_over", How::TakeOver), ("discard", How::Discard)] {
        recorder.of(&format!("adopt::adopt.{name}"), adopt::adopt(database, m, None, how)).await;
        // The record of a table with this name that is gone.
        s.others(
            "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) \
             SELECT 1, 1, table_schema, table_name FROM jobexec.stores WHERE registry = 'jobexec.stores'::regclass",
        )
        .await;
        recorder.of(&format!("adopt::adopt.{name}.left"), adopt::adopt(database, m, None, how)).await;
    }
    recorder.of("outbox::recover", outbox::recover(database, id, Utc::now())).await;
}

fn message(at: DateTime<Utc>) -> Message {
    Message {
        id: Uuid::new_v4(),
        at,
        namespace: "n".into(),
        store: "jobs".into(),
        channel: "ops".into(),
        owner: None,
        counts: Vec::new(),
        executions: Vec::new(),
        omitted: 0,
        notes: Vec::new(),
    }
}

async fn of_records(recorder: &mut Recorder, s: &Setting<'_>) {
    let (database, m, id) = (s.database, s.predicate.mapping, s.store_id);
    recorder.of("own::probe", own::probe(database, &s.ledger)).await;
    recorder.of("ledger::pause", ledger::breaker::pause(database, id, true, Some("too many"))).await;
    recorder.of("ledger::paused", ledger::breaker::paused(database, id)).await;
    let sweeps =
        recorder.of("ledger::unannounced", ledger::announcements::unannounced(database, id, &[], 3)).await;
    let sweep = sweeps.first().map_or_else(Uuid::new_v4, |sweep| sweep.id);
    recorder.of("ledger::announced", ledger::announcements::announced(database, sweep)).await;
    let filter = Filter { execution_id: Some(s.ids[0].clone()), ..Filter::default() };
    recorder.of("audit::history", audit::history(database, id, &filter, 10)).await;
    let (day, hour) = (TimeDelta::days(1), TimeDelta::hours(1));
    recorder.of("samples::since", samples::since(database, id, day, hour)).await;
    recorder.of("refusals::count", refusals::count(database, id)).await;
    s.others("UPDATE jobexec.events SET at = at - interval '100 days'").await;
    recorder.of("retention::prune", retention::prune(database, m, id, TimeDelta::days(30), 0)).await;
}
