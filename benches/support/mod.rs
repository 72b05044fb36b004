//! Shared parts of the benchmarks that use Postgres alone.

use std::error::Error;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use jobexec_operator::api::retry::{RetryMethod, RetryReason};
use jobexec_operator::api::{Limit, OnStale};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::observe::{self, DeadlineSnapshot};
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::sweep::{self, Known, Sweep, Trigger};
use jobexec_operator::db::{
    Database, Layout, Ledger, Mapping, StalenessPredicate, rules, schema, url, validate,
};
use jobexec_operator::rules::{Policy, Retry, RuleSet, Sourced, StoreDefaults, Warn, compile};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use uuid::Uuid;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The role of the operator.
pub(crate) const ROLE: &str = "jobexec_bench";

/// The time ahead for which a reconcile reads deadlines at the default `pollInterval`.
#[allow(dead_code, reason = "not every benchmark looks")]
const HORIZON: TimeDelta = TimeDelta::seconds(15);

/// A throwaway server.
pub(crate) struct Server {
    /// The options for a superuser.
    options: PgConnectOptions,
}

impl Server {
    /// The server of `make bench`.
    pub(crate) fn from_env() -> Outcome<Self> {
        let uri = std::env::var("DATABASE_URL")
            .map_err(|_| "DATABASE_URL is not set: use `make bench`, which brings a throwaway Postgres")?;
        Ok(Self { options: url::parse(&uri, None)? })
    }

