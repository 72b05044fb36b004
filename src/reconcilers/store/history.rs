//! Refreshes the timeouts that policies compute from history, beside enforcement and one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::task::AbortOnDropHandle;

use crate::boundary::{Place, caught};
use crate::db::history::{self, Question};
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The time for which a reconcile waits for a timeout that was never computed, so that nothing is judged without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause before a failed query is tried again.
const RETRY: Duration = Duration::from_mins(1);

/// The most that the time of a computed timeout may lie ahead of the last reconcile.
const CLOCK: TimeDelta = TimeDelta::hours(1);

/// Refreshes the computed timeouts of one session.
#[derive(Default)]
pub(super) struct HistoryRefresher {
    /// The generation and the time of each policy's last query, by the UID of the policy.
    asked: HashMap<String, (i64, Instant)>,
    under_way: Option<AbortOnDropHandle<()>>,
}

impl HistoryRefresher {
    /// Starts the queries that are due, and waits only for timeouts that were never computed. `answered` is called when
    /// there are new ones. Returns whether there are new ones already.
    pub(super) async fn ask(
        &mut self,
        store: &str,
        session: &Arc<Session>,
        effective_rules: &EffectiveRules,
        now: DateTime<Utc>,
        answered: impl FnOnce() + Send + 'static,
    ) -> bool {
        if self.under_way.as_ref().is_some_and(AbortOnDropHandle::is_finished) {
            self.under_way = None;
        }
        let questions: Vec<&Question> =
            effective_rules.policies.iter().filter_map(|read| read.question.as_ref()).collect();
        let due: Vec<Question> =
            questions.iter().filter(|q| self.is_due(session, q, now)).copied().cloned().collect();
        let ask = self.under_way.is_none() && !due.is_empty();
        if ask {
            for question in &due {
                self.asked.insert(question.uid.clone(), (question.generation, Instant::now()));
            }
            let asking: Vec<String> = questions.iter().map(|q| q.uid.clone()).collect();
            let (store, session) = (store.to_owned(), session.clone());
            self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                // If it panics, it is tried again after a pause, as after an error.
                let asked = caught(Place::Background, ask_all(&store, &session, due, &asking)).await;
                if asked.unwrap_or(false) {
                    answered();
                }
            })));
        }
        let unanswered = || {
            let history = session.history();
            questions.iter().any(|q| !history.contains_key(&q.uid))
        };
        // Waits only once: no deadline waits repeatedly for a slow query.
        if let Some(task) = &mut self.under_way
            && ask
            && unanswered()
        {
            return tokio::time::timeout(PATIENCE, task).await.is_ok();
        }
        false
    }

    fn is_due(&self, session: &Session, question: &Question, now: DateTime<Utc>) -> bool {
        let asked = self.asked.get(&question.uid);
        if asked.is_some_and(|(generation, at)| *generation == question.generation && at.elapsed() < RETRY) {
            return false;
        }
        session.history().get(&question.uid).is_none_or(|counts| {
            // A time in the future is invalid: somebody has changed it, or the clock of the database has changed.
            counts.generation != question.generation
                || counts.computed_at > now + CLOCK
                || now - counts.computed_at >= question.spec.refresh_interval.to_chrono()
        })
    }
}

/// Computes the timeouts, and returns whether there is a new one. A failure stops nothing else: the last computed
/// timeouts stay in effect.
async fn ask_all(store: &str, session: &Session, due: Vec<Question>, asking: &[String]) -> bool {
    let _reading = session.database.reading().await;
    let database = &session.database;
    let mut answered = false;
    for question in due {
        let begun = Instant::now();
        let outcome = async {
            let counts = database.within(history::ask(database, &session.mapping, &question)).await?;
            database.within(history::keep(database, &session.ledger, &question, &counts)).await?;
            Ok::<_, crate::db::DbError>(counts)
        };
        match outcome.await {
            Ok(counts) => {
                tracing::info!(
                    store,
                    policy = question.name,
                    timeouts = counts.computed.len(),
                    took_ms = begun.elapsed().as_millis(),
                    "timeouts computed from history"
                );
                session.history().insert(question.uid, counts);
                answered = true;
            }
            Err(error) => {
                session.counters.failed(error.reason());
                tracing::warn!(store, policy = question.name, %error, "timeouts could not be computed from history");
            }
        }
    }
    if answered {
        session.history().retain(|uid, _| asking.contains(uid));
        if let Err(error) = database.within(history::forget(database, &session.ledger, asking)).await {
            tracing::debug!(store, %error, "what history said to policies that are gone was not forgotten");
        }
    }
    answered
}
