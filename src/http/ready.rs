//! What the operator makes sure of before it ends a row is made sure of before it ends one for a caller, or tells him that it
//! would.

use super::problem::Problem;
use super::stores::Open;
use crate::api::ExecutionStore;
use crate::controllers::session::NotReady;
use crate::controllers::{Context, workloads};
use crate::db::evidence;
use crate::db::heartbeats::{self, Watch};

/// A store that may be written to.
pub(super) struct Ready {
    pub(super) open: Open,
    /// The object that the session describes.
    pub(super) store: ExecutionStore,
    /// Whether evidence other than deadlines is fresh, so that it counts.
    pub(super) evidence: bool,
}

impl Open {
    /// Sees that rows may be ended: the table takes writes and is still the store's, the session describes the spec as it
    /// is now, and what is in force is what people wish.
    pub(super) async fn ready(mut self, context: &Context) -> Result<Ready, Problem> {
        let store = self.current(context)?;
        match &self.session.unwritable {
            _ if self.session.read_only => {
                let message = "the database is read-only: point the Secret's URL at the primary, or make the database writable";
                return Err(self.not_ready("DatabaseReadOnly", message.to_owned()));
            }
            Some(problem) => return Err(self.not_ready(problem.reason(), problem.to_string())),
            None => {}
        }
        match self.session.still_holds(&store).await {
            Ok(true) => {}
            Ok(false) => return Err(self.changed(context)),
            Err(NotReady::Database(error)) => return Err(self.failed(error)),
            Err(why) => return Err(self.not_ready(why.reason(), why.to_string())),
        }
        let in_force = self.session.bring_in_force(context, &store, true).await;
        self.in_force = in_force.map_err(|error| self.failed(error))?.ok_or_else(|| {
            let message =
                "not all JobExecution and ExecutionPolicy objects have been seen, whose timeouts count";
            self.not_ready("CacheNotSynced", message.to_owned())
        })?;
        let evidence = self.look_at_workloads(context, &store).await?;
        self.look_at_heartbeats(&store).await?;
        Ok(Ready { open: self, store, evidence })
    }

    /// The object, if the session describes it.
    fn current(&self, context: &Context) -> Result<ExecutionStore, Problem> {
        let object = context.store(&self.name.namespace, &self.name.name);
        let object = object.ok_or_else(|| Problem::StoreNotFound(self.name.to_string()))?;
        match &object.0 {
            Ok(store) if self.session.describes(store) => Ok(store.clone()),
            _ => Err(self.changed(context)),
        }
    }

    /// The operator is about to connect anew.
    pub(super) fn changed(&self, context: &Context) -> Problem {
        self.open_anew();
        context.nudge_store(&self.name.namespace, &self.name.name);
        let message = "its spec, its table or what is known of it has just changed: ask again soon";
        self.not_ready("Changed", message.to_owned())
    }

    /// What was seen of workloads a while ago is no reason to end anything now. Returns whether it is fresh.
    async fn look_at_workloads(&self, context: &Context, store: &ExecutionStore) -> Result<bool, Problem> {
        if self.session.workloads.is_none() {
            return Ok(true);
        }
        let seen = match workloads::see(context, store, &self.session.mapping).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(store = %self.name, %error, "it is not known which workloads are alive: only deadlines count");
                return Ok(false);
            }
        };
        let (database, judge) = (&self.session.database, self.session.judge(&self.in_force));
        let recreated = store.spec.workloads.as_ref().map(|w| w.recreated).unwrap_or_default();
        let updated =
            database.within(evidence::update_workloads(database, &judge, Some(&seen), recreated)).await;
        updated.map(|()| true).map_err(|error| self.failed(error))
    }

    /// What the operator would hold is held here too, also before it has looked.
    async fn look_at_heartbeats(&self, store: &ExecutionStore) -> Result<(), Problem> {
        let (database, judge) = (&self.session.database, self.session.judge(&self.in_force));
        let mut watch = Watch::default();
        let every = store.spec.poll_interval.to_chrono();
        let seen = database.within(heartbeats::update(database, &judge, &mut watch, every)).await;
        seen.map_err(|error| self.failed(error))?;
        self.session.note_heartbeats(watch.seen());
        Ok(())
    }

    fn not_ready(&self, why: &str, message: String) -> Problem {
        Problem::StoreNotReady { store: self.name.to_string(), why: why.to_owned(), message }
    }
}
