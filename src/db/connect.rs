//! Connections, and transactions with timeouts.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgTransactionManager};
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::DbError;
use super::change_notifier::Listener;
use super::pool::{Connections, Pool, PoolLease, Pools};
use super::relay::Transport;
use super::timeouts::{ACQUIRE_TIMEOUT, TURN_TIMEOUT};
use super::url::Login;
use crate::boundary::{Place, caught};
use crate::net::Dialer;

/// The maximum time for a connection to end the statement that was running when it was returned to the pool. After that the
/// connection is closed.
const RETURN: Duration = Duration::from_mins(1);

/// The maximum time that a statement waits for a lock. Rows are taken with `SKIP LOCKED`, so this affects only table locks.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A condition that is always true. From the moment it is evaluated, the rest of the transaction uses the login's search path, so
/// that the application's triggers find what its own role or database defines. All other statements of the operator use a path on
/// which only Postgres has functions and operators. So a statement with this condition must be the last one of its transaction.
/// docs/decisions/0003-search-path.md explains why.
pub(super) const LOGIN_PATH: &str = "(SELECT pg_catalog.set_config('search_path', \
     pg_catalog.current_setting('jobexec.search_path'), true)) IS NOT NULL";

/// One store's access to its database. Clones belong to the same store; other stores with the same login share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    of: Arc<Store>,
    statement_timeout: Duration,
}

/// The state that all clones share.
#[derive(Debug)]
struct Store {
    member: PoolLease,
    closed: AtomicBool,
    /// The number of the connections that were used last.
    used: AtomicU64,
    /// One permit for each connection that the store may use at a time.
    own: Arc<Semaphore>,
    allowed: Mutex<u32>,
    /// Held while the store reads much of the table.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// The statement that makes Postgres refuse other statements if rows of the store may be hidden.
    guard: Mutex<Arc<str>>,
}

/// A transaction. If it is dropped without [`Self::commit`], it is rolled back. If a panic drops it, its connection is closed:
/// nobody knows what the server has yet to send on it, and sqlx would hand the connection to the next caller.
#[derive(Debug)]
pub struct Tx {
    connection: Lent,
    _turn: Turn,
}

/// A connection of the pool. It returns to the pool when it is dropped, unless a panic drops it or a transaction is beginning: then
/// it is unknown whether one has begun, and nothing would end it.
#[derive(Debug)]
struct Lent {
    connection: PoolConnection<Postgres>,
    /// True while a transaction begins.
    beginning: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.beginning || std::thread::panicking() {
            self.connection.close_on_drop();
            return;
        }
        // Does nothing if the transaction has ended.
        PgTransactionManager::start_rollback(&mut self.connection);
        // sqlx itself would wait without a limit for the end of a statement that nobody waits for any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let back = self.connection.return_to_pool();
            runtime.spawn(async move { drop(tokio::time::timeout(RETURN, back).await) });
        }
    }
}

/// A permit to use a connection.
#[derive(Debug)]
struct Turn {
    _own: OwnedSemaphorePermit,
    _pool: OwnedSemaphorePermit,
}

/// A permit to read much of the table. Such readers always leave a connection of a shared pool for others.
#[derive(Debug)]
pub struct Reading {
    _own: OwnedMutexGuard<()>,
    _pool: Option<OwnedSemaphorePermit>,
}

impl Database {
    /// Connects with a pool of its own of at most `size` connections. Opens one immediately, so that errors show here and not
    /// later. It is meant for a person's own command line: it connects to any address.
    pub async fn connect(
        login: impl Into<Login>,
        size: u32,
        statement_timeout: Duration,
    ) -> Result<Self, DbError> {
        let (_, member) = Pool::new(&Transport::new(Dialer::unrestricted()), &login.into(), size)?;
        Self::open(member, size, statement_timeout).await
    }

    /// Connects with a pool that is shared with all others in `pools` that have the same login. The size of the pool is the largest
    /// size that any of them requests.
    pub async fn shared(
        pools: &Pools,
        login: &Login,
        size: u32,
        statement_timeout: Duration,
    ) -> Result<Self, DbError> {
        Self::open(pools.join(login, size)?, size, statement_timeout).await
    }

