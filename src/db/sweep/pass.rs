//! One sweep from one end, batch by batch. A batch that the server refuses is split until the rows that cause the refusal are
//! found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::outcome::{ASKED, Ended, Refused};
use super::retry::statement as retrying;
use super::statement::{BATCH, Running, Written, read, statement};
use super::trigger::Trigger;
use crate::api::OnStale;
use crate::db::own::Records;
use crate::db::server_text::line;
use crate::db::staleness::{End, IdFilter, Rules, Selection};
use crate::db::{Database, DbError, Ledger, StalenessPredicate, retry};

/// The maximum number of tries of one batch if the error is transient (deadlock, serialization failure, lock timeout, shutdown).
const TRIES: u32 = 4;

/// The precision of the search for the rows that cause refusals: up to this many refused statements, a sweep splits batches down to
/// this many rows, and skips rows that are refused together. The more refusals there are, the coarser the search, so that a block
/// of refused rows does not hold up others.
const BISECT_STEPS: [(usize, usize); 3] = [(250, 1), (750, 100), (790, BATCH as usize)];

/// One sweep of a store.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The id of the sweep in `jobexec.sweeps` and in its Event.
    pub id: Uuid,
    /// The reason for which it runs.
    pub trigger: Trigger,
}

/// The refusals of the server in one sweep.
#[derive(Default)]
pub(super) struct Refusals {
    /// The reason of each refusal, by row id.
    pub(super) rows: BTreeMap<String, String>,
    pub(super) statements: usize,
    /// The number of statements that were retried.
    pub(super) retries: u64,
}

/// What a sweep has to do next.
pub(super) enum Step {
    /// These rows are not known to be refused any more: they are about to be tried again.
    Forget(Vec<String>),
    /// End these rows.
    End(Next),
}

/// The rows for the next statement.
pub(super) enum Next {
    /// All stale rows with this action, except those that are known to be refused.
    Batch(OnStale),
    /// Those of these rows with this action, from a batch that was refused.
    These(OnStale, Vec<String>),
    /// Those of these rows that are to be retried, without retrying them: the table refuses to have them run again.
    Unretried(Vec<String>),
}

/// Returns the known rows in pieces, beginning at a random row, so that each time other rows are checked one by one.
pub(super) fn again(rows: &[Refused], actions: &[OnStale]) -> Vec<Step> {
    let mut ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let anywhere = usize::from(Uuid::new_v4().as_bytes()[0]) * ids.len() / 256;
    ids.rotate_left(anywhere);
    let mut todo = Vec::new();
    // The last is taken first.
    for ids in ids.chunks(BATCH as usize) {
        todo.extend(actions.iter().map(|action| Step::End(Next::These(*action, ids.to_vec()))));
        todo.push(Step::Forget(ids.to_vec()));
    }
    todo
}

impl Next {
    /// Returns the same without rows that were found to keep running. Those of a batch are left out by the refusals.
    fn without(&self, running: &[Running]) -> Self {
        let is_left = |id: &&String| !running.iter().any(|row| row.id == **id);
        let left = |ids: &[String]| ids.iter().filter(is_left).cloned().collect();
        match self {
            Self::These(action, ids) => Self::These(*action, left(ids)),
            Self::Unretried(ids) => Self::Unretried(left(ids)),
            Self::Batch(action) => Self::Batch(*action),
        }
    }
}

/// The result of one statement.
#[derive(Default)]
struct Attempt {
    ended: Vec<Ended>,
    /// The rows that the statement selected and that keep running nevertheless, because of a trigger.
    running: Vec<Running>,
    /// True if nothing was committed, because a trigger wrote rows and left them running.
    undone: bool,
    /// The rows that keep running because of a trigger that does not let them run again.
    unretried: Vec<String>,
    /// True if it selected no rows because the record no longer belongs to the table, or its adapter is incomplete.
    of_another: bool,
}

