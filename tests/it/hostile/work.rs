//! Each statement of the operator and of the direct command line on one table, without Kubernetes, so that none can fail
//! unnoticed.

use std::ops::ControlFlow;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use jobexec_operator::api::table::Recreated;
use jobexec_operator::api::{ExecutionStore, ExecutionStoreSpec, Limit};
use jobexec_operator::db::audit;
use jobexec_operator::db::cleanup::{self, Options};
use jobexec_operator::db::execution::{self, Window};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::observe::{self, IntegrityViolations};
use jobexec_operator::db::running::{self, Filter, Which};
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::staleness::evidence;
use jobexec_operator::db::sweep::{self, Known, Outcome, Sweep, Trigger};
use jobexec_operator::db::validate::{Problem, validate};
use jobexec_operator::db::workloads::{self, State, Workload, Workloads};
use jobexec_operator::db::{
    Database, DbError, Layout, Ledger, Mapping, StalenessPredicate, cancel, explain, extend, health, history,
    list, messages, outbox, promise, refusals, retention, rules, samples, stats, url, warnings,
};
use jobexec_operator::rules::{Policy, RuleSet, StoreDefaults, Warn, compile};
use serde_json::{Value, json};

use crate::support::World;

/// A managed store.
pub(crate) struct Work {
    pub(crate) database: Database,
    pub(crate) mapping: Mapping,
    ledger: Ledger,
    store_id: i64,
    compiled: RuleSet,
    spec: ExecutionStoreSpec,
}

/// The spec of a store.
pub(super) fn spec(spec: &Value) -> ExecutionStoreSpec {
    let store: ExecutionStore =
        serde_json::from_value(World::store_with("jobs", spec.clone())).expect("a valid store");
    store.spec
}

/// Connects with the permissions of the operator's role.
pub(super) async fn database(world: &World) -> Database {
    let options = url::parse(&world.url("right/password"), None).unwrap();
    Database::connect(options, 3, Duration::from_secs(30)).await.unwrap()
}

impl Work {
    /// Claims the table, and puts rules with a timeout of an hour into effect for the job and the type.
    pub(crate) async fn open(
        world: &World,
        described: &Value,
        job: &str,
        kind: &str,
    ) -> Result<Self, Problem> {
        let (database, spec) = (database(world).await, spec(described));
        let mapping = validate(&database, &Layout::of(&spec)).await.unwrap()?.mapping;
        let uid = format!("{}.{}", spec.table.schema.0, spec.table.name.0);
        let claimant = StoreIdentity { uid, predecessor: None, namespace: "n".into(), name: "jobs".into() };
        let claim = ledger::claim(&database, &mapping, &claimant, false).await.unwrap();
        let Claim::Held { ledger: ledger @ Ledger::Tables { store_id, .. }, .. } = claim else {
            panic!("{claim:?}")
        };
        let rule = |name: &str, jobs: &[&str], types: &[&str]| Policy {
            name: name.to_owned(),
            jobs: jobs.iter().map(ToString::to_string).collect(),
            types: types.iter().map(ToString::to_string).collect(),
            timeout: Some(Limit::After(TimeDelta::hours(1))),
            heartbeat: Some(Limit::After(TimeDelta::hours(1))),
            warn: Some(Warn::Percent(20)),
            ..Policy::default()
        };
        let policies = vec![rule("job", &[job], &[]), rule("type", &[], &[kind])];
        let compiled = compile(StoreDefaults::of("jobs", &spec), Vec::new(), policies);
        Ok(Self { database, mapping, ledger, store_id, compiled, spec })
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn predicate(&self) -> StalenessPredicate<'_> {
        StalenessPredicate {
            single_active_execution: self
                .spec
                .single_active_execution
                .as_ref()
                .map(|s| s.grace_period.to_chrono()),
            workloads: self.spec.workloads.as_ref().map(|w| w.grace_period.to_chrono()),
            ..StalenessPredicate::new(
                &self.mapping,
                &self.compiled,
                Rules::Table(self.store_id),
                Utc::now() - TimeDelta::days(1),
            )
        }
    }

