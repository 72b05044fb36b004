//! Batches sweeps in quick succession into one record and one Event, so that many deadlines at once do not flood the API
//! server with Events. A single sweep is announced at once.

use std::time::{Duration, Instant};

use uuid::Uuid;

/// Sweeps that begin sooner than this after another one are batched, for this long.
const PACE: Duration = Duration::from_secs(5);

/// The open and closed batches of one store. They share their ids with the records in `jobexec.sweeps`.
#[derive(Debug, Default)]
pub(super) struct SweepBatcher {
    open: Option<(Uuid, Instant)>,
    last: Option<Instant>,
    closed: Vec<Uuid>,
}

impl SweepBatcher {
    /// The id of a sweep that begins now. `alone`: the sweep is announced at once, whatever came before it.
    pub(super) fn id(&mut self, now: Instant, alone: bool) -> Uuid {
        self.close(now);
        if let Some((id, _)) = self.open.filter(|_| !alone) {
            return id;
        }
        let id = Uuid::new_v4();
        if !alone && self.last.is_some_and(|last| now.duration_since(last) < PACE) {
            self.open = Some((id, now + PACE));
        } else {
            self.closed.push(id);
        }
        id
    }

    /// Records that a sweep failed at least one execution.
    pub(super) fn failed(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// The batches that can be announced now; each is returned once.
    pub(super) fn take_closed(&mut self, now: Instant) -> Vec<Uuid> {
        self.close(now);
        std::mem::take(&mut self.closed)
    }

    /// The time until the open batch can be announced.
    pub(super) fn closes_in(&self, now: Instant) -> Option<Duration> {
        self.open.map(|(_, until)| until.saturating_duration_since(now))
    }

    fn close(&mut self, now: Instant) {
        if let Some((id, _)) = self.open.take_if(|(_, until)| *until <= now) {
            self.closed.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_sweep_is_told_at_once_and_a_hail_of_them_each_five_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut batcher = SweepBatcher::default();
        let first = batcher.id(at(0), false);
        batcher.failed(at(0));
        assert_eq!(batcher.take_closed(at(0)), [first]);

        let second = batcher.id(at(1), false);
        batcher.failed(at(1));
        assert_eq!(batcher.id(at(3), false), second);
        assert!(batcher.take_closed(at(5)).is_empty());
        assert_eq!(batcher.closes_in(at(5)), Some(Duration::from_secs(1)));
        let asked = batcher.id(at(5), true);
        assert_eq!(batcher.take_closed(at(5)), [asked], "what a person asked for is told at once");
        batcher.failed(at(5));
        let third = batcher.id(at(6), false);
        assert!(third != second && third != asked);
        assert_eq!(batcher.take_closed(at(6)), [second]);
        assert_eq!(batcher.take_closed(at(60)), [third]);
        let alone = batcher.id(at(60), false);
        assert_eq!(batcher.take_closed(at(60)), [alone]);
    }
}
