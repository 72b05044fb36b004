//! Panic boundaries. Work runs inside [`caught`]; a panic there becomes a [`Panicked`], is counted, and is logged with its
//! place in the source. The text of the panic is dropped, because it may contain a row, a password or a server's message.
//!
//! The panic hook ([`install`]) counts and logs, so that panics outside of a boundary are recorded too, as in a task of a library.
//! Boundaries need `panic = "unwind"`, the default of every Cargo profile; anything else does not compile.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;

#[cfg(not(panic = "unwind"))]
compile_error!("with panic = \"abort\" any broken server could end the operator");

/// The kind of work in which a panic happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A reconciliation of an `ExecutionStore`.
    Store,
    /// A reconciliation of an `ExecutionPolicy`.
    Policy,
    /// A pass over the `JobExecution` objects of a store.
    Executions,
    /// Statements on a database.
    Database,
    /// A login to a database.
    Login,
    /// The connection that listens for changes of tables.
    Listen,
    /// Background work on a store: counts, timeout history, retention.
    Background,
    /// Publishing the status and Events of a store.
    Report,
    /// Delivery of notifications.
    Notify,
    /// Reads from a store that another replica manages.
    Read,
    /// A request to the API, and a clean-up that it started.
    Request,
    /// A connection of an API client.
    Connection,
    /// The watches of objects, and the controllers.
    Watch,
    /// The Leases, and handover between replicas.
    Membership,
    /// A command of the command line.
    Command,
    /// Anything else, for example a task of a library.
    Elsewhere,
}

impl Place {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::Store,
        Self::Policy,
        Self::Executions,
        Self::Database,
        Self::Login,
        Self::Listen,
        Self::Background,
        Self::Report,
        Self::Notify,
        Self::Read,
        Self::Request,
        Self::Connection,
        Self::Watch,
        Self::Membership,
        Self::Command,
        Self::Elsewhere,
    ];

    /// Returns one word, for the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Policy => "policy",
            Self::Executions => "executions",
            Self::Database => "database",
            Self::Login => "login",
            Self::Listen => "listen",
            Self::Background => "background",
            Self::Report => "report",
            Self::Notify => "notify",
            Self::Read => "read",
            Self::Request => "request",
            Self::Connection => "connection",
            Self::Watch => "watch",
            Self::Membership => "membership",
            Self::Command => "command",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// The reason of conditions and problems caused by a panic.
pub const REASON: &str = "InternalError";

/// The message of such conditions. It quotes nothing of the panic.
pub const MESSAGE: &str = "internal error: a bug of the operator, or a server whose answers no Postgres server would send. The operator \
     ends no execution of this store meanwhile, continues with all others, and retries with growing delays. Find the line `panic` in \
     the operator's log: it names the place in the source. Check that the URL leads to a Postgres server and that nobody has changed \
     rows in the schema jobexec by hand, and report the bug";

/// The error of work that panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an internal error ended this part of the operator's work ({}): find the line `panic` in its log", .0.as_str())]
pub struct Panicked(pub Place);

/// The number of panics, by [`Place`].
static COUNTS: [AtomicU64; Place::ALL.len()] = [const { AtomicU64::new(0) }; Place::ALL.len()];

thread_local! {
    /// The current work of this thread.
    static CURRENT: Cell<Place> = const { Cell::new(Place::Elsewhere) };
}

/// Sets [`CURRENT`] until it is dropped, also by a panic.
struct CurrentPlace(Place);

impl CurrentPlace {
    fn enter(place: Place) -> Self {
        Self(CURRENT.replace(place))
    }
}

impl Drop for CurrentPlace {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Runs `work` until it completes or panics. After a panic, values that `work` borrows may be inconsistent: reset them.
///
/// # Errors
/// It panicked.
pub async fn caught<T>(place: Place, work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    let polled = poll_fn(|context| {
        let _current = CurrentPlace::enter(place);
        work.as_mut().poll(context)
    });
    AssertUnwindSafe(polled).catch_unwind().await.map_err(|_| Panicked(place))
}

/// Runs `work` that does not wait.
///
/// # Errors
/// It panicked.
pub fn caught_now<T>(place: Place, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let work = || {
        let _current = CurrentPlace::enter(place);
        work()
    };
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked(place))
}

