//! Distinguishes dead workers from outages when heartbeats stop: workers that stop sending heartbeats at the same time
//! more likely lost their connection than died. Pure: no I/O, no clock.

use chrono::{DateTime, TimeDelta, Utc};

#[cfg(test)]
mod simulation;

/// A number of workers that have been silent for the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent {
    /// The time since their last heartbeat, in tenths of their heartbeat timeout, rounded down.
    pub tenths: i64,
    /// The number of workers.
    pub workers: i64,
}

/// Workers that stopped sending heartbeats at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoppedTogether {
    /// The number of workers that stopped.
    pub stopped: i64,
    /// The number of workers that had been alive before.
    pub of: i64,
}

/// The silence, in tenths of the timeout, from which a worker counts as stopped after another worker's heartbeat is
/// lost. Workers send at least two heartbeats per timeout, so a healthy worker has been silent for less than half of
/// it.
const STOPPED_TENTHS: i64 = 5;

/// The silence, in tenths of the timeout, from which a worker counts as stopped before the others: twice the timeout.
const STOPPED_BEFORE_TENTHS: i64 = 20;

/// The minimum number of workers, or of abandoned sessions, that indicate an outage. A single worker can die at any
/// time.
const MIN_COUNT: i64 = 2;

/// The inverse of the minimum share of all workers or sessions that indicates an outage: one fifth. A few of many can
/// die at any time.
const MIN_SHARE_DIVISOR: i64 = 5;

/// Detects workers that stopped at the same time, after the heartbeat of one of them is lost. `late` is the maximum
/// delay with which a reconciliation notices the loss, in tenths of the timeout.
pub fn stopped_together(workers: &[Silent], late: i64) -> Option<StoppedTogether> {
    let count = |from: i64| -> i64 {
        let within = workers.iter().filter(|w| w.tenths >= from && recently(w.tenths, late));
        within.map(|w| w.workers).sum()
    };
    let (stopped, of) = (count(STOPPED_TENTHS), count(i64::MIN));
    (stopped >= MIN_COUNT && stopped.saturating_mul(MIN_SHARE_DIVISOR) >= of)
        .then_some(StoppedTogether { stopped, of })
}

/// Reports whether a worker that has been silent for `tenths` of its timeout can have stopped together with the others,
/// rather than before them.
pub const fn recently(tenths: i64, late: i64) -> bool {
    tenths < STOPPED_BEFORE_TENTHS.saturating_add(late)
}

/// The state of the database server at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The time of the observation, by the database's clock.
    pub now: DateTime<Utc>,
    /// The start time of the server. A restart or a failover to a standby changes it.
    pub started_at: DateTime<Utc>,
    /// The sessions of the database.
    pub sessions: Sessions,
}

/// The number of open sessions at one moment, and of sessions that ended abnormally since the last reset of the
/// statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// The open sessions.
    pub open: i64,
    /// The sessions whose client disappeared, because a worker died or the network failed.
    pub abandoned: i64,
    /// The sessions that the server or an administrator ended.
    pub ended: i64,
}

/// An event on the server that may have disconnected the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The server restarted, or another server took over, at this time.
    Restarted(DateTime<Utc>),
    /// This number of sessions was lost at once.
    SessionsLost(i64),
    /// The database's clock advanced by this much more than the elapsed time, or the operator was suspended.
    ClockJumped(TimeDelta),
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Restarted(at) => {
                write!(f, "the database server restarted or failed over: the current one started at {at}")
            }
            Self::SessionsLost(count) => write!(f, "{count} database sessions were lost at once"),
            Self::ClockJumped(by) => {
                write!(f, "the database's clock jumped ahead by {} s", by.num_seconds())
            }
        }
    }
}

/// The maximum difference between the database's and the operator's clock that is not a jump.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(2);