/// One sweep from one end.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) database: &'a Database,
    pub(super) predicate: &'a StalenessPredicate<'a>,
    pub(super) records: &'a Records<'a>,
    pub(super) sweep: &'a Sweep,
    pub(super) end: End,
    pub(super) refusals: &'a Mutex<Refusals>,
}

impl<'a> Pass<'a> {
    /// Returns batches until one is not full or `stop` is set. A batch that is refused is split until the rows that cause the
    /// refusal are found.
    pub(super) fn batches(
        self,
        todo: Vec<Step>,
        stop: &'a AtomicBool,
    ) -> impl Stream<Item = Result<Vec<Ended>, DbError>> + Send + 'a {
        stream::try_unfold(todo, move |mut todo| async move {
            while let Some(step) = todo.pop().filter(|_| !stop.load(Ordering::Relaxed)) {
                let next = match step {
                    Step::End(next) => next,
                    Step::Forget(ids) => {
                        let mut refusals = self.refusals();
                        for id in &ids {
                            refusals.rows.remove(id);
                        }
                        continue;
                    }
                };
                let again = || self.refusals().retries += 1;
                let (version, ledger) = self.records.ledger();
                // A retry that has to wait for somebody is no reason for executions to run on.
                let tries = if self.may_retry(&next) { 1 } else { TRIES };
                match with_retries(self.database, tries, || self.attempt(&next, &ledger), again).await {
                    Ok(Attempt { of_another: true, .. }) => return Err(DbError::TableReplaced),
                    Ok(Attempt { undone: true, running, unretried, .. }) => {
                        // Once more without them, so that nothing is written to them.
                        todo.push(Step::End(next.without(&running)));
                        self.note(&next, running);
                        todo.extend(unretried_step(unretried));
                    }
                    Ok(Attempt { ended, running, unretried, .. }) => {
                        // Each rule takes up to BATCH rows, so a short batch is short for every rule.
                        if let Next::Batch(action) = next
                            && ended.len() + running.len() + unretried.len() >= BATCH as usize
                        {
                            todo.push(Step::End(Next::Batch(action)));
                        }
                        todo.extend(unretried_step(unretried));
                        self.note(&next, running);
                        return Ok(Some((ended, todo)));
                    }
                    Err(error) if self.records.at_fault(version, &error).await? => todo.push(Step::End(next)),
                    Err(error) if error.of_a_row() || (self.may_retry(&next) && error.answered()) => {
                        self.split(next, error, &mut todo).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        })
    }

    /// Adds the halves of a refused statement to the list, or records its rows as refused if it is not split further.
    async fn split(&self, next: Next, error: DbError, todo: &mut Vec<Step>) -> Result<(), DbError> {
        // A row that cannot even be failed keeps running.
        let unretried = matches!(next, Next::Unretried(_));
        let may_retry = self.may_retry(&next);
        let (action, ids) = match next {
            Next::These(action, ids) => (action, ids),
            Next::Unretried(ids) => (OnStale::Retry, ids),
            Next::Batch(action) => {
                let ids = self.database.within(async { Ok(self.candidates(action).await?) }).await?;
                todo.push(Step::End(Next::Batch(action)));
                (action, ids)
            }
        };
        // Without a row, the server objects to something else, for example because a privilege was revoked.
        if ids.is_empty() {
            return Err(error);
        }
        let these = |ids: &[String]| {
            let ids = ids.to_vec();
            Step::End(if unretried { Next::Unretried(ids) } else { Next::These(action, ids) })
        };
        let mut refusals = self.refusals();
        refusals.statements += 1;
        let grain = BISECT_STEPS.iter().find(|(statements, _)| refusals.statements <= *statements);
        if grain.is_none() {
            // This is enough for one sweep; the next one skips the rows that are known by then.
            todo.clear();
        }
        if may_retry {
            // They are ended nevertheless. Their retries wait, and are tried again.
            todo.push(Step::End(Next::Unretried(ids)));
            return Ok(());
        }
        if grain.is_some_and(|(_, grain)| ids.len() > *grain) {
            let (first, second) = ids.split_at(ids.len() / 2);
            todo.extend([these(second), these(first)]);
            return Ok(());
        }
        let many = if ids.len() > 1 { "refused together with others: " } else { "" };
        let why = format!("{many}{error}");
        // The connection at the other end may have found some of them already.
        for id in ids {
            refusals.rows.entry(id).or_insert_with(|| why.clone());
        }
        Ok(())
    }

    /// Adds the rows that keep running after a statement that succeeded to the refusals.
    fn note(&self, next: &Next, running: Vec<Running>) {
        let asks = matches!(next, Next::Batch(OnStale::Cancel) | Next::These(OnStale::Cancel, _));
        let why = |written| match written {
            Written::Completed | Written::Unmatched => None,
            Written::Running if asks => Some(ASKED),
            Written::Running => Some(
                "a trigger of the table leaves it running, or writes a status that is not in the mapping",
            ),
            Written::Not => Some("a trigger of the table leaves it unchanged"),
        };
        let told = running.into_iter().filter_map(|row| Some((row.id, why(row.written)?.to_owned())));
        self.refusals().rows.extend(told);
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the statement that ends rows with this action. Without a record, the operator itself retries nothing.
    fn statement(&self, ledger: &Ledger, among: IdFilter, action: OnStale, at_once: bool) -> String {
        let own = action == OnStale::Retry && self.predicate.mapping.retries_by_operator();
        if own && matches!(ledger, Ledger::Tables { .. }) {
            retrying(self.predicate, ledger, self.end, among, at_once)
        } else {
            statement(self.predicate, ledger, self.end, among, action)
        }
    }

    async fn attempt(&self, next: &Next, ledger: &Ledger) -> Result<Attempt, sqlx::Error> {
        let (action, among, ids) = match next {
            Next::Batch(action) => (*action, IdFilter::Others, self.refused()),
            Next::These(action, ids) => (*action, IdFilter::These, ids.clone()),
            Next::Unretried(ids) => (OnStale::Retry, IdFilter::These, ids.clone()),
        };
        let mut tx = self.database.write().await?;
        let at_once = match ledger {
            // While another batch uses the budget, the retries of this one wait.
            Ledger::Tables { store_id, .. } if self.may_retry(next) => {
                retry::take_turn(&mut tx, self.predicate, *store_id).await?
            }
            _ => false,
        };
        let statement = self.statement(ledger, among, action, at_once);
        let mut query = self.predicate.bind(sqlx::query(AssertSqlSafe(statement.as_str()))).bind(ids);
        let recorded = if let Ledger::Tables { store_id, .. } = ledger {
            query = query.bind(self.sweep.id).bind(self.sweep.trigger.as_str()).bind(store_id);
            true
        } else {
            false
        };
        // Rows are decoded while the server still produces the next ones.
        let rows = query.persistent(false).try_map(|row| read(&row, recorded)).fetch_all(&mut *tx).await?;
        let (mut ended, mut running) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(row) => ended.push(row),
                Err(row) => running.push(row),
            }
        }
        let none = ended.is_empty() && running.is_empty();
        let of_another = none && !self.may_end(&mut tx).await?;
        if running.iter().any(|row| row.written == Written::Unmatched) {
            tx.rollback().await?;
            let ids = ended.into_iter().map(|row| row.id);
            running.retain(|row| row.written != Written::Unmatched);
            let unmatched = ids.chain(running.into_iter().map(|row| row.id)).collect();
            return Ok(Attempt { undone: true, unretried: unmatched, ..Attempt::default() });
        }
        // A cancellation may be a request to the worker, which the trigger has written. Any other action that leaves a row running
        // has to leave it as it was.
        let wrote = |what: Written| running.iter().any(|row| row.written == what);
        let undone = action != OnStale::Cancel && wrote(Written::Running);
        let kept = !ended.is_empty() || wrote(Written::Completed) || wrote(Written::Running);
        if undone || !kept {
            // There is nothing to keep, and a trigger that reports changes must not report any.
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        if undone {
            ended.clear();
        }
        if self.may_retry(next) {
            // The table does not let them run again. It may let them fail.
            let refused = running.extract_if(.., |row| row.written != Written::Completed);
            let unretried = refused.map(|row| row.id).collect();
            return Ok(Attempt { ended, running, undone, unretried, of_another });
        }
        Ok(Attempt { ended, running, undone, unretried: Vec::new(), of_another })
    }

    /// Reports whether the statement has the operator itself run executions again.
    fn may_retry(&self, next: &Next) -> bool {
        matches!(next, Next::Batch(OnStale::Retry) | Next::These(OnStale::Retry, _))
            && self.predicate.mapping.retries_by_operator()
    }

    /// Reports whether rows may still be ended: the record with the rules belongs to the table, and its adapter is complete.
    async fn may_end(&self, tx: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let store_id = match self.predicate.rules {
            Rules::Table(store_id) => Some(store_id),
            Rules::Memory => None,
        };
        let Some(may_end) = self.predicate.mapping.may_end(store_id.map(|_| "$1")) else { return Ok(true) };
        // Postgres has to know the type of the parameter even if nothing refers to it.
        let sql = format!("SELECT COALESCE({may_end}, false) OR $1::bigint < 0");
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(store_id.unwrap_or_default())
            .persistent(false)
            .fetch_one(tx)
            .await
    }

    /// Returns the ids of the rows that the next batch with this action would select.
    async fn candidates(&self, action: OnStale) -> Result<Vec<String>, sqlx::Error> {
        let predicate = self.predicate.with_action(action);
        let ctes = predicate.ctes(Selection::LookAt(BATCH, self.end, IdFilter::Others));
        let sql = format!("WITH {ctes} SELECT id::text FROM stale");
        let mut tx = self.database.read().await?;
        let query = self.predicate.bind(sqlx::query(AssertSqlSafe(sql.as_str())));
        let query = query.bind(self.refused()).persistent(false);
        let ids = query.try_map(|row: PgRow| row.try_get(0)).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(ids)
    }

    /// Returns the ids of the rows that are known to be refused.
    fn refused(&self) -> Vec<String> {
        self.refusals().rows.keys().cloned().collect()
    }
}

/// Returns the step that ends these rows without having them run again, if there are any.
fn unretried_step(ids: Vec<String>) -> Option<Step> {
    (!ids.is_empty()).then_some(Step::End(Next::Unretried(ids)))
}

/// Tries `attempt` again after a transient error, `most` times in all. The guard in the statement makes a second try harmless, even if the first one was
/// committed and only the confirmation was lost.
async fn with_retries<T, F>(
    database: &Database,
    most: u32,
    mut attempt: impl FnMut() -> F,
    again: impl Fn(),
) -> Result<T, DbError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        // The inner result keeps the server's error, which decides whether to try again.
        match database.within(async { Ok(attempt().await) }).await? {
            Err(error) if tries < most && DbError::transient(&error) => {
                tracing::debug!(error = line(&error.to_string()), tries, "trying a batch once more");
                again();
                tokio::time::sleep(Duration::from_millis(20 << tries)).await;
            }
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_rows_are_forgotten_once_before_they_are_tried_with_each_action() {
        let known = [Refused { id: "7".to_owned(), why: "no".to_owned() }];
        let mut todo = again(&known, &[OnStale::Retry, OnStale::Fail]);
        assert!(matches!(todo.pop(), Some(Step::Forget(ids)) if ids == ["7"]));
        assert!(matches!(todo.pop(), Some(Step::End(Next::These(OnStale::Fail, _)))));
        assert!(matches!(todo.pop(), Some(Step::End(Next::These(OnStale::Retry, _)))));
        assert!(todo.is_empty());
    }
}
