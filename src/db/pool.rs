//! One pool of connections for all stores with the same login: 300 stores of one database take three connections, not nine hundred.
//! A store is a `PoolLease` of the pool for as long as its session is open; when the last member leaves, the connections are closed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::DbError;
use super::change_notifier::{ChangeNotifier, Listener};
use super::relay::{GRACE, Route, Transport};
use super::url::{Key, Login};
use crate::boundary::{Place, caught};
use crate::net::Dialer;

/// The time that abandoned connections have to return to the pool before they are cut.
const DRAIN: Duration = Duration::from_mins(1);

/// Connections younger than this are not replaced to log in again, because several stores may request it at once.
const YOUNG: Duration = Duration::from_secs(5);

/// The pools of one operator, by login.
#[derive(Debug)]
pub struct Pools {
    transport: Transport,
    pools: Mutex<HashMap<Key, Weak<Pool>>>,
}

impl Pools {
    /// Creates a set of pools whose connections `dialer` makes.
    pub fn new(dialer: Dialer) -> Self {
        Self { transport: Transport::new(dialer), pools: Mutex::default() }
    }

    /// Joins the pool of this login with one more member, which requests `size` connections.
    pub(super) fn join(&self, login: &Login, size: u32) -> Result<PoolLease, DbError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| pool.strong_count() > 0);
        let known = pools.get(&login.key).and_then(Weak::upgrade);
        if let Some(member) = known.and_then(|pool| Pool::join(&pool, size)) {
            return Ok(member);
        }
        let (pool, member) = Pool::new(&self.transport, login, size)?;
        pools.insert(login.key, Arc::downgrade(&pool));
        Ok(member)
    }
}

/// One pool of connections, and its members.
pub(super) struct Pool {
    route: Route,
    state: Mutex<State>,
    /// The last attempt to log in: when it ended, for which connections, and its result.
    proof: tokio::sync::Mutex<Option<Proof>>,
    hints: ChangeNotifier,
}

impl fmt::Debug for Pool {
    /// Omits the options, whose own `Debug` shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    now: Connections,
    /// The number of connections that each member requests.
    members: HashMap<u64, u32>,
    joined: u64,
}

/// The present connections.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) pool: PgPool,
    /// One permit for each connection, granted in the order of the requests: a caller that waits for a permit waits for other
    /// stores, not for the server.
    pub(super) turns: Arc<Semaphore>,
    /// One permit fewer, for callers that read a lot, so that no deadline waits for them.
    pub(super) readers: Arc<Semaphore>,
    /// Distinguishes them from earlier ones.
    pub(super) number: u64,
    size: u32,
    born: Instant,
    /// A route of their own, so that they end with it.
    route: Route,
}

#[derive(Debug)]
struct Proof {
    ended: Instant,
    number: u64,
    outcome: Result<(), DbError>,
}

impl Connections {
    /// Creates connections that are opened only when they are needed.
    fn new(route: Route, size: u32, number: u64) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(route.connect_timeout() + GRACE)
            .idle_timeout(Duration::from_mins(5))
            .max_lifetime(Duration::from_mins(30))
            .connect_lazy_with(route.options().clone());
        Self {
            pool,
            turns: Arc::new(Semaphore::new(size as usize)),
            readers: Arc::new(Semaphore::new(size.saturating_sub(1).max(1) as usize)),
            number,
            size,
            born: Instant::now(),
            route,
        }
    }

    /// Reports whether the maximum number is open and all are in use.
    pub(super) fn are_all_used(&self) -> bool {
        self.pool.size() >= self.size && self.pool.num_idle() == 0
    }

    /// Closes the connections in the background as they are returned. Those that are still in use after [`DRAIN`] are cut.
    fn drain(self) -> Option<JoinHandle<()>> {
        // Without a runtime the process is ending, and so are its connections.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            if tokio::time::timeout(DRAIN, self.pool.close()).await.is_ok() {
                self.route.closed().await;
            } else {
                tracing::debug!("connections that were given up are still in use, and are cut");
            }
            // Drops the route too.
            drop(self);
        }))
    }
}

impl Pool {
    /// Creates a pool that nobody else can find, with its first member.
    pub(super) fn new(
        transport: &Transport,
        login: &Login,
        size: u32,
    ) -> Result<(Arc<Self>, PoolLease), DbError> {
        let no_socket =
            |error| DbError::Other(format!("no socket could be opened within the operator: {error}"));
        let route = transport.route(login).map_err(no_socket)?;
        let now = Connections::new(route.again().map_err(no_socket)?, size, 0);
        let state = State { now, members: HashMap::from([(0, size)]), joined: 0 };
        let hints = ChangeNotifier::new(route.clone());
        let pool =
            Arc::new(Self { route, state: Mutex::new(state), proof: tokio::sync::Mutex::default(), hints });
        let member = PoolLease { pool: pool.clone(), id: 0, size };
        Ok((pool, member))
    }