    async fn open(member: PoolLease, size: u32, statement_timeout: Duration) -> Result<Self, DbError> {
        member.prove().await?;
        let of = Store {
            used: AtomicU64::new(member.now().number),
            member,
            closed: AtomicBool::new(false),
            own: Arc::new(Semaphore::new(size as usize)),
            allowed: Mutex::new(size),
            reading: Arc::default(),
            guard: Mutex::new(Arc::from("")),
        };
        Ok(Self { of: Arc::new(of), statement_timeout })
    }

    /// Limits the duration of a conversation of a few statements. The server itself ends a statement after `statement_timeout`;
    /// this limit is for a server that no longer responds, which TCP alone would notice after hours. Turns a panic, which sqlx can
    /// raise on an answer that no Postgres sends, into an error like any other.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
        let limit = TURN_TIMEOUT + self.of.member.connect_timeout() + 2 * self.statement_timeout;
        // On the heap, because a boundary keeps more than the work itself.
        let work = tokio::time::timeout(limit, Box::pin(caught(Place::Database, work)));
        work.await.unwrap_or(Ok(Err(DbError::NoAnswer(limit))))?
    }

    /// Begins a transaction that cannot write.
    pub async fn read(&self) -> Result<Tx, sqlx::Error> {
        self.begin("READ ONLY", "", &self.guard()).await
    }

    /// Begins a read-only transaction on the catalog, without the guard: reading the catalog finds out whether rows may be hidden.
    pub(super) async fn read_catalog(&self) -> Result<Tx, sqlx::Error> {
        self.begin("READ ONLY", "", "").await
    }

    /// Begins a transaction that can write, unless the database or the role is set to read only: somebody chose that setting, so it
    /// is not overridden.
    pub async fn write(&self) -> Result<Tx, sqlx::Error> {
        let remember = "SELECT pg_catalog.set_config('jobexec.search_path', \
                        pg_catalog.current_setting('search_path'), true);";
        self.begin("", remember, &self.guard()).await
    }

    /// Makes each later transaction begin with `statement`, which makes Postgres refuse the following statements if rows of the
    /// store may be hidden. If it is empty, there is no such check.
    pub(super) fn set_guard(&self, statement: &str) {
        *self.of.guard.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(statement);
    }

    fn guard(&self) -> Arc<str> {
        self.of.guard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a connection for statements that cannot run in a transaction, such as `CREATE INDEX CONCURRENTLY`. They have the
    /// timeouts of the server. A commit does nothing.
    pub async fn outside(&self) -> Result<Tx, sqlx::Error> {
        let (connection, turn) = self.lent().await?;
        Ok(Tx { connection, _turn: turn })
    }

    /// Returns how many connections the store may use at a time: if others share the pool, one fewer than it requested, unless it
    /// requested at most two, or fewer than another store.
    pub fn connections(&self) -> u32 {
        self.of.member.allowance()
    }

    /// Returns how many connections of the pool are open, how many of those are idle, how many are allowed, and how many stores
    /// share the pool.
    pub fn pool_usage(&self) -> (u32, u32, u32, usize) {
        let pool = self.pool();
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        (pool.size(), idle, pool.options().get_max_connections(), self.of.member.members())
    }

    /// Returns the pool itself, for migrations.
    pub fn pool(&self) -> PgPool {
        self.of.member.now().pool
    }

    /// Waits for the permit to read much of the table, which only one reader has at a time.
    pub async fn reading(&self) -> Reading {
        let own = self.of.reading.clone().lock_owned().await;
        Reading { _own: own, _pool: self.of.member.now().readers.acquire_owned().await.ok() }
    }

    /// Calls `changed` when the table `relation` has changed, until the listener is dropped. All users of the pool share one
    /// connection for this.
    pub fn listen(&self, relation: String, changed: impl Fn() + Send + Sync + 'static) -> Listener {
        self.of.member.listen(relation, changed)
    }

    /// Makes later connections log in again, for all users of the pool. Statements that are running continue.
    pub fn reconnect(&self) {
        self.of.member.reconnect();
    }

    /// Replaces the connections that were used last, which no longer work, for all users of the pool. Errors after this store was
    /// closed say nothing about the connections, so then it does nothing.
    pub fn renew(&self) {
        if self.of.closed.load(Ordering::Acquire) {
            return;
        }
        self.of.member.renew(self.of.used.load(Ordering::Acquire));
    }

    /// Ends the work of this store and its clones. Waits for statements that are running, but not forever, because the server may
    /// be gone. Closes the connections if no other store shares them.
    pub async fn close(&self) {
        self.of.closed.store(true, Ordering::Release);
        let ended = async {
            let all = *self.of.allowed.lock().unwrap_or_else(PoisonError::into_inner);
            // The permits are not returned, so nothing new begins.
            if let Ok(all) = self.of.own.acquire_many(all).await {
                all.forget();
            }
            self.of.member.leave_in_order().await;
        };
        if tokio::time::timeout(ACQUIRE_TIMEOUT, ended).await.is_err() {
            tracing::debug!("connections were still in use when they were given up");
        }
        self.of.own.close();
    }

    /// Begins a transaction. The settings are sent with `BEGIN` in one message and apply only to the transaction, so that they
    /// reach the right server connection behind `PgBouncer` in transaction mode. JIT is off because compiling a statement with many
    /// expressions takes longer than running it, and far too high estimates of rules trigger it. Only Postgres' own functions and
    /// operators are on the search path; those of a temporary schema come last, because objects that a session creates must not
    /// precede the catalog. The `guard` finds out whether rows may be hidden.
    async fn begin(&self, access: &'static str, first: &'static str, guard: &str) -> Result<Tx, sqlx::Error> {
        let statement = self.statement_timeout.as_millis();
        let lock = LOCK_TIMEOUT.as_millis();
        let idle = 2 * statement;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED {access}; {first} \
             SET LOCAL search_path = pg_catalog, pg_temp; \
             SET LOCAL row_security = on; \
             SET LOCAL statement_timeout = {statement}; \
             SET LOCAL lock_timeout = {lock}; \
             SET LOCAL jit = off; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}; {guard}"
        );
        let (mut connection, turn) = self.lent().await?;
        connection.beginning = true;
        PgTransactionManager::begin(&mut connection.connection, Some(AssertSqlSafe(begin).into_sql_str()))
            .await?;
        connection.beginning = false;
        Ok(Tx { connection, _turn: turn })
    }

    /// Returns a connection when it is the store's turn.
    async fn lent(&self) -> Result<(Lent, Turn), sqlx::Error> {
        loop {
            let (connections, turn) = self.turn().await?;
            match connections.pool.acquire().await {
                // They were replaced during the wait for a permit, which says nothing about the new ones.
                Err(sqlx::Error::PoolClosed) if self.is_behind(&connections) => {}
                // Statements that nobody waits for any more still use them.
                Err(sqlx::Error::PoolTimedOut) if connections.are_all_used() => return Err(busy()),
                acquired => return Ok((Lent { connection: acquired?, beginning: false }, turn)),
            }
        }
    }

    /// Reports whether there are newer connections than these and the store is not closed.
    fn is_behind(&self, connections: &Connections) -> bool {
        !self.of.closed.load(Ordering::Acquire) && self.of.member.now().number != connections.number
    }

    /// Waits for one of the store's own permits, then for one of the pool's, in the order of the requests.
    async fn turn(&self) -> Result<(Connections, Turn), sqlx::Error> {
        self.keep_to_allowance();
        let turn = async {
            let closed = |_| sqlx::Error::PoolClosed;
            let own = self.of.own.clone().acquire_owned().await.map_err(closed)?;
            let connections = self.of.member.now();
            let pool = connections.turns.clone().acquire_owned().await.map_err(closed)?;
            Ok::<_, sqlx::Error>((connections, Turn { _own: own, _pool: pool }))
        };
        let (connections, turn) = tokio::time::timeout(TURN_TIMEOUT, turn).await.map_err(|_| busy())??;
        if self.of.closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed);
        }
        self.of.used.store(connections.number, Ordering::Release);
        Ok((connections, turn))
    }

    /// Adjusts the number of permits after others joined the pool or left it.
    fn keep_to_allowance(&self) {
        let allowance = self.of.member.allowance();
        let mut allowed = self.of.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if *allowed < allowance {
            self.of.own.add_permits((allowance - *allowed) as usize);
            *allowed = allowance;
        } else {
            // Permits in use are withdrawn another time.
            let forgotten = self.of.own.forget_permits((*allowed - allowance) as usize);
            *allowed = allowed.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        }
    }
}

/// Returns the error that others use all connections.
fn busy() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::ResourceBusy.into())
}

impl Tx {
    /// Makes the changes permanent.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        PgTransactionManager::commit(&mut self.connection.connection).await
    }

    /// Undoes the changes.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        PgTransactionManager::rollback(&mut self.connection.connection).await
    }
}

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection.connection
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection.connection
    }
}
