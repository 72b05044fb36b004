//! Ends every stale execution of a store, in batches of one guarded statement each.

mod outcome;
mod pass;
mod retry;
mod statement;
mod trigger;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

pub(super) use self::outcome::ASKED;
pub use self::outcome::{Ended, Known, Outcome, Refused};
pub use self::pass::Sweep;
use self::pass::{Next, Pass, Refusals, Step, again};
pub use self::statement::BATCH;
pub(super) use self::statement::{announced, source};
pub use self::trigger::Trigger;
use super::own::Records;
use super::staleness::End;
use super::{Database, DbError, Ledger, StalenessPredicate};
use crate::api::OnStale;
use crate::api::retry::RetryMethod;

/// Ends stale executions until none is left that can be taken. Each batch is passed to `done` once it is committed, which may stop
/// the sweep. A row that another transaction holds is skipped: that transaction may be finishing it, and the next sweep checks it
/// again. A row that the server refuses to end does not hold up others.
///
/// After a first full batch a second connection works from the other end until both meet: two on one range only wait for each
/// other, two on ranges of their own take little more than half the time. A manual request uses one connection only: the others are
/// for the operator.
///
/// # Errors
/// Those of the database, and [`DbError::TableReplaced`] if the record no longer belongs to the table. Batches that are committed
/// stay.
pub async fn run(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    ledger: &Ledger,
    sweep: &Sweep,
    known: Known,
    mut done: impl FnMut(&[Ended]) -> ControlFlow<()>,
) -> Result<Outcome, DbError> {
    let stop = AtomicBool::new(false);
    let actions = predicate.actions();
    let mut todo = if known.again { again(&known.rows, &actions) } else { Vec::new() };
    todo.extend(actions.iter().map(|action| Step::End(Next::Batch(*action))));
    let rows = known.rows.into_iter().map(|row| (row.id, row.why)).collect();
    let refusals = Mutex::new(Refusals { rows, statements: 0, retries: 0 });
    let records = Records::new(database, ledger);
    let from = |end, todo| {
        Pass { database, predicate, records: &records, sweep, end, refusals: &refusals }
            .batches(todo, &stop)
            .boxed()
    };
    let mut batches = from(End::Oldest, todo);
    let (mut total, mut alone) = (0, true);
    while let Some(batch) = batches.try_next().await? {
        total += batch.len() as u64;
        if done(&batch).is_break() {
            // Batches in progress are still committed and passed on.
            stop.store(true, Ordering::Relaxed);
        }
        // One connection stays free for counting.
        let may_have_two = predicate.asked.is_none() && database.connections() > 2;
        if alone && may_have_two && batch.len() >= BATCH as usize {
            // Two that number the new rows of the same jobs would only refuse each other's.
            let numbers = predicate.mapping.retry_method() == Some(RetryMethod::NewExecution);
            let others = actions.iter().filter(|action| !(numbers && **action == OnStale::Retry));
            let todo = others.map(|action| Step::End(Next::Batch(*action))).collect();
            batches = stream::select(batches, from(End::Newest, todo)).boxed();
            alone = false;
        }
    }
    drop(batches);
    let Refusals { rows, retries, .. } = refusals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let refused = rows.into_iter().map(|(id, why)| Refused { id, why }).collect();
    Ok(Outcome { ended: total, refused, retries, fault: records.fault() })
}