/// Returns the number of panics since the start, by place.
pub fn counts() -> impl Iterator<Item = (Place, u64)> {
    Place::ALL.into_iter().zip(COUNTS.iter().map(|count| count.load(Ordering::Relaxed)))
}

/// Installs the hook that counts and logs every panic of this process, without its text. Without a log it prints to standard
/// error.
pub fn install() {
    set_hook(Box::new(|info| record(info.location())));
}

fn record(location: Option<&Location<'_>>) {
    let place = CURRENT.try_with(Cell::get).unwrap_or(Place::Elsewhere);
    if let Some((_, count)) = Place::ALL.iter().zip(&COUNTS).find(|(each, _)| **each == place) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    let (file, line) = location.map_or(("unknown", 0), |at| (short_path(at.file()), at.line()));
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(
            place = place.as_str(),
            at = format_args!("{file}:{line}"),
            "panic: this part of the work ended, everything else continues; please report it"
        );
    } else {
        use std::io::Write as _;
        // A closed standard error does not matter.
        let _ = writeln!(
            std::io::stderr(),
            "jobexec: panic at {file}:{line}: this is a defect, please report it"
        );
    }
}

/// Shortens the path of a source file: without the folders of the build machine; of a library, from its name and version on.
fn short_path(file: &str) -> &str {
    let registry = file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    let library = || file.split_once("/library/").filter(|_| file.starts_with("/rustc/"));
    registry.or_else(library).map_or(file, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn panic_is_caught_and_its_text_is_dropped() {
        let error = caught(Place::Store, async { panic!("the password is hunter2") }).await;
        let error: Panicked = error.map(|(): ()| ()).unwrap_err();
        assert_eq!(error, Panicked(Place::Store));
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"));
        assert_eq!(caught(Place::Store, async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn panic_after_an_await_drops_the_values_of_the_work() {
        let held = Arc::new(());
        let kept = held.clone();
        let outcome = caught(Place::Database, async move {
            tokio::task::yield_now().await;
            assert!(Arc::strong_count(&kept) > 5, "this is the panic");
        });
        assert_eq!(outcome.await, Err(Panicked(Place::Database)));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn synchronous_panic_is_caught() {
        assert_eq!(caught_now(Place::Watch, || 7), Ok(7));
        let outcome = caught_now(Place::Watch, || -> u8 { panic!("no") });
        assert_eq!(outcome, Err(Panicked(Place::Watch)));
    }

    /// The hook reads the place during the panic, and it is restored afterwards.
    #[tokio::test]
    async fn current_place_is_restored_after_a_panic() {
        let inner =
            async { caught(Place::Database, async { CURRENT.get() }).await.map(|at| (at, CURRENT.get())) };
        let outer = caught(Place::Store, inner).await;
        assert_eq!(outer, Ok(Ok((Place::Database, Place::Store))));
        let _ = caught(Place::Store, async { panic!("no") }).await.map(|(): ()| ());
        assert_eq!(CURRENT.get(), Place::Elsewhere);
    }

    #[test]
    fn places_have_distinct_labels() {
        let mut words: Vec<_> = Place::ALL.iter().map(|place| place.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Place::ALL.len());
    }

    #[test]
    fn panic_location_names_the_library_but_not_the_build_machine() {
        let file =
            "/home/somebody/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/bytes-1.10.1/src/lib.rs";
        assert_eq!(short_path(file), "bytes-1.10.1/src/lib.rs");
        assert_eq!(short_path("/rustc/4eb161250e/library/core/src/option.rs"), "core/src/option.rs");
        assert_eq!(short_path("src/db/connect.rs"), "src/db/connect.rs");
    }
}
