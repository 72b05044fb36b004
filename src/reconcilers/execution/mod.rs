//! The execution controller keeps `JobExecution` objects in sync with rows. It works store by store, not object by
//! object: one query reads all relevant rows (`worker`, `rows`), the plan holds the differences (`plan`, `status`,
//! `names`), and only those are written (`apply`).

mod apply;
pub mod names;
mod news;
mod object;
mod plan;
mod rows;
mod status;
mod undecodable;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::runtime::watcher;
use tokio::task::{self, JoinSet};

use crate::api::JobExecution;
use crate::boundary::{Place, caught_now};
use crate::kubernetes::cached::EXECUTION_PAGE;
use crate::kubernetes::guarded::Guarded;
use crate::kubernetes::queue::StoreKey as Key;
use crate::session::context::Context;
use worker::Worker;

/// The pause before a worker that ended unexpectedly is started again.
const RESTART_DELAY: Duration = Duration::from_secs(10);

/// The watch for the objects.
pub fn watched() -> watcher::Config {
    watcher::Config::default().page_size(EXECUTION_PAGE)
}

/// Runs until the operator is asked to stop and every current write has ended.
pub async fn run(
    context: Arc<Context>,
    events: impl Stream<Item = Result<watcher::Event<Guarded<JobExecution>>, watcher::Error>> + Send,
) {
    let mut events = std::pin::pin!(events);
    let mut workers = Workers::new();
    let mut work = JoinSet::new();
    loop {
        tokio::select! {
            Some(Ok(event)) = events.next() => {
                // One object must not end the watch for all of them.
                let _ = caught_now(Place::Watch, || handle_event(&context, &workers, &event));
            }
            keys = context.queue.executions.take() => for key in keys {
                if !context.owns(&key.namespace, &key.store) && !workers.contains_key(&key) {
                    continue;
                }
                if let Some((worker, _)) = workers.get(&key) {
                    worker.wake();
                    continue;
                }
                // A new worker starts with a pass.
                let worker = Arc::new(Worker::new(key.clone()));
                let task = work.spawn(worker.clone().run(context.clone())).id();
                workers.insert(key, (worker, task));
            },
            // A worker ends when nothing is left for it.
            Some(ended) = work.join_next() => handle_exit(&context, &mut workers, ended),
            () = context.stop.cancelled() => break,
        }
    }
    while work.join_next().await.is_some() {}
}

/// The workers, each with its task.
type Workers = HashMap<Key, (Arc<Worker>, task::Id)>;

/// Removes a worker that has ended. It is started again if a pass was requested meanwhile, or if it ended unexpectedly.
fn handle_exit(context: &Arc<Context>, workers: &mut Workers, ended: Result<Key, task::JoinError>) {
    match ended {
        Ok(key) => {
            if workers.remove(&key).is_some_and(|(worker, _)| worker.has_pending()) {
                context.queue.executions.add(key);
            }
        }
        Err(error) => {
            tracing::error!(
                panicked = error.is_panic(),
                "the work on the objects of a store has ended in disorder"
            );
            let of = |(key, (_, task)): (&Key, &(Arc<Worker>, task::Id))| {
                (*task == error.id()).then(|| key.clone())
            };
            if let Some(key) = workers.iter().find_map(of) {
                workers.remove(&key);
                let context = context.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(RESTART_DELAY).await;
                    context.queue.executions.add(key);
                });
            }
        }
    }
}

/// Enqueues the work that a change of an object requires: its spec asks for something, or it is new or gone. The
/// operator's own writes trigger nothing.
fn handle_event(context: &Context, workers: &Workers, event: &watcher::Event<Guarded<JobExecution>>) {
    match event {
        watcher::Event::Init | watcher::Event::InitApply(_) => {}
        watcher::Event::InitDone => context.queue.executions.add_all(context.execution_keys()),
        watcher::Event::Delete(guarded) => {
            if let Ok(execution) = &guarded.0 {
                let key = Key::of(execution);
                if execution.spec.asks() {
                    // Its rule must be removed too.
                    context.enqueue_store(&key.namespace, &key.store);
                }
                context.queue.executions.add(key);
            }
        }
        watcher::Event::Apply(guarded) => match &guarded.0 {
            Err(invalid) => {
                context.queue.executions.add(Key::undecodable(invalid.metadata.namespace.as_ref()));
            }
            Ok(execution) => {
                let observed = execution.status.as_ref().and_then(|status| status.observed_generation);
                let new = observed.is_none() && !plan::is_operator_owned(execution);
                let asks = execution.spec.asks() || execution.metadata.generation > Some(1);
                if new || (asks && observed != execution.metadata.generation) {
                    let key = Key::of(execution);
                    if let Some((worker, _)) = workers.get(&key) {
                        worker.interrupt();
                    }
                    context.queue.executions.add(key);
                }
            }
        },
    }
}