    /// Runs the statements of a reconcile that ends nothing.
    pub(super) async fn look(&self) -> Result<(), DbError> {
        let (database, predicate) = (&self.database, &self.predicate());
        outbox::announce(database, self.store_id, true).await?;
        promise::keep(database, &self.mapping, self.store_id, "ExecutionStore/jobs").await?;
        rules::replace(database, self.store_id, &self.compiled, &[], &serde_json::Value::Null).await?;
        evidence::observe(database, predicate).await?;
        let alive = Workload { name: "Job/alive".into(), uid: "u".into(), state: State::Alive };
        let workloads = Workloads { seen: vec![alive], ..Workloads::default() };
        workloads::update(database, predicate, Some(&workloads), Recreated::Alive).await?;
        observe::pulse(database, predicate, TimeDelta::hours(10)).await?;
        observe::pulse(database, &predicate.with_evidence(false), TimeDelta::hours(10)).await?;
        let live = observe::live(database, predicate).await?;
        observe::running(database, &self.mapping).await?;
        observe::governed(database, predicate).await?;
        let census = observe::census(database, &self.mapping).await?;
        self.contradictions().await?;
        warnings::update(database, predicate, &self.ledger).await?;
        samples::keep(database, self.store_id, &live, Some(census)).await?;
        outbox::recover(database, self.store_id, Utc::now()).await?;
        outbox::digest(database, &self.mapping, self.store_id, |_, _| Vec::new()).await?;
        messages::pending(database, self.store_id, &[]).await?;
        messages::take(database, self.store_id, &[]).await?;
        messages::give_up_old(database, self.store_id, TimeDelta::days(1), &[]).await?;
        messages::expire(database, self.store_id).await?;
        messages::forget(database, self.store_id, TimeDelta::days(1)).await?;
        ledger::breaker::paused(database, self.store_id).await?;
        ledger::announcements::unannounced(database, self.store_id, &[], 5).await?;
        refusals::count(database, self.store_id).await?;
        retention::prune(database, &self.mapping, self.store_id, TimeDelta::days(90), 0).await?;
        extend::prune(database, &self.mapping, self.store_id).await?;
        Ok(())
    }

    pub(super) async fn contradictions(&self) -> Result<IntegrityViolations, DbError> {
        observe::contradictions(&self.database, &self.mapping).await
    }

    /// Runs the statements for requests of users and policies, including `ids`, and covers everything that users get to
    /// see. Returns the listed ids.
    pub(super) async fn answers(&self, ids: &[String], job: &str) -> Result<Vec<String>, DbError> {
        let (database, predicate, mapping) = (&self.database, &self.predicate(), &self.mapping);
        health::check(database, predicate, 5).await?;
        list::stale(database, predicate, 100).await?;
        let mut listed = Vec::new();
        // Several pages, but not too many.
        let size = u32::try_from(ids.len() / 3).unwrap().max(3);
        for which in [Which::Running, Which::Overdue, Which::Stale, Which::All] {
            for job_id in [None, Some(job.to_owned())] {
                let (mut after, mut pages) = (None, 0);
                let filter = Filter { which, older_than: Some(TimeDelta::zero()), job_id };
                while pages == 0 || after.is_some() {
                    let page = running::page(database, predicate, &filter, after.as_ref(), size).await?;
                    // As a client passes it back.
                    after = page.next.map(|place| place.to_string().parse().unwrap());
                    listed.extend(page.executions.into_iter().map(|execution| execution.id));
                    pages += 1;
                    assert!(pages < 1_000, "the pages have no end");
                }
            }
        }
        running::look(database, predicate, ids.to_vec()).await?;
        for id in ids.iter().step_by(1 + ids.len() / 40) {
            explain::explain(database, predicate, id).await?;
            explain::records(database, predicate, id).await?;
        }
        let window = Window { limit: 5, finished: TimeDelta::days(30) };
        execution::read(database, predicate, &self.ledger, ids, Some(window)).await?;
        execution::read(database, predicate, &self.ledger, ids, None).await?;
        for per in ["Job", "JobType"] {
            let question = history::Question {
                uid: per.to_owned(),
                name: per.to_owned(),
                generation: 1,
                jobs: vec![job.to_owned()],
                types: vec!["etl".to_owned()],
                all: per == "Job",
                spec: serde_json::from_value(json!({"per": per, "minSamples": 1})).unwrap(),
            };
            let figures = history::ask(database, mapping, &question).await?;
            history::keep(database, &self.ledger, &question, &figures).await?;
            history::load(database, &self.ledger).await?;
        }
        let question = stats::Question { since: TimeDelta::days(30), types: Vec::new(), limit: 10 };
        stats::ask(database, mapping, &self.ledger, &question).await?;
        let filter = audit::Filter { job_id: Some(job.to_owned()), ..audit::Filter::default() };
        audit::history(database, self.store_id, &filter, 10).await?;
        audit::history(database, self.store_id, &audit::Filter::default(), 10).await?;
        samples::since(database, self.store_id, TimeDelta::days(1), TimeDelta::minutes(5)).await?;
        ledger::look_up(database, mapping).await?;
        self.clean_up(TimeDelta::hours(20), true).await?;
        Ok(listed)
    }

