//! The table that the Pod manages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinHandle;

use super::{PATIENCE, PAUSE};
use crate::support::world::TABLE;

/// The hostname of the server for Pods.
pub(super) const HOST: &str = "postgres.jobexec.test";
const ROLE: &str = "jobexec_node";

/// True once every stale row was failed, and recorded once.
const SETTLED: &str = "SELECT NOT EXISTS (SELECT FROM job_executions WHERE status = 'running') \
     AND (SELECT count(*) FROM job_executions) = (SELECT count(*) FROM jobexec.events WHERE action = 'Failed')";
const DOUBLES: &str = "SELECT count(*) FROM (SELECT execution_id FROM jobexec.events WHERE action = 'Failed' \
     GROUP BY execution_id HAVING count(*) > 1) AS doubled";

#[derive(Clone)]
pub(super) struct Database {
    pool: PgPool,
    /// The URL for the operator's role, with a hostname that only Pods know.
    pub(super) url: String,
}

impl Database {
    /// Creates a database with the default table and the operator's schema and grants.
    pub(super) async fn create() -> Self {
        let mut admin: url::Url = std::env::var("DATABASE_URL").unwrap().parse().unwrap();
        let server = PgPool::connect(admin.as_str()).await.unwrap();
        sqlx::raw_sql("CREATE DATABASE node").execute(&server).await.unwrap();
        let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'");
        sqlx::raw_sql(AssertSqlSafe(role)).execute(&server).await.unwrap();
        admin.set_path("node");
        let pool = PgPool::connect(admin.as_str()).await.unwrap();
        sqlx::raw_sql(TABLE).execute(&pool).await.unwrap();
        let mut schema = std::process::Command::new(env!("CARGO_BIN_EXE_jobexec"));
        schema.args(["schema", "--apply", "--role", ROLE]).env("DATABASE_URL", admin.as_str());
        let output = schema.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut url = admin;
        url.set_host(Some(HOST)).unwrap();
        url.set_username(ROLE).unwrap();
        url.set_password(Some("secret")).unwrap();
        url.set_query(Some("sslmode=verify-ca"));
        Self { pool, url: url.to_string() }
    }

    /// Adds rows that are past every deadline.
    pub(super) async fn stale(&self, count: i32) {
        let rows = "INSERT INTO job_executions \
             SELECT max + n, 1, n, 'running', now() - interval '25 hours', NULL FROM generate_series(1, $1) AS n, \
             (SELECT coalesce(max(id), 0) AS max FROM job_executions) AS ids";
        sqlx::query(rows).bind(count).execute(&self.pool).await.unwrap();
    }

    /// Adds stale rows continuously.
    pub(super) fn load(&self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (database, stopped) = (self.clone(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                database.stale(10).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Load { stop, task }
    }

    pub(super) async fn until_all_failed_once(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !sqlx::query_scalar::<_, bool>(SETTLED).fetch_one(&self.pool).await.unwrap() {
            let doubles: i64 = sqlx::query_scalar(DOUBLES).fetch_one(&self.pool).await.unwrap();
            assert_eq!(doubles, 0, "executions were failed twice");
            assert!(tokio::time::Instant::now() < deadline, "not all stale rows were failed");
            tokio::time::sleep(PAUSE).await;
        }
        let doubles: i64 = sqlx::query_scalar(DOUBLES).fetch_one(&self.pool).await.unwrap();
        assert_eq!(doubles, 0, "executions were failed twice");
    }

    /// The number of rows.
    pub(super) async fn rows(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM job_executions").fetch_one(&self.pool).await.unwrap()
    }
}

/// A task that adds rows.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Load {
    pub(super) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
