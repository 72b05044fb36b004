//! Work beside reconciliation, for which a reconcile waits only a moment: a result that comes later triggers another
//! reconcile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::boundary::{Panicked, Place, caught};

/// The time that later reconciles wait: the end of the work has triggered them.
const INSTANT: Duration = Duration::from_millis(10);

/// A task that runs beside reconciliation.
pub(super) struct BackgroundTask<T> {
    task: AbortOnDropHandle<Result<T, Panicked>>,
    /// Set by whichever comes first: the end of the task, or a reconcile that goes on without it. Whichever comes second
    /// makes sure that the result is used.
    parted: Arc<AtomicBool>,
    /// True if a reconcile went on without the result.
    left: bool,
}

impl<T: Send + 'static> BackgroundTask<T> {
    /// Starts the work. When it ends, `nudge` is called if no reconcile waits for it any more.
    pub(super) fn begin(
        work: impl Future<Output = T> + Send + 'static,
        nudge: impl FnOnce() + Send + 'static,
    ) -> Self {
        let parted = Arc::new(AtomicBool::new(false));
        let ended = parted.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let outcome = caught(Place::Background, work).await;
            if ended.swap(true, Ordering::AcqRel) {
                nudge();
            }
            outcome
        }));
        Self { task, parted, left: false }
    }

    /// Waits for the result: up to `patience` the first time, and for a moment after that. Returns `None` if the work
    /// still runs. Must not be called again after it has returned a result. An error means that the work panicked.
    pub(super) async fn wait(&mut self, patience: Duration) -> Option<Result<T, Panicked>> {
        let patience = if self.left { INSTANT } else { patience };
        if let Ok(outcome) = tokio::time::timeout(patience, &mut self.task).await {
            return Some(flat(outcome));
        }
        let ended = !std::mem::replace(&mut self.left, true) && self.parted.swap(true, Ordering::AcqRel);
        if ended { Some(flat((&mut self.task).await)) } else { None }
    }
}

/// A task that no longer exists, as at the end of the process, counts as one that panicked.
fn flat<T>(outcome: Result<Result<T, Panicked>, tokio::task::JoinError>) -> Result<T, Panicked> {
    outcome.unwrap_or(Err(Panicked(Place::Background)))
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Notify, oneshot};

    use super::*;

    fn begin() -> (oneshot::Sender<u8>, Arc<Notify>, BackgroundTask<u8>) {
        let (end, ends) = oneshot::channel();
        let nudged = Arc::new(Notify::new());
        let nudge = nudged.clone();
        (end, nudged, BackgroundTask::begin(async { ends.await.unwrap() }, move || nudge.notify_one()))
    }

    #[tokio::test]
    async fn what_comes_in_time_brings_no_look_of_its_own() {
        let (end, nudged, mut background) = begin();
        end.send(7).unwrap();
        assert_eq!(background.wait(Duration::from_mins(1)).await.unwrap().unwrap(), 7);
        assert!(tokio::time::timeout(Duration::ZERO, nudged.notified()).await.is_err());
    }

    #[tokio::test]
    async fn a_panic_is_told_and_brings_a_look_like_any_end() {
        let nudged = Arc::new(Notify::new());
        let nudge = nudged.clone();
        let (end, ends) = oneshot::channel::<()>();
        let work = async {
            ends.await.unwrap();
            panic!("no counts");
        };
        let mut background: BackgroundTask<u8> = BackgroundTask::begin(work, move || nudge.notify_one());
        assert!(background.wait(Duration::ZERO).await.is_none());
        end.send(()).unwrap();
        nudged.notified().await;
        assert!(background.wait(Duration::ZERO).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_comes_late_brings_the_look_that_takes_it() {
        let (end, nudged, mut background) = begin();
        for _ in 0..2 {
            assert!(background.wait(Duration::ZERO).await.is_none());
        }
        end.send(7).unwrap();
        nudged.notified().await;
        assert_eq!(background.wait(Duration::ZERO).await.unwrap().unwrap(), 7);
    }
}