/// Detects an event on the server between two observations, which are `elapsed` apart by the operator's own clock.
/// `started_at` is the start time of the last known server and is used if there is no observation `before`.
pub fn signal(
    before: Option<&Server>,
    started_at: Option<DateTime<Utc>>,
    now: &Server,
    elapsed: TimeDelta,
) -> Option<Signal> {
    if before.map(|server| server.started_at).or(started_at).is_some_and(|known| known != now.started_at) {
        return Some(Signal::Restarted(now.started_at));
    }
    let before = before?;
    let jump = (now.now - before.now) - elapsed;
    if jump > CLOCK_TOLERANCE {
        return Some(Signal::ClockJumped(jump));
    }
    lost_sessions(before.sessions, now.sessions).map(Signal::SessionsLost)
}

/// Returns the number of lost sessions, if it is at least a fifth of all. A single abandoned session is not enough,
/// because every client that dies leaves one.
fn lost_sessions(before: Sessions, now: Sessions) -> Option<i64> {
    // A reset of the statistics lowers the counters.
    let since = |before: i64, now: i64| now.saturating_sub(before).max(0);
    let (abandoned, ended) = (since(before.abandoned, now.abandoned), since(before.ended, now.ended));
    let all = abandoned + ended;
    let of = before.open.max(all);
    ((ended >= 1 || abandoned >= MIN_COUNT) && all.saturating_mul(MIN_SHARE_DIVISOR) >= of).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(groups: &[(i64, i64)]) -> Vec<Silent> {
        groups.iter().map(|(tenths, workers)| Silent { tenths: *tenths, workers: *workers }).collect()
    }

    #[test]
    fn workers_that_stop_at_once_have_stopped_together() {
        let all = stopped_together(&silent(&[(8, 150), (10, 50)]), 2);
        assert_eq!(all, Some(StoppedTogether { stopped: 200, of: 200 }));
        assert_eq!(stopped_together(&silent(&[(1, 199), (10, 1)]), 2), None, "one of 200");
        assert_eq!(stopped_together(&silent(&[(10, 1)]), 2), None, "a single worker");
        assert_eq!(stopped_together(&silent(&[(2, 81), (10, 19)]), 2), None, "less than a fifth");
        assert!(stopped_together(&silent(&[(2, 80), (10, 20)]), 2).is_some(), "a fifth");
        assert_eq!(
            stopped_together(&silent(&[(10, 1), (300, 70)]), 2),
            None,
            "workers that stopped long before"
        );
        assert_eq!(stopped_together(&silent(&[(-40, 2), (10, 1)]), 2), None, "a heartbeat in the future");
    }

    #[test]
    fn server_events_are_detected() {
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let server = |second, open, abandoned, ended| {
            let sessions = Sessions { open, abandoned, ended };
            Server { now: at(second), started_at: at(-500), sessions }
        };
        let (before, after) = (server(0, 10, 7, 1), server(15, 10, 8, 1));
        let signal =
            |now: &Server, elapsed| super::signal(Some(&before), None, now, TimeDelta::seconds(elapsed));
        assert_eq!(signal(&after, 15), None, "a client that died");
        assert_eq!(signal(&server(15, 4, 9, 1), 15), Some(Signal::SessionsLost(2)));
        assert_eq!(signal(&server(15, 4, 7, 3), 15), Some(Signal::SessionsLost(2)), "ended by the server");
        assert_eq!(signal(&server(15, 10, 0, 0), 15), None, "statistics that were reset");
        assert_eq!(signal(&after, 5), Some(Signal::ClockJumped(TimeDelta::seconds(10))));
        assert_eq!(signal(&after, 25), None, "a slow observation");
        let restarted = Server { started_at: at(10), ..after };
        assert_eq!(signal(&restarted, 15), Some(Signal::Restarted(at(10))));
        assert_eq!(
            super::signal(None, Some(at(-500)), &restarted, TimeDelta::zero()),
            Some(Signal::Restarted(at(10)))
        );
        assert_eq!(super::signal(None, None, &restarted, TimeDelta::zero()), None, "no earlier observation");
    }
}
