//! Tell: speaks to Kubernetes on behalf of a store, one call after the other and apart from the looks, so that no
//! deadline ever waits for Kubernetes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use uuid::Uuid;

use super::Handle;
use super::report::report;
use super::schedule::RECHECK;
use super::slot::{Unrecorded, Untold};
use crate::api::{ExecutionStore, ExecutionStoreStatus};
use crate::boundary::{Place, caught};
use crate::controllers::Context;
use crate::controllers::context::{backoff, newer};
use crate::controllers::secret::SecretError;
use crate::controllers::session::Credentials;

/// How many executions an Event names.
pub(super) const SAMPLE: u8 = 5;

/// What Kubernetes was told of a store, and what it still has to be.
#[derive(Default)]
pub(super) struct Told {
    uid: String,
    /// The status last written, and the version of the object with it.
    pub(super) written: Option<(Option<String>, ExecutionStoreStatus)>,
    /// When that was.
    pub(super) wrote: Option<Instant>,
    /// Whether a sweep may still have to be announced.
    pub(super) untold: bool,
    /// Those that are known to have ended, and since when.
    closed: Vec<(Uuid, Instant)>,
    /// What was failed, is recorded nowhere, and was not announced yet.
    pub(super) unrecorded: Option<Unrecorded>,
    /// How often in a row an announcement failed, and when to try again.
    pub(super) refused: Option<(u32, Instant)>,
}

/// How long it is of use to know that a sweep has ended: after a minute without a batch everybody takes it for ended.
const KNOWN: Duration = Duration::from_mins(2);

impl Told {
    /// Notes sweeps that have ended. While Events are refused they do not become ever more.
    pub(super) fn close(&mut self, sweeps: &mut Vec<Uuid>) {
        let now = Instant::now();
        self.closed.retain(|(_, since)| now.duration_since(*since) < KNOWN);
        self.closed.extend(sweeps.drain(..).map(|sweep| (sweep, now)));
    }

    /// The sweeps that are known to have ended.
    pub(super) fn closed(&self) -> Vec<Uuid> {
        self.closed.iter().map(|(sweep, _)| *sweep).collect()
    }

    /// All of them were announced.
    pub(super) fn announced(&mut self) {
        self.closed.clear();
    }

    /// The status of the store as it is now: the one that was written, as long as the cache has not caught up.
    pub(super) fn status(&self, context: &Context, store: &ExecutionStore) -> ExecutionStoreStatus {
        let cached = context.store(&store.namespace().unwrap_or_default(), &store.name_any());
        let cached = cached.as_ref().and_then(|guarded| guarded.0.as_ref().ok());
        let latest = cached.filter(|cached| cached.uid() == store.uid()).unwrap_or(store);
        match &self.written {
            Some((version, status)) if newer(version.as_ref(), latest.metadata.resource_version.as_ref()) => {
                status.clone()
            }
            _ => latest.status.clone().unwrap_or_default(),
        }
    }
}

/// Has Kubernetes told of a look, after those that it is being told of.
pub(super) fn tell(context: &Arc<Context>, handle: &Arc<Handle>, untold: Untold) {
    if handle.slot.put(untold) {
        let (teller, handle) = (context.clone(), handle.clone());
        context.tellers.spawn(async move { keep_telling(&teller, &handle).await });
    }
}

/// Tells until nothing is pending. After a panic it goes on with what is pending then: if it just ended, nobody would be sent again.
async fn keep_telling(context: &Arc<Context>, handle: &Handle) {
    let mut panics = 0;
    while caught(Place::Report, Box::pin(tell_all(context, handle))).await.is_err() {
        // What was written is read again, and a sweep that may not have been announced is looked for in the database.
        let mut told = handle.told.lock().await;
        *told = Told { uid: std::mem::take(&mut told.uid), untold: true, ..Told::default() };
        drop(told);
        panics += 1;
        tokio::select! {
            () = tokio::time::sleep(backoff(panics)) => {}
            () = context.stop.cancelled() => return,
        }
    }
}

async fn tell_all(context: &Arc<Context>, handle: &Handle) {
    let mut told = handle.told.lock().await;
    let mut failures = 0;
    while let Some(mut untold) = handle.slot.take() {
        let uid = untold.store.uid().unwrap_or_default();
        if told.uid != uid {
            *told = Told { uid, ..Told::default() };
        }
        let outcome = Box::pin(report(context, &mut untold, &mut told)).await;
        refresh(context, &untold.store, handle).await;
        let pause = match outcome {
            Ok(None) => {
                failures = 0;
                continue;
            }
            Ok(Some(pause)) => pause,
            Err(error) => {
                let store = ObjectRef::from_obj(&untold.store);
                tracing::warn!(%store, %error, "Kubernetes could not be told of the store");
                failures += 1;
                backoff(failures)
            }
        };
        if !context.looks_after(&untold.store) {
            // Whoever does tells what is left; should it be looked after here again, the next look does.
            if handle.slot.rest(untold) {
                return;
            }
            continue;
        }
        handle.slot.give_back(untold);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // What could wait is told before the end; what failed is told by the next operator.
            () = context.stop.cancelled() => if failures > 0 { return },
            // Another look may say what cannot wait.
            () = handle.slot.changed(), if failures == 0 => {}
        }
    }
}

/// Reads the Secrets again where that is due: each minute, and when there is no session, since the password may be
/// why. The next look uses what they hold then; until it is known, what they held before.
async fn refresh(context: &Context, store: &ExecutionStore, handle: &Handle) {
    let Some(known) = handle.credentials(&store.spec.connection) else { return };
    if handle.session().is_some() && handle.credentials_age().is_some_and(|age| age < RECHECK) {
        return;
    }
    let now = match Credentials::read(context, store).await {
        Ok(read) => Some(Arc::new(read)),
        // That Kubernetes is away is no reason to close a connection that works.
        Err(SecretError::Unavailable(..)) => Some(known.clone()),
        Err(_) => None,
    };
    let changed = now.as_ref() != Some(&known);
    handle.keep(now);
    if changed {
        context.nudge_store(&store.namespace().unwrap_or_default(), &store.name_any());
    }
}