    pub(super) async fn clean_up(
        &self,
        older_than: TimeDelta,
        dry_run: bool,
    ) -> Result<Vec<String>, DbError> {
        let options = Options {
            older_than: Some(older_than),
            ids: Vec::new(),
            include_governed: true,
            suspicion: None,
            dry_run,
            source: "CommandLine",
            actor: Some("somebody".to_owned()),
        };
        let mut rows = Vec::new();
        cleanup::run(&self.database, &self.predicate(), &self.ledger, &options, |told| {
            rows.extend(told.iter().map(|row| row.id.clone()));
            ControlFlow::Continue(())
        })
        .await?;
        Ok(rows)
    }

    pub(super) async fn sweep(&self) -> Result<Outcome, DbError> {
        let pass = Sweep { id: uuid::Uuid::new_v4(), trigger: Trigger::Requested };
        let predicate = self.predicate();
        sweep::run(&self.database, &predicate, &self.ledger, &pass, Known::default(), |_| {
            ControlFlow::Continue(())
        })
        .await
    }

    pub(super) async fn extend(&self, id: &str) -> Result<extend::Outcome, DbError> {
        let request = extend::Request {
            id: id.to_owned(),
            by: TimeDelta::hours(1),
            who: "somebody".to_owned(),
            actor: "somebody".to_owned(),
        };
        extend::extend(&self.database, &self.mapping, Some(&self.compiled), self.store_id, &request)
            .await
            .map(|(outcome, _)| outcome)
    }

    pub(super) async fn cancel(&self, id: &str, started: Option<i64>) -> Result<cancel::Outcome, DbError> {
        let request = cancel::Request {
            key: id.to_owned(),
            source: "CommandLine".to_owned(),
            actor: Some("somebody".to_owned()),
            started,
        };
        cancel::cancel(&self.database, &self.mapping, &self.ledger, &[request]).await
    }

    /// Returns each job, type and status that is reported for these.
    pub(super) async fn texts(&self, ids: &[String]) -> Result<Vec<String>, DbError> {
        let (database, predicate) = (&self.database, &self.predicate());
        let mut texts = Vec::new();
        for execution in running::look(database, predicate, ids.to_vec()).await? {
            texts.extend([execution.job_id, execution.job_type, Some(execution.status)]);
        }
        for id in ids {
            let explained = explain::explain(database, predicate, id).await?;
            texts.extend(explained.into_iter().flat_map(|e| [e.job_id, e.job_type, Some(e.status)]));
        }
        Ok(texts.into_iter().flatten().collect())
    }
}
