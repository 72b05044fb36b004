//! Connections, and transactions whose timeouts are set.

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
use super::hints::Listener;
use super::pool::{Connections, Member, Pool, Pools};
use super::relay::Transport;
use super::timeouts::{ACQUIRE_TIMEOUT, TURN_TIMEOUT};
use super::url::Login;
use crate::boundary::{Place, caught};
use crate::net::Dialer;

/// How long a connection may take to end the statement that it was given back with. After that it is closed.
const RETURN: Duration = Duration::from_mins(1);

/// How long a statement waits for a lock. Rows are taken with `SKIP LOCKED`, so this is about table locks only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A condition that is true, and for which the rest of the transaction has the login's search path from the moment on at which
/// it is evaluated: what the application's triggers find is what its own role or database says. Other statements of the
/// operator are read with a path on which Postgres alone has functions and operators. So a statement with this condition is
/// the last one of its transaction. docs/decisions/0003-search-path.md says why it is done so.
pub(super) const LOGIN_PATH: &str = "(SELECT pg_catalog.set_config('search_path', \
     pg_catalog.current_setting('jobexec.search_path'), true)) IS NOT NULL";

/// One store's access to its database. Clones are of the same store; other stores that log in alike share the connections.
#[derive(Clone, Debug)]
pub struct Database {
    of: Arc<Store>,
    statement_timeout: Duration,
}

/// What the clones share.
#[derive(Debug)]
struct Store {
    member: Member,
    closed: AtomicBool,
    /// The number of the connections that were used last.
    used: AtomicU64,
    /// As many as the store may use at a time.
    own: Arc<Semaphore>,
    allowed: Mutex<u32>,
    /// One for who reads much of the table.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// The statement that has Postgres refuse others where rows of the store may be hidden.
    guard: Mutex<Arc<str>>,
}

/// A transaction. Dropped without [`Self::commit`] it is rolled back. Dropped by a panic its connection is closed: what the server
/// has still to say on it is unknown, and sqlx itself would hand it to the next one who asks.
#[derive(Debug)]
pub struct Tx {
    connection: Lent,
    _turn: Turn,
}

/// A connection of the pool. It goes back there when it is dropped, but for a panic, and while a transaction begins: whether one
/// has begun is then unknown, and nothing would end it.
#[derive(Debug)]
struct Lent {
    connection: PoolConnection<Postgres>,
    /// While a transaction begins.
    beginning: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.beginning || std::thread::panicking() {
            self.connection.close_on_drop();
            return;
        }
        // Does nothing once a transaction has ended.
        PgTransactionManager::start_rollback(&mut self.connection);
        // sqlx itself would wait without a limit for the end of a statement that nobody waits for any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let back = self.connection.return_to_pool();
            runtime.spawn(async move { drop(tokio::time::timeout(RETURN, back).await) });
        }
    }
}

/// The right to use a connection.
#[derive(Debug)]
struct Turn {
    _own: OwnedSemaphorePermit,
    _pool: OwnedSemaphorePermit,
}

/// The turn to read much of the table; of all who share a pool there is always a connection left for others.
#[derive(Debug)]
pub struct Reading {
    _own: OwnedMutexGuard<()>,
    _pool: Option<OwnedSemaphorePermit>,
}

impl Database {
    /// A pool of its own of at most `size` connections, once one could be opened: errors show here, not later. It is for a
    /// person's own command line: it connects to any address.
    pub async fn connect(
        login: impl Into<Login>,
        size: u32,
        statement_timeout: Duration,
    ) -> Result<Self, DbError> {
        let (_, member) = Pool::new(&Transport::new(Dialer::unrestricted()), &login.into(), size)?;
        Self::open(member, size, statement_timeout).await
    }

    /// The same with a pool that it shares with all others in `pools` that log in alike. The pool has as many connections
    /// as the one of them asks for that asks for most.
    pub async fn shared(
        pools: &Pools,
        login: &Login,
        size: u32,
        statement_timeout: Duration,
    ) -> Result<Self, DbError> {
        Self::open(pools.join(login, size)?, size, statement_timeout).await
    }

    async fn open(member: Member, size: u32, statement_timeout: Duration) -> Result<Self, DbError> {
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

    /// Bounds a conversation of a few statements. The server ends a statement at `statement_timeout` by itself; this
    /// is for a server that says nothing any more, which TCP alone would notice after hours. A panic, as sqlx meets it in an
    /// answer that no Postgres gives, is an error like any other.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
        let limit = TURN_TIMEOUT + self.of.member.connect_timeout() + 2 * self.statement_timeout;
        // On the heap: a boundary keeps more than the work itself.
        let work = tokio::time::timeout(limit, Box::pin(caught(Place::Database, work)));
        work.await.unwrap_or(Ok(Err(DbError::NoAnswer(limit))))?
    }

    /// A transaction that cannot write.
    pub async fn read(&self) -> Result<Tx, sqlx::Error> {
        self.begin("READ ONLY", "", &self.guard()).await
    }

    /// The same for reading the catalog, by which it is found out whether rows may be hidden.
    pub(super) async fn read_catalog(&self) -> Result<Tx, sqlx::Error> {
        self.begin("READ ONLY", "", "").await
    }

