//! The checks before a clean-up: the same as before a sweep. A dry run makes them too.

use super::problem::Problem;
use super::stores::OpenStore;
use crate::api::ExecutionStore;
use crate::db::heartbeats::{self, Watch};
use crate::db::workloads as observed_workloads;
use crate::session::not_ready::NotReady;
use crate::session::{Context, workloads};

/// A store that passed the checks.
pub(super) struct Preflight {
    pub(super) open: OpenStore,
    /// The object that the session was opened for.
    pub(super) store: ExecutionStore,
    /// Whether evidence other than deadlines is current. If not, only deadlines count.
    pub(super) evidence: bool,
}

impl OpenStore {
    /// Checks that rows may be ended: the table accepts writes and still belongs to the store, the session matches the
    /// current spec, and the rules in the database match the specs. Then updates the evidence.
    pub(super) async fn preflight(mut self, context: &Context) -> Result<Preflight, Problem> {
        let store = self.current_spec(context)?;
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
        let effective_rules = self.session.sync_rules(context, &store, true).await;
        self.effective_rules = effective_rules.map_err(|error| self.failed(error))?.ok_or_else(|| {
            let message = "waiting for the JobExecution and ExecutionPolicy caches to sync";
            self.not_ready("CacheNotSynced", message.to_owned())
        })?;
        let evidence = self.refresh_workloads(context, &store).await?;
        self.refresh_heartbeats(&store).await?;
        Ok(Preflight { open: self, store, evidence })
    }

    /// Returns the object, if the session still matches it.
    fn current_spec(&self, context: &Context) -> Result<ExecutionStore, Problem> {
        let object = context.store(&self.name.namespace, &self.name.name);
        let object = object.ok_or_else(|| Problem::StoreNotFound(self.name.to_string()))?;
        match &object.0 {
            Ok(store) if self.session.describes(store) => Ok(store.clone()),
            _ => Err(self.changed(context)),
        }
    }

    /// Returns the error for a store that has changed, and makes the operator connect again.
    pub(super) fn changed(&self, context: &Context) -> Problem {
        self.invalidate();
        context.enqueue_store(&self.name.namespace, &self.name.name);
        let message = "its spec or its table has just changed: try again soon";
        self.not_ready("Changed", message.to_owned())
    }

    /// Updates the state of workloads, since an old state must not end executions. Returns whether it is current.
    async fn refresh_workloads(&self, context: &Context, store: &ExecutionStore) -> Result<bool, Problem> {
        if self.session.workloads.is_none() {
            return Ok(true);
        }
        let workloads = match workloads::see(context, store, &self.session.mapping).await {
            Ok(workloads) => workloads,
            Err(error) => {
                tracing::warn!(store = %self.name, %error, "cannot read the state of workloads: only deadlines count");
                return Ok(false);
            }
        };
        let (database, predicate) = (&self.session.database, self.session.predicate(&self.effective_rules));
        let recreated = store.spec.workloads.as_ref().map(|w| w.recreated).unwrap_or_default();
        let updated = database
            .within(observed_workloads::update(database, &predicate, Some(&workloads), recreated))
            .await;
        updated.map(|()| true).map_err(|error| self.failed(error))
    }

    /// Updates the state of heartbeats, so that executions are withheld for the same reasons as in a sweep, even
    /// before the first sweep.
    async fn refresh_heartbeats(&self, store: &ExecutionStore) -> Result<(), Problem> {
        let (database, predicate) = (&self.session.database, self.session.predicate(&self.effective_rules));
        let mut watch = Watch::default();
        let every = store.spec.poll_interval.to_chrono();
        let updated = database.within(heartbeats::update(database, &predicate, &mut watch, every)).await;
        updated.map_err(|error| self.failed(error))?;
        self.session.note_heartbeats(watch.seen());
        Ok(())
    }

    fn not_ready(&self, why: &str, message: String) -> Problem {
        Problem::StoreNotReady { store: self.name.to_string(), why: why.to_owned(), message }
    }
}
