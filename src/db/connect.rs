//! Connections, and transactions whose timeouts are set.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::DbError;

/// How long to wait for a connection, new or from the pool.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement waits for a lock. Rows are taken with `SKIP LOCKED`, so this is about table locks only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections to one database.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
    statement_timeout: Duration,
}

impl Database {
    /// A pool of at most `size` connections, with one of them open: errors show here, not later.
    pub async fn connect(
        options: PgConnectOptions,
        size: u32,
        statement_timeout: Duration,
    ) -> Result<Self, DbError> {
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_mins(5))
            .max_lifetime(Duration::from_mins(30))
            .connect_lazy_with(options.clone());
        let database = Self { pool, statement_timeout };
        // The pool would retry a refused login until its timeout and then only report that; one direct attempt
        // tells the real cause.
        let probe = tokio::time::timeout(ACQUIRE_TIMEOUT, sqlx::ConnectOptions::connect(&options));
        let connection = probe.await.map_err(|_| DbError::ConnectTimeout(ACQUIRE_TIMEOUT))??;
        sqlx::Connection::close(connection).await?;
        Ok(database)
    }

    /// Bounds a conversation of a few statements. The server ends a statement at `statement_timeout` by itself; this
    /// is for a server that says nothing any more, which TCP alone would notice after hours.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
        let limit = ACQUIRE_TIMEOUT + 2 * self.statement_timeout;
        tokio::time::timeout(limit, work).await.unwrap_or(Err(DbError::NoAnswer(limit)))
    }

    /// A transaction that cannot write.
    pub async fn read(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin("READ ONLY").await
    }

    /// A transaction that can write, unless the database or the role is set to read only: that setting is somebody's
    /// will and is not overridden.
    pub async fn write(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin("").await
    }

    /// How many connections it may open.
    pub fn connections(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    /// How many connections are open, and how many of those nobody uses.
    pub fn use_of_pool(&self) -> (u32, u32) {
        (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX))
    }

    /// The pool itself, for migrations.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Closes the connections that are not in use, so that the next ones are new.
    pub async fn log_in_anew(&self) {
        while let Some(connection) = self.pool.try_acquire() {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "a connection was not closed in order");
            }
        }
    }

    /// Closes all connections. Those in use are waited for, but not for ever: their server may be gone.
    pub async fn close(&self) {
        if tokio::time::timeout(ACQUIRE_TIMEOUT, self.pool.close()).await.is_err() {
            tracing::debug!("connections were still in use when their pool was given up");
        }
    }

    /// The settings travel with `BEGIN` in one message and hold for the transaction only, so that they reach the
    /// right server connection behind `PgBouncer` in transaction mode. Compiling a statement of many expressions takes
    /// longer than all of the statement, and is set off by estimates of rules that are far too high.
    async fn begin(&self, access: &'static str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let statement = self.statement_timeout.as_millis();
        let lock = LOCK_TIMEOUT.as_millis();
        let idle = 2 * statement;
        self.pool
            .begin_with(AssertSqlSafe(format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED {access}; \
                 SET LOCAL statement_timeout = {statement}; \
                 SET LOCAL lock_timeout = {lock}; \
                 SET LOCAL jit = off; \
                 SET LOCAL idle_in_transaction_session_timeout = {idle}"
            )))
            .await
    }
}
