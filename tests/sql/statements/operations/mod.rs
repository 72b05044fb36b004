//! Every function of `src/db` that sends statements, called once for each form of its statement.

mod delivery;
mod ending;
mod reading;

use chrono::{DateTime, TimeDelta};
use jobexec_operator::api::{ExecutionStore, Limit, OnStale};
use jobexec_operator::db::audit::{self, Filter};
use jobexec_operator::db::extras::{Extra, Retries};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::{
    Database, Layout, Ledger, StalenessPredicate, adapter, own, refusals, retention, rules, samples, schema,
    stores, validate,
};
use jobexec_operator::rules::{ExecutionOverride, Policy, RuleSet, StoreDefaults, Warn, compile};
use sqlx::PgPool;
use uuid::Uuid;

use self::delivery::of_messages;
use self::ending::{of_ending, of_retries};
use self::reading::{of_evidence, of_history, of_looking};
use super::recorder::Recorder;

/// Functions that other operations call, the repair of broken tables, and those that run the files of an adapter.
pub(super) const LEFT_OUT: [&str; 4] =
    ["observations::update", "own::mend", "adapter::install::apply", "adapter::install::remove"];

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
    recorder.of("adapter::rehearse", adapter::rehearse(database, mapping)).await;
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
    of_retries(recorder, &setting).await;
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
