//! On a table of 1,000,000 rows, the statements that run all the time go by the index: their plans, as the server logs them, read
//! the table nowhere as a whole.

use std::ops::ControlFlow;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use jobexec_operator::api::{ExecutionStore, ExecutionStoreSpec, Limit};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::sweep::{self, Known, Sweep, Trigger};
use jobexec_operator::db::{
    Database, Layout, Ledger, Mapping, StalenessPredicate, observe, rules, running, schema, stores, url,
    validate,
};
use jobexec_operator::rules::{Policy, RuleSet, StoreDefaults, compile};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::statements::server_log::ServerLog;

/// Of the rows, 20,000 run, of 1,000 jobs and 20 types; 400 are stale by the default.
const TABLE: &str = "
    CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL,
        status text NOT NULL, started_at timestamptz, completed_at timestamptz, job_type text);
    INSERT INTO job_executions
        SELECT n, n % 1000, n / 1000, CASE WHEN n % 50 = 0 THEN 'running' ELSE 'completed' END,
               now() - CASE WHEN n % 2500 = 0 THEN interval '30 hours' ELSE interval '1 minute' * (n % 60) END,
               CASE WHEN n % 50 = 0 THEN NULL ELSE now() - interval '1 minute' * (n % 50) END, 'type-' || n % 20
        FROM generate_series(1, 1000000) AS n;";

/// The same rows with statuses that are numbers and times in seconds since 1970, behind a view.
const VIEW: &str = "
    CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL,
        state integer NOT NULL, began bigint, ended bigint, job_type text);
    INSERT INTO job_executions
        SELECT n, n % 1000, n / 1000, CASE WHEN n % 50 = 0 THEN 1 ELSE 2 END,
               extract(epoch FROM now()) - CASE WHEN n % 2500 = 0 THEN 108000 ELSE 60 * (n % 60) END,
               CASE WHEN n % 50 > 0 THEN extract(epoch FROM now()) - 60 * (n % 50) END, 'type-' || n % 20
        FROM generate_series(1, 1000000) AS n;
    CREATE VIEW executions AS
        SELECT id, job_id, execution_number, job_type,
               CASE state WHEN 1 THEN 'running' WHEN 2 THEN 'completed' WHEN 3 THEN 'failed' END AS status,
               to_timestamp(began) AS started_at, to_timestamp(ended) AS completed_at
        FROM job_executions;
    CREATE INDEX ON job_executions (to_timestamp(began))
        WHERE CASE state WHEN 1 THEN 'running' WHEN 2 THEN 'completed' WHEN 3 THEN 'failed' END = 'running';
    CREATE FUNCTION end_execution() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        UPDATE public.job_executions SET state = 3, ended = extract(epoch FROM NEW.completed_at)
        WHERE id = OLD.id AND state = 1;
        IF NOT FOUND THEN RETURN NULL; END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER end_execution INSTEAD OF UPDATE ON executions FOR EACH ROW EXECUTE FUNCTION end_execution();";

/// A way to have the executions.
struct Tables {
    sql: &'static str,
    /// What the store names.
    name: &'static str,
    /// Has the ended executions run again.
    reset: &'static str,
}

const TABLES: [Tables; 2] = [
    Tables {
        sql: TABLE,
        name: "job_executions",
        reset: "UPDATE job_executions SET status = 'running', completed_at = NULL WHERE status = 'failed'",
    },
    Tables {
        sql: VIEW,
        name: "executions",
        reset: "UPDATE job_executions SET state = 1, ended = NULL WHERE state = 3",
    },
];

/// The spec of the store.
fn spec(tables: &Tables, default_timeout: &str) -> ExecutionStoreSpec {
    serde_json::from_value(json!({
        "connection": {"secretRef": {"name": "db"}}, "defaultTimeout": default_timeout,
        "table": {"name": tables.name, "columns": {"jobType": "job_type"}, "idUnique": true},
    }))
    .unwrap()
}

/// The rules: for all executions, for some jobs, and for some types. Either the 400 executions are stale by the default; or there is no
/// default timeout, and they are stale by the rule of their type.
fn compiled(tables: &Tables, default_timeout: &str) -> RuleSet {
    let policy = |name: &str, timeout: Limit<TimeDelta>| Policy {
        name: name.into(),
        timeout: Some(timeout),
        ..Policy::default()
    };
    let hours = |hours| Limit::After(TimeDelta::hours(hours));
    let mut policies = vec![
        Policy { jobs: vec!["50".into(), "100".into()], ..policy("by-job", hours(5)) },
        Policy { jobs: vec!["250".into()], ..policy("no-deadline", Limit::Never) },
    ];
    let types = |types: &str, timeout| Policy { types: vec![types.into()], ..policy(types, timeout) };
    if default_timeout == "Never" {
        policies.extend([types("type-0", hours(20)), types("type-10", Limit::Never)]);
    } else {
        policies.push(types("type-10", hours(40)));
    }
    compile(StoreDefaults::of("jobs", &spec(tables, default_timeout)), Vec::new(), policies)
}

