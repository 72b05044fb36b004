//! The database of a world: its URLs, and SQL as its superuser.

use sqlx::AssertSqlSafe;

use super::World;
use crate::support::PATIENCE;

impl World {
    /// The URL that the operator's role logs in with.
    pub(crate) fn url(&self, password: &str) -> String {
        let mut url = self.admin_url.clone();
        url.set_username(&self.role).unwrap();
        url.set_password(Some(&password.replace('/', "%2F"))).unwrap();
        url.to_string()
    }

    /// The URL of the test's database as its superuser.
    pub(crate) fn superuser(&self) -> String {
        self.admin_url.to_string()
    }

    /// Creates a role that owns the tables of an application and is no superuser, and returns the URL that it logs in with.
    pub(crate) async fn owner(&self) -> String {
        let owner = format!("{}_owner", self.role);
        self.sql(&format!(
            "CREATE ROLE {owner} LOGIN PASSWORD 'owner'; GRANT CREATE ON DATABASE {} TO {owner}; \
             GRANT CREATE ON SCHEMA public TO {owner}",
            self.role
        ))
        .await;
        let mut url = self.admin_url.clone();
        url.set_username(&owner).unwrap();
        url.set_password(Some("owner")).unwrap();
        url.to_string()
    }

    /// Runs SQL as the superuser, in one transaction: again after a deadlock with the operator, as a DROP may cause.
    pub(crate) async fn sql(&self, sql: &str) {
        loop {
            match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await {
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {}
                outcome => {
                    outcome.unwrap_or_else(|error| panic!("{sql}: {error}"));
                    return;
                }
            }
        }
    }

    /// The single value that a query returns.
    pub(crate) async fn one<T>(&self, sql: &str) -> T
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres> + 'static,
    {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Waits until a query returns true.
    pub(crate) async fn until_true(&self, sql: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.one::<Option<bool>>(sql).await.unwrap_or_default() {
            assert!(tokio::time::Instant::now() < deadline, "never true: {sql}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Ends every session of the operator's role on the server.
    pub(crate) async fn terminate(&self) -> i64 {
        self.one(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
            self.role
        ))
        .await
    }

    /// The status of a row of `job_executions`.
    pub(crate) async fn status(&self, id: i64) -> String {
        self.one(&format!("SELECT status::text FROM job_executions WHERE id = {id}")).await
    }
}
