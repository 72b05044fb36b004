//! The execution controller keeps `JobExecution` objects in step with rows. It works store by store, not object by object:
//! one query reads all rows that matter (`desk`, `rows`), the plan is what differs (`plan`, `verdict`, `names`), and only that is
//! written (`apply`).

mod apply;
mod desk;
pub mod names;
mod object;
mod plan;
mod rows;
mod unreadable;
mod verdict;
mod wakes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::watcher;
use tokio::task::{self, JoinSet};

use super::Context;
use super::cached::EXECUTION_PAGE;
use super::context::Guarded;
use crate::api::JobExecution;
use crate::boundary::{Place, caught_now};
use desk::Desk;
pub use desk::SyncStatus;
pub use wakes::{Key, Wakes};

/// How it is called where reconciles are counted; one is a pass over the objects of a store.
const CONTROLLER: &str = "jobexecution";

/// The pause before a desk is set up again that did not end by itself.
const AFTER_DISORDER: Duration = Duration::from_secs(10);

/// How the objects are watched.
pub fn watched() -> watcher::Config {
    watcher::Config::default().page_size(EXECUTION_PAGE)
}

/// Runs until the operator is asked to stop and every write under way has ended.
pub async fn run(
    context: Arc<Context>,
    events: impl Stream<Item = Result<watcher::Event<Guarded<JobExecution>>, watcher::Error>> + Send,
) {
    let mut events = std::pin::pin!(events);
    let mut desks = Desks::new();
    let mut work = JoinSet::new();
    loop {
        tokio::select! {
            Some(Ok(event)) = events.next() => {
                // One object must not end the watch of all.
                let _ = caught_now(Place::Watch, || heard(&context, &desks, &event));
            }
            keys = context.wakes.next() => for key in keys {
                if !context.owns(&key.namespace, &key.store) && !desks.contains_key(&key) {
                    continue;
                }
                if let Some((desk, _)) = desks.get(&key) {
                    desk.wake();
                    continue;
                }
                // A new one makes a pass unasked.
                let desk = Arc::new(Desk::new(key.clone()));
                let task = work.spawn(desk.clone().run(context.clone())).id();
                desks.insert(key, (desk, task));
            },
            // A desk ends when there is nothing left for it.
            Some(ended) = work.join_next() => left(&context, &mut desks, ended),
            () = context.stop.cancelled() => break,
        }
    }
    while work.join_next().await.is_some() {}
}

/// The desks, each with its task.
type Desks = HashMap<Key, (Arc<Desk>, task::Id)>;

/// A desk has ended. It is set up again if somebody asked for it meanwhile, or if it did not end by itself.
fn left(context: &Arc<Context>, desks: &mut Desks, ended: Result<Key, task::JoinError>) {
    match ended {
        Ok(key) => {
            if desks.remove(&key).is_some_and(|(desk, _)| desk.is_awake()) {
                context.wakes.put(key);
            }
        }
        Err(error) => {
            tracing::error!(
                panicked = error.is_panic(),
                "the work on the objects of a store has ended in disorder"
            );
            let of =
                |(key, (_, task)): (&Key, &(Arc<Desk>, task::Id))| (*task == error.id()).then(|| key.clone());
            if let Some(key) = desks.iter().find_map(of) {
                desks.remove(&key);
                let context = context.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(AFTER_DISORDER).await;
                    context.wakes.put(key);
                });
            }
        }
    }
}

/// What a change of objects means: somebody asks for something, an object is new or gone. What the operator itself has
/// written brings nobody back.
fn heard(context: &Context, desks: &Desks, event: &watcher::Event<Guarded<JobExecution>>) {
    match event {
        watcher::Event::Init | watcher::Event::InitApply(_) => {}
        watcher::Event::InitDone => context.wakes.wake_all(context.execution_keys()),
        watcher::Event::Delete(guarded) => {
            if let Ok(execution) = &guarded.0 {
                let key = Key::of(execution);
                if execution.spec.asks() {
                    // The rule that it left behind must go too.
                    context.nudge_store(&key.namespace, &key.store);
                }
                context.wakes.put(key);
            }
        }
        watcher::Event::Apply(guarded) => match &guarded.0 {
            Err(invalid) => context.wakes.put(Key::unreadable(invalid.metadata.namespace.as_ref())),
            Ok(execution) => {
                let observed = execution.status.as_ref().and_then(|status| status.observed_generation);
                let new = observed.is_none() && !plan::is_made(execution);
                let asks = execution.spec.asks() || execution.metadata.generation > Some(1);
                if new || (asks && observed != execution.metadata.generation) {
                    let key = Key::of(execution);
                    if let Some((desk, _)) = desks.get(&key) {
                        desk.hurry();
                    }
                    context.wakes.put(key);
                }
            }
        },
    }
}

/// What is pending, if anything is, without waiting for it.
fn taken(notify: &tokio::sync::Notify) -> bool {
    notify.notified().now_or_never().is_some()
}