/// The plans of the statements of `work` that read the table.
async fn plans<T>(log: &mut ServerLog, work: impl Future<Output = T>) -> Vec<Value> {
    log.text();
    work.await;
    let text = log.text();
    let plans = text.split("plan:\n").skip(1).map(|logged| {
        let json: String = logged.lines().map_while(|line| line.strip_prefix('\t')).collect();
        serde_json::from_str::<Value>(&json).unwrap()["Plan"].take()
    });
    plans.filter(|plan| nodes(plan).iter().any(|node| of_table(node))).collect()
}

/// All nodes of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    let children = plan["Plans"].as_array().into_iter().flatten().flat_map(nodes);
    std::iter::once(plan).chain(children).collect()
}

fn of_table(node: &Value) -> bool {
    node["Relation Name"] == "job_executions" && node["Node Type"] != "ModifyTable"
}

/// Checks that the plans read the table, and by an index alone.
fn go_by_the_index(what: &str, plans: &[Value]) {
    assert!(!plans.is_empty(), "{what}: nothing read the table");
    for plan in plans {
        for node in nodes(plan).into_iter().filter(|node| of_table(node)) {
            assert_ne!(node["Node Type"], "Seq Scan", "{what} reads the whole table: {plan:#}");
        }
    }
}

/// A store of this table, on a server whose log has the plans.
struct Stage {
    tables: &'static Tables,
    pool: PgPool,
    database: Database,
    mapping: Mapping,
    ledger: Ledger,
    log: ServerLog,
    _server: devcluster::Server,
}

impl Stage {
    async fn new(tables: &'static Tables) -> Self {
        let server = tokio::task::spawn_blocking(|| devcluster::Server::start(&[]).unwrap()).await.unwrap();
        let pool = PgPool::connect(server.url()).await.unwrap();
        sqlx::raw_sql(tables.sql).execute(&pool).await.unwrap();
        let login = url::parse(server.url(), None).unwrap().options([
            ("session_preload_libraries", "auto_explain"),
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_format", "json"),
        ]);
        let database = Database::connect(login, 2, Duration::from_mins(1)).await.unwrap();
        let layout = Layout::of(&spec(tables, "24h"));
        schema::apply(&database, &layout, None, &[]).await.unwrap();
        let mapping = validate::validate(&database, &layout).await.unwrap().unwrap().mapping;
        let claimant =
            StoreIdentity { uid: "u".into(), predecessor: None, namespace: "n".into(), name: "jobs".into() };
        let claim = ledger::claim(&database, &mapping, &claimant, false).await.unwrap();
        let Claim::Held { ledger, .. } = claim else { panic!("{claim:?}") };
        let log = ServerLog::of(&server);
        Self { tables, pool, database, mapping, ledger, log, _server: server }
    }

    /// Checks the plans with this default timeout.
    async fn check(&mut self, default_timeout: &str) {
        let database = &self.database;
        sqlx::raw_sql(self.tables.reset).execute(&self.pool).await.unwrap();
        sqlx::raw_sql("VACUUM (ANALYZE) job_executions").execute(&self.pool).await.unwrap();
        let Ledger::Tables { store_id, .. } = self.ledger else { panic!("{:?}", self.ledger) };
        let rules = compiled(self.tables, default_timeout);
        let recorded = stores::record(&ExecutionStore::new("jobs", spec(self.tables, default_timeout)));
        rules::replace(database, store_id, &rules, &[], &recorded).await.unwrap();
        let predicate =
            StalenessPredicate::new(&self.mapping, &rules, Rules::Table(store_id), DateTime::UNIX_EPOCH);

        let horizon = TimeDelta::hours(1);
        let deadlines = predicate.with_evidence(false);
        let look = plans(&mut self.log, async {
            let pulse = observe::pulse(database, &deadlines, horizon).await.unwrap();
            assert!(pulse.stale > 300, "{pulse:?}");
        })
        .await;
        go_by_the_index("the look for deadlines", &look);

        for which in [running::Which::Running, running::Which::Stale] {
            let filter = running::Filter { which, ..running::Filter::default() };
            let page = plans(&mut self.log, async {
                let page = running::page(database, &predicate, &filter, None, 100).await.unwrap();
                assert_eq!(page.executions.len(), 100, "{which:?}");
                let next =
                    running::page(database, &predicate, &filter, page.next.as_ref(), 100).await.unwrap();
                assert_eq!(next.executions.len(), 100, "{which:?}");
            })
            .await;
            go_by_the_index(&format!("the list of {which:?}"), &page);
        }

        let sweep = Sweep { id: Uuid::new_v4(), trigger: Trigger::Requested };
        let ends = plans(&mut self.log, async {
            let all = |_: &[_]| ControlFlow::Continue(());
            sweep::run(database, &predicate, &self.ledger, &sweep, Known::default(), all).await.unwrap();
        })
        .await;
        go_by_the_index("the sweep", &ends);
        let failed: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT count(*) FROM {} WHERE status = 'failed'",
            self.tables.name
        )))
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert!(failed > 300, "{failed}");
    }
}

#[tokio::test]
async fn the_sweep_the_look_for_deadlines_and_the_list_go_by_the_index() {
    for tables in &TABLES {
        let mut stage = Stage::new(tables).await;
        for default_timeout in ["24h", "Never"] {
            stage.check(default_timeout).await;
        }
    }
}