    /// Adds a member; `None` if the last one has just left. The size of the pool is the largest size that any member requests.
    fn join(pool: &Arc<Self>, size: u32) -> Option<PoolLease> {
        let mut state = pool.state();
        if state.members.is_empty() {
            return None;
        }
        state.joined += 1;
        let id = state.joined;
        state.members.insert(id, size);
        let wanted = state.members.values().copied().max().unwrap_or(size);
        if wanted != state.now.size {
            pool.replace(&mut state, wanted);
        }
        drop(state);
        Some(PoolLease { pool: pool.clone(), id, size })
    }

    /// Checks that the server accepts the login: the pool itself would try again until its timeout, and report only the timeout.
    /// One attempt counts for all callers that wait for it.
    async fn prove(&self) -> Result<(), DbError> {
        let asked = Instant::now();
        let mut proof = self.proof.lock().await;
        let number = self.state().now.number;
        match proof.as_ref() {
            Some(Proof { number: of, outcome: Ok(()), .. }) if *of == number => return Ok(()),
            Some(Proof { ended, outcome: Err(error), .. }) if *ended >= asked => return Err(error.clone()),
            _ => {}
        }
        let limit = self.route.connect_timeout();
        let attempt = tokio::time::timeout(limit + GRACE, caught(Place::Login, self.log_in())).await;
        let outcome = attempt
            .unwrap_or(Ok(Err(DbError::ConnectTimeout(limit))))
            .unwrap_or_else(|panicked| Err(panicked.into()));
        *proof = Some(Proof { ended: Instant::now(), number, outcome: outcome.clone() });
        outcome
    }

    async fn log_in(&self) -> Result<(), DbError> {
        let connection = sqlx::ConnectOptions::connect(self.route.options()).await?;
        Ok(sqlx::Connection::close(connection).await?)
    }

    /// Replaces the present connections with new ones; running statements end on the old ones.
    fn replace(&self, state: &mut State, size: u32) {
        // Without a socket of their own, for example if the process has too many open files, they share one, and last as long as it
        // does.
        let route = self.route.again().unwrap_or_else(|error| {
            tracing::warn!(%error, "connections to a database share a socket within the operator");
            self.route.clone()
        });
        let new = Connections::new(route, size, state.now.number + 1);
        drop(std::mem::replace(&mut state.now, new).drain());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The membership of one store in a pool, until it is dropped.
#[derive(Debug)]
pub(super) struct PoolLease {
    pool: Arc<Pool>,
    id: u64,
    /// The number of connections that it requested.
    size: u32,
}

impl PoolLease {
    /// Checks that the server accepts the login: see [`Pool::prove`].
    pub(super) async fn prove(&self) -> Result<(), DbError> {
        self.pool.prove().await
    }

    /// Returns how long a connection may take, login included.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.pool.route.connect_timeout()
    }

    /// Returns the present connections.
    pub(super) fn now(&self) -> Connections {
        self.pool.state().now.clone()
    }

    /// Returns the number of members.
    pub(super) fn members(&self) -> usize {
        self.pool.state().members.len()
    }

    /// Returns how many connections the member may use at a time. If others share the pool, it never takes the last one, unless it
    /// requested two or fewer: a locked table delays the store that waits for it, but not its neighbours.
    pub(super) fn allowance(&self) -> u32 {
        let state = self.pool.state();
        let spared = u32::from(state.members.len() > 1 && self.size > 2 && self.size >= state.now.size);
        self.size - spared
    }

    /// Replaces the connections with this number, which no longer work, for everybody on this pool. Does nothing if they were
    /// already replaced.
    pub(super) fn renew(&self, number: u64) {
        let mut state = self.pool.state();
        if state.now.number == number {
            let size = state.now.size;
            self.pool.replace(&mut state, size);
        }
    }

    /// Makes later connections log in again, unless the present ones are new.
    pub(super) fn reconnect(&self) {
        let mut state = self.pool.state();
        if state.now.born.elapsed() >= YOUNG {
            let size = state.now.size;
            self.pool.replace(&mut state, size);
        }
    }

    /// Calls `changed` when the table `relation` has changed, until the listener is dropped.
    pub(super) fn listen(&self, relation: String, changed: impl Fn() + Send + Sync + 'static) -> Listener {
        self.pool.hints.listen(relation, changed)
    }

    /// Leaves the pool. Returns the connections to close if this was the last member.
    fn leave(&self) -> Option<Connections> {
        let mut state = self.pool.state();
        let last = state.members.remove(&self.id).is_some() && state.members.is_empty();
        last.then(|| state.now.clone())
    }

    /// Leaves the pool, and waits until the connections are closed if this was the last member.
    pub(super) async fn leave_in_order(&self) {
        if let Some(connections) = self.leave() {
            // Closing continues even if the caller stops waiting.
            if let Some(closing) = connections.drain() {
                // The task does not panic, and nothing aborts it while there is a runtime.
                let _ = closing.await;
            }
            tokio::join!(self.pool.route.closed(), self.pool.hints.closed());
        }
    }
}

impl Drop for PoolLease {
    fn drop(&mut self) {
        if let Some(connections) = self.leave() {
            drop(connections.drain());
        }
    }
}
