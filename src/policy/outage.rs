//! Whether heartbeats that stay away tell of dead workers or of an outage: workers that fall silent together were more
//! likely cut off than killed. Pure: no I/O, no clock.

use chrono::{DateTime, TimeDelta, Utc};

#[cfg(test)]
mod simulation;

/// Workers that have been silent for as long, in tenths of the time after which their heartbeat counts as lost, rounded
/// down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent {
    /// For how long.
    pub tenths: i64,
    /// How many workers.
    pub workers: i64,
}

/// Workers that fell silent together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Together {
    /// How many.
    pub stopped: i64,
    /// Of how many that had been alive.
    pub of: i64,
}

/// From this silence on a worker counts as stopped where another one's heartbeat is lost already. A heartbeat comes at least
/// twice in its timeout, so that who is well has been silent for less than a half.
const STOPPED: i64 = 5;

/// Who has been silent for longer than twice the timeout stopped before.
const BEFORE: i64 = 20;

/// One worker alone may die at any time, and so may a few of many: together are at least two, and a fifth of all.
const FEWEST: i64 = 2;
const SHARE: i64 = 5;

/// Whether workers fell silent together, once the heartbeat of one of them is lost. `late`: by how many tenths of the timeout
/// the loss may have been noticed late, since the table is looked at now and then.
pub fn stopped_together(workers: &[Silent], late: i64) -> Option<Together> {
    let count = |from: i64| -> i64 {
        let within = workers.iter().filter(|w| w.tenths >= from && recently(w.tenths, late));
        within.map(|w| w.workers).sum()
    };
    let (stopped, of) = (count(STOPPED), count(i64::MIN));
    (stopped >= FEWEST && stopped.saturating_mul(SHARE) >= of).then_some(Together { stopped, of })
}

/// Whether a worker that has been silent for so many tenths may have stopped with others just now, rather than before.
pub const fn recently(tenths: i64, late: i64) -> bool {
    tenths < BEFORE.saturating_add(late)
}

/// What the server says of itself at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// When the server started: a restart changes it, and so does a standby that takes over.
    pub started_at: DateTime<Utc>,
    /// The sessions of the database.
    pub sessions: Sessions,
}

/// Sessions at one moment, and how many have ended badly since the statistics began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Those that are open.
    pub open: i64,
    /// Whose client went away without a word, as a worker that dies, or behind a network that breaks.
    pub abandoned: i64,
    /// That the server or an administrator ended.
    pub ended: i64,
}

/// Why workers may have been cut off although nothing else is known of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The server was started again, or is another one.
    Restarted(DateTime<Utc>),
    /// So many sessions were lost at once.
    SessionsLost(i64),
    /// The database's clock went ahead by more than has passed, or the operator stood still.
    ClockJumped(TimeDelta),
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Restarted(at) => {
                write!(f, "the server that answers was started at {at}, another one than before")
            }
            Self::SessionsLost(count) => write!(f, "{count} database sessions were lost at once"),
            Self::ClockJumped(by) => {
                write!(f, "the database's clock went ahead by {} s at once", by.num_seconds())
            }
        }
    }
}

/// How far the clock may go ahead without being said to have jumped.
const JUMP: TimeDelta = TimeDelta::seconds(2);

/// What happened to the server between two looks at it, `elapsed` apart by the operator's own clock. `started_at`: of the server
/// that was last known, if `before` is not.
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
    if jump > JUMP {
        return Some(Signal::ClockJumped(jump));
    }
    lost(before.sessions, now.sessions).map(Signal::SessionsLost)
}

/// How many sessions were lost, if they were a fifth of all. A client that dies abandons one: that alone says nothing of the others.
fn lost(before: Sessions, now: Sessions) -> Option<i64> {
    // Statistics may have been reset.
    let since = |before: i64, now: i64| now.saturating_sub(before).max(0);
    let (abandoned, ended) = (since(before.abandoned, now.abandoned), since(before.ended, now.ended));
    let all = abandoned + ended;
    let of = before.open.max(all);
    ((ended >= 1 || abandoned >= FEWEST) && all.saturating_mul(SHARE) >= of).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(groups: &[(i64, i64)]) -> Vec<Silent> {
        groups.iter().map(|(tenths, workers)| Silent { tenths: *tenths, workers: *workers }).collect()
    }

    #[test]
    fn several_that_stop_at_once_have_stopped_together() {
        let all = stopped_together(&silent(&[(8, 150), (10, 50)]), 2);
        assert_eq!(all, Some(Together { stopped: 200, of: 200 }));
        assert_eq!(stopped_together(&silent(&[(1, 199), (10, 1)]), 2), None, "one of 200");
        assert_eq!(stopped_together(&silent(&[(10, 1)]), 2), None, "one alone");
        assert_eq!(stopped_together(&silent(&[(2, 81), (10, 19)]), 2), None, "less than a fifth");
        assert!(stopped_together(&silent(&[(2, 80), (10, 20)]), 2).is_some(), "a fifth");
        assert_eq!(stopped_together(&silent(&[(10, 1), (300, 70)]), 2), None, "who stopped long before");
        assert_eq!(stopped_together(&silent(&[(-40, 2), (10, 1)]), 2), None, "a heartbeat to come");
    }

    #[test]
    fn what_the_server_says_is_heard_before_anybody_guesses() {
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
        assert_eq!(signal(&after, 25), None, "who was slow to ask");
        let restarted = Server { started_at: at(10), ..after };
        assert_eq!(signal(&restarted, 15), Some(Signal::Restarted(at(10))));
        assert_eq!(
            super::signal(None, Some(at(-500)), &restarted, TimeDelta::zero()),
            Some(Signal::Restarted(at(10)))
        );
        assert_eq!(
            super::signal(None, None, &restarted, TimeDelta::zero()),
            None,
            "nothing is known from before"
        );
    }
}