    /// A transaction that can write, unless the database or the role is set to read only: that setting is somebody's
    /// will and is not overridden.
    pub async fn write(&self) -> Result<Tx, sqlx::Error> {
        let remember = "SELECT pg_catalog.set_config('jobexec.search_path', \
                        pg_catalog.current_setting('search_path'), true);";
        self.begin("", remember, &self.guard()).await
    }

    /// From now on each transaction begins with `statement`, which has Postgres refuse the other ones where rows of the store
    /// may be hidden; empty: none does.
    pub(super) fn set_guard(&self, statement: &str) {
        *self.of.guard.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(statement);
    }

    fn guard(&self) -> Arc<str> {
        self.of.guard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection for statements that no transaction may hold, such as `CREATE INDEX CONCURRENTLY`. They have the timeouts of the
    /// server. A commit of it does nothing.
    pub async fn outside(&self) -> Result<Tx, sqlx::Error> {
        let (connection, turn) = self.lent().await?;
        Ok(Tx { connection, _turn: turn })
    }

    /// How many connections it may use at a time: one fewer than it asked for where others share the pool, unless it asked
    /// for two or for fewer than they.
    pub fn connections(&self) -> u32 {
        self.of.member.allowance()
    }

    /// How many connections of the pool are open, how many of those nobody uses, how many there may be, and how many
    /// stores share them.
    pub fn use_of_pool(&self) -> (u32, u32, u32, usize) {
        let pool = self.pool();
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        (pool.size(), idle, pool.options().get_max_connections(), self.of.member.members())
    }

    /// The pool itself, for migrations.
    pub fn pool(&self) -> PgPool {
        self.of.member.now().pool
    }

    /// Waits for the turn to read much of the table: one at a time does.
    pub async fn reading(&self) -> Reading {
        let own = self.of.reading.clone().lock_owned().await;
        Reading { _own: own, _pool: self.of.member.now().readers.acquire_owned().await.ok() }
    }

    /// Has `changed` called when the table `relation` has changed, on a connection that all who share the pool share too,
    /// until the listener is dropped.
    pub fn listen(&self, relation: String, changed: impl Fn() + Send + Sync + 'static) -> Listener {
        self.of.member.listen(relation, changed)
    }

    /// Has the next connections log in anew, for all who share the pool; what is under way goes on.
    pub fn log_in_anew(&self) {
        self.of.member.log_in_anew();
    }

    /// The connections that were used last are no good any more: all who share the pool get new ones. What fails because this
    /// store's work was ended says nothing of them.
    pub fn renew(&self) {
        if self.of.closed.load(Ordering::Acquire) {
            return;
        }
        self.of.member.renew(self.of.used.load(Ordering::Acquire));
    }

    /// Ends the work of this store, clones included. What is under way is waited for, but not for ever: the server may be
    /// gone. The connections are closed if no other store shares them.
    pub async fn close(&self) {
        self.of.closed.store(true, Ordering::Release);
        let ended = async {
            let all = *self.of.allowed.lock().unwrap_or_else(PoisonError::into_inner);
            // They are not given back: nothing begins any more.
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

    /// The settings travel with `BEGIN` in one message and hold for the transaction only, so that they reach the
    /// right server connection behind `PgBouncer` in transaction mode. Compiling a statement of many expressions takes
    /// longer than all of the statement, and is set off by estimates of rules that are far too high. No function or operator
    /// of anybody but Postgres is on the search path; those of a temporary schema come last, as what a session makes may not
    /// stand before the catalog. Whether rows may be hidden is for the `guard` to find out.
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

    /// A connection, once it is the store's turn.
    async fn lent(&self) -> Result<(Lent, Turn), sqlx::Error> {
        loop {
            let (connections, turn) = self.turn().await?;
            match connections.pool.acquire().await {
                // They were replaced while the turn was waited for, which says nothing of the new ones.
                Err(sqlx::Error::PoolClosed) if self.is_behind(&connections) => {}
                // Those of statements that nobody waits for any more are still at them.
                Err(sqlx::Error::PoolTimedOut) if connections.are_all_used() => return Err(busy()),
                acquired => return Ok((Lent { connection: acquired?, beginning: false }, turn)),
            }
        }
    }

    /// Whether there are newer connections than these, for a store that goes on.
    fn is_behind(&self, connections: &Connections) -> bool {
        !self.of.closed.load(Ordering::Acquire) && self.of.member.now().number != connections.number
    }

    /// Waits for one of the store's own turns, then for one of the pool's, in the order of asking.
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

    /// Others may have come to the pool or left it.
    fn keep_to_allowance(&self) {
        let allowance = self.of.member.allowance();
        let mut allowed = self.of.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if *allowed < allowance {
            self.of.own.add_permits((allowance - *allowed) as usize);
            *allowed = allowance;
        } else {
            // Those in use are taken back another time.
            let forgotten = self.of.own.forget_permits((*allowed - allowance) as usize);
            *allowed = allowed.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        }
    }
}

/// That others have all connections.
fn busy() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::ResourceBusy.into())
}

impl Tx {
    /// Makes what was done last.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        PgTransactionManager::commit(&mut self.connection.connection).await
    }

    /// Undoes what was done.
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
