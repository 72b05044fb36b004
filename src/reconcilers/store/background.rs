//! Work beside the looks at a store, for which a look waits only a moment: what comes later brings a look of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::boundary::{Panicked, Place, caught};

/// How long later looks wait, which come because it has ended.
const INSTANT: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct BackgroundTask<T> {
    task: AbortOnDropHandle<Result<T, Panicked>>,
    /// Set by whichever comes first, the end or the look that goes on without it: the other one sees to it that what came of
    /// it is told.
    parted: Arc<AtomicBool>,
    /// Whether a look has gone on without it.
    left: bool,
}

impl<T: Send + 'static> BackgroundTask<T> {
    /// Begins it. At its end `nudge` is called if no look waits for it any more.
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

    /// Waits so long the first time, and then hardly; `None`: it goes on. Not to be called again after its outcome. The error
    /// says that it panicked.
    pub(super) async fn wait(&mut self, patience: Duration) -> Option<Result<T, Panicked>> {
        let patience = if self.left { INSTANT } else { patience };
        if let Ok(outcome) = tokio::time::timeout(patience, &mut self.task).await {
            return Some(flat(outcome));
        }
        let ended = !std::mem::replace(&mut self.left, true) && self.parted.swap(true, Ordering::AcqRel);
        if ended { Some(flat((&mut self.task).await)) } else { None }
    }
}

/// A task that is not there any more, as at the end of the process, counts as one that panicked.
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