    pub(crate) async fn execute(&self, sql: String) -> Outcome<()> {
        self.options.connect().await?.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    pub(crate) async fn connect(&self, database: &str) -> Outcome<PgConnection> {
        Ok(self.options.clone().database(database).connect().await?)
    }

    /// The version, as the server reports it.
    pub(crate) async fn version(&self) -> Outcome<String> {
        Ok(sqlx::query_scalar("SHOW server_version").fetch_one(&mut self.options.connect().await?).await?)
    }

    /// Creates an empty database.
    pub(crate) async fn create(&self, database: &str) -> Outcome<PgConnection> {
        self.execute(format!("CREATE DATABASE {database}")).await?;
        self.connect(database).await
    }

    /// Creates a fresh copy of `template`, so that all contenders start from the same bytes on disk.
    pub(crate) async fn copy(&self, template: &str, database: &str) -> Outcome<()> {
        self.execute(format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        self.execute(format!("CREATE DATABASE {database} TEMPLATE {template}")).await
    }

    /// Removes everything that an earlier run or this one created.
    pub(crate) async fn remove(&self, databases: &[&str]) -> Outcome<()> {
        for database in databases {
            self.execute(format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        }
        self.execute(format!("DROP ROLE IF EXISTS {ROLE}")).await
    }

    /// Creates the same as `jobexec schema --apply`.
    pub(crate) async fn apply_schema(&self, database: &str, layout: &Layout) -> Outcome<()> {
        let options = self.options.clone().database(database);
        let database = Database::connect(options, 1, Duration::from_mins(1)).await?;
        schema::apply(&database, layout, Some(ROLE), &[]).await?;
        database.close().await;
        Ok(())
    }
}

/// The operator with an open session, as between two reconciles.
pub(crate) struct Operator {
    pub(crate) database: Database,
    pub(crate) mapping: Mapping,
    compiled: RuleSet,
    ledger: Ledger,
    store_id: i64,
    watched: DateTime<Utc>,
}

impl Operator {
    /// Opens the operator with `policies` in effect over a default timeout and a grace period of 5 minutes.
    pub(crate) async fn open(
        server: &Server,
        database_name: &str,
        layout: &Layout,
        default: TimeDelta,
        policies: Vec<Policy>,
    ) -> Outcome<Self> {
        let options = server.options.clone().database(database_name).username(ROLE).password(ROLE);
        let database = Database::connect(options, 3, Duration::from_mins(1)).await?;
        let mapping = validate::validate(&database, layout).await??.mapping;
        let claimant = StoreIdentity {
            uid: "1".into(),
            predecessor: None,
            namespace: "default".into(),
            name: "jobs".into(),
        };
        let Claim::Held { ledger: ledger @ Ledger::Tables { store_id, .. }, watched_since: watched, .. } =
            ledger::claim(&database, &mapping, &claimant, false).await?
        else {
            return Err("the operator's tables cannot be used".into());
        };
        let heartbeat = layout.heartbeat.as_ref().map(|_| TimeDelta::minutes(10));
        let compiled = compile(base(default, heartbeat), Vec::new(), policies);
        rules::replace(&database, store_id, &compiled, &[], &serde_json::Value::Null).await?;
        // Autovacuum does the same within a minute.
        server.connect(database_name).await?.execute("VACUUM ANALYZE jobexec.rules").await?;
        Ok(Self { database, mapping, compiled, ledger, store_id, watched })
    }

    /// Returns the operator that has stale executions run again.
    #[allow(dead_code, reason = "only one benchmark does")]
    pub(crate) fn retrying(mut self) -> Self {
        self.compiled.base.on_stale.value = OnStale::Retry;
        // At once: by default a deadline says nothing about the worker.
        let method = self.mapping.retry_method().unwrap_or(RetryMethod::Trigger);
        let mut retry = Retry::by_default(method);
        retry.reasons.push(RetryReason::DeadlineExceeded);
        retry.after_ms = Some(0);
        self.compiled.base.retry = Some(Sourced::new(retry, "ExecutionPolicy/all"));
        self
    }

    pub(crate) fn predicate(&self) -> StalenessPredicate<'_> {
        StalenessPredicate::new(&self.mapping, &self.compiled, Rules::Table(self.store_id), self.watched)
    }

    /// Measures one read of the stale executions and the next deadline, and returns its result.
    #[allow(dead_code, reason = "not every benchmark looks")]
    pub(crate) async fn look(&self) -> Outcome<(Duration, DeadlineSnapshot)> {
        let start = Instant::now();
        let pulse = observe::pulse(&self.database, &self.predicate(), HORIZON).await?;
        Ok((start.elapsed(), pulse))
    }

    /// Measures one sweep, and returns the number of rows that it ended.
    pub(crate) async fn sweep(&self) -> Outcome<(Duration, i64)> {
        let sweep = Sweep { id: Uuid::new_v4(), trigger: Trigger::Cleanup("Bench") };
        let start = Instant::now();
        let swept =
            sweep::run(&self.database, &self.predicate(), &self.ledger, &sweep, Known::default(), |_| {
                ControlFlow::Continue(())
            })
            .await?;
        Ok((start.elapsed(), i64::try_from(swept.ended)?))
    }
}

/// The defaults of a store.
fn base(default: TimeDelta, heartbeat: Option<TimeDelta>) -> StoreDefaults {
    let store = "ExecutionStore/jobs";
    StoreDefaults {
        timeout: Sourced::new(Limit::After(default), store),
        grace: Sourced::new(TimeDelta::minutes(5), store),
        heartbeat: heartbeat.map(|length| Sourced::new(Limit::After(length), store)),
        on_stale: Sourced::new(OnStale::Fail, store),
        retry: None,
        warn: Sourced::new(Warn::After(default), store),
        overruled: Vec::new(),
        store: store.to_owned(),
    }
}

/// Leaves no background work for the time of the measurement.
pub(crate) async fn settle(connection: &mut PgConnection) -> Outcome<()> {
    connection.execute("VACUUM ANALYZE job_executions").await?;
    connection.execute("CHECKPOINT").await?;
    Ok(())
}

pub(crate) fn same(what: &str, found: i64, expected: i64) -> Outcome<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found} instead of {expected}").into()) }
}

/// The median in seconds; sorts the times.
pub(crate) fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    seconds(times.get(times.len() / 2))
}

pub(crate) fn seconds(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, Duration::as_secs_f64)
}
