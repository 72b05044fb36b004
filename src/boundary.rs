//! Boundaries that a panic does not cross. Work runs inside [`caught`]; a panic there becomes a [`Panicked`], is counted, and is
//! logged with its place in the source. The text of the panic is dropped: it may hold a row, a password or a server's message.
//!
//! The panic hook ([`install`]) counts and logs, so that panics outside of a boundary are seen too, as in a task of a library.
//! Boundaries need `panic = "unwind"`, the default of every Cargo profile; with another one this does not compile.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;

#[cfg(not(panic = "unwind"))]
compile_error!("with panic = \"abort\" any broken server could end the operator");

/// What ran when a panic happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A reconcile of an `ExecutionStore`.
    Store,
    /// A reconcile of an `ExecutionPolicy`.
    Policy,
    /// A pass over the `JobExecution` objects of a store.
    Executions,
    /// Statements on a database.
    Database,
    /// A login to a database.
    Login,
    /// The connection that listens for changes of tables.
    Listen,
    /// Work beside the looks at a store: figures, history, old records.
    Background,
    /// What tells Kubernetes of a store.
    Report,
    /// The delivery of messages to people.
    Notify,
    /// Figures of a store that another replica looks after.
    Read,
    /// A request to the API, and a clean-up that it began.
    Request,
    /// A connection of a client of the API.
    Connection,
    /// The watches of objects and the controllers.
    Watch,
    /// The Leases, and what changes hands with them.
    Membership,
    /// A command of the command line.
    Command,
    /// Anything else, for example a task of a library.
    Elsewhere,
}

impl Place {
    /// All of them.
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

    /// One word, for the label of a metric.
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

/// The reason of conditions and problems that follow from a panic.
pub const REASON: &str = "InternalError";

/// The message of such conditions. It names nothing of the panic.
pub const MESSAGE: &str = "the operator met a defect of its own here, or an answer that no Postgres server gives. It ends no execution of \
     this store meanwhile, works on all others, and tries again ever less often. Find the line `panic` in the operator's log: it \
     names the place in the source. See that the URL leads to a Postgres server and that nobody has changed rows in the schema \
     jobexec by hand, and report the defect";

/// That work has ended by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a defect of the operator ended this part of its work ({}): find the line `panic` in its log", .0.as_str())]
pub struct Panicked(pub Place);

/// How many panics there were, by [`Place`].
static COUNTS: [AtomicU64; Place::ALL.len()] = [const { AtomicU64::new(0) }; Place::ALL.len()];

thread_local! {
    /// What this thread is at.
    static HERE: Cell<Place> = const { Cell::new(Place::Elsewhere) };
}

/// Sets [`HERE`] until it is dropped, by a panic too.
struct Here(Place);

impl Here {
    fn enter(place: Place) -> Self {
        Self(HERE.replace(place))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// Runs `work` up to its end or to a panic. What `work` borrows may be half changed after a panic: whoever calls this resets it.
///
/// # Errors
/// It panicked.
pub async fn caught<T>(place: Place, work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    let polled = poll_fn(|context| {
        let _here = Here::enter(place);
        work.as_mut().poll(context)
    });
    AssertUnwindSafe(polled).catch_unwind().await.map_err(|_| Panicked(place))
}

/// The same for work that does not wait.
///
/// # Errors
/// It panicked.
pub fn caught_now<T>(place: Place, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let work = || {
        let _here = Here::enter(place);
        work()
    };
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked(place))
}

/// How many panics there were since the start, by place.
pub fn counts() -> impl Iterator<Item = (Place, u64)> {
    Place::ALL.into_iter().zip(COUNTS.iter().map(|count| count.load(Ordering::Relaxed)))
}

/// Has every panic of this process counted and logged without its text. Without a log it is told to standard error.
pub fn install() {
    set_hook(Box::new(|info| told(info.location())));
}

fn told(location: Option<&Location<'_>>) {
    let place = HERE.try_with(Cell::get).unwrap_or(Place::Elsewhere);
    if let Some((_, count)) = Place::ALL.iter().zip(&COUNTS).find(|(each, _)| **each == place) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    let (file, line) = location.map_or(("unknown", 0), |at| (shown(at.file()), at.line()));
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(
            place = place.as_str(),
            at = format_args!("{file}:{line}"),
            "panic: this part of the work has ended, the rest goes on; report it"
        );
    } else {
        use std::io::Write as _;
        // Whoever has closed standard error does not miss it.
        let _ = writeln!(
            std::io::stderr(),
            "jobexec: panic at {file}:{line}: this is a defect, please report it"
        );
    }
}

/// A source file without the folders of the machine that compiled it: of a library, from its name and version on.
fn shown(file: &str) -> &str {
    let registry = file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    let library = || file.split_once("/library/").filter(|_| file.starts_with("/rustc/"));
    registry.or_else(library).map_or(file, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_panic_stays_within_its_boundary_and_its_text_is_dropped() {
        let error = caught(Place::Store, async { panic!("the password is hunter2") }).await;
        let error: Panicked = error.map(|(): ()| ()).unwrap_err();
        assert_eq!(error, Panicked(Place::Store));
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"));
        assert_eq!(caught(Place::Store, async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_after_a_wait_drops_what_the_work_held() {
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
    fn work_that_does_not_wait_has_a_boundary_too() {
        assert_eq!(caught_now(Place::Watch, || 7), Ok(7));
        let outcome = caught_now(Place::Watch, || -> u8 { panic!("no") });
        assert_eq!(outcome, Err(Panicked(Place::Watch)));
    }

    /// The hook reads the place while the panic happens, and nothing is left of it afterwards.
    #[tokio::test]
    async fn the_place_is_known_while_it_runs_and_restored_after_a_panic() {
        let inner = async { caught(Place::Database, async { HERE.get() }).await.map(|at| (at, HERE.get())) };
        let outer = caught(Place::Store, inner).await;
        assert_eq!(outer, Ok(Ok((Place::Database, Place::Store))));
        let _ = caught(Place::Store, async { panic!("no") }).await.map(|(): ()| ());
        assert_eq!(HERE.get(), Place::Elsewhere);
    }

    #[test]
    fn places_have_words_of_their_own() {
        let mut words: Vec<_> = Place::ALL.iter().map(|place| place.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Place::ALL.len());
    }

    #[test]
    fn a_location_tells_the_library_and_not_the_machine() {
        let file =
            "/home/somebody/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/bytes-1.10.1/src/lib.rs";
        assert_eq!(shown(file), "bytes-1.10.1/src/lib.rs");
        assert_eq!(shown("/rustc/4eb161250e/library/core/src/option.rs"), "core/src/option.rs");
        assert_eq!(shown("src/db/connect.rs"), "src/db/connect.rs");
    }
}
