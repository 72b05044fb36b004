//! The state of one channel: whether it fails as a whole, and which recipients it cannot reach.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::kubernetes::backoff::backoff_between;

/// The pause after the first failed attempt; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(5);

/// The longest pause.
const PAUSE_CAP: Duration = Duration::from_mins(10);

/// The first pause for a refused recipient.
const REFUSED_FIRST: Duration = Duration::from_mins(1);
const REFUSED_CAP: Duration = Duration::from_hours(1);

/// The number of refused recipients, less the accepted ones, from which the channel is slowed down: mail servers block
/// clients that try one address after another.
const MANY: u32 = 8;

/// The most refusals beyond that which count.
const MORE: u32 = 4;

/// The first pause of a channel that is slowed down. It is short, since other recipients may be valid.
const BRAKE_FIRST: Duration = Duration::from_secs(1);
const BRAKE_CAP: Duration = Duration::from_secs(15);

/// The most failing recipients that are remembered.
const REMEMBERED: usize = 100;

/// The time for which a failure is remembered that may never be retried: a recipient from a row, or a channel without
/// waiting messages.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

/// The most recipients that a condition names.
pub(super) const NAMED: usize = 3;

/// The state of one channel.
#[derive(Default)]
pub(super) struct Channel {
    /// The number of failed attempts in a row.
    failures: u32,
    /// The number of refused recipients, less the accepted ones.
    refusals: u32,
    /// The end of the pause, during which nothing is sent.
    until: Option<Instant>,
    error: Option<Failure>,
    /// Recipients that fail individually: the error, and when they last failed.
    refused: BTreeMap<String, (String, Instant)>,
}

/// The reason why a channel fails, and when it last did.
struct Failure {
    reason: &'static str,
    error: String,
    at: Instant,
}

/// The pause after this many failed attempts.
pub(super) fn pause(failures: u32) -> Duration {
    backoff_between(PAUSE_FIRST, PAUSE_CAP, failures)
}

/// The pause for a recipient that was refused this many times.
pub(super) fn pause_refused(times: u32) -> Duration {
    backoff_between(REFUSED_FIRST, REFUSED_CAP, times)
}

impl Channel {
    /// The end of the pause, if the channel is paused.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// The reason and the error if the channel fails.
    pub(super) fn error(&self) -> Option<(&'static str, &str)> {
        self.error.as_ref().map(|failure| (failure.reason, failure.error.as_str()))
    }

    /// The recipients that cannot be reached, and why.
    pub(super) fn refused_recipients(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.refused.iter().map(|(recipient, (error, _))| (recipient.as_str(), error.as_str()))
    }

    /// Records a delivered message.
    pub(super) fn delivered(&mut self, recipient: &str) {
        self.answers();
        self.refused.remove(recipient);
        self.refusals = self.refusals.saturating_sub(1);
        if self.refusals < MANY {
            self.until = None;
        }
    }

    /// Records that the server refused a recipient. Of several refusals at the same time, one counts. Returns whether
    /// that is news.
    pub(super) fn refused(&mut self, recipient: &str, error: String, now: Instant) -> bool {
        let recovered = self.answers();
        if self.held_until(now).is_none() {
            self.refusals = self.refusals.saturating_add(1).min(MANY + MORE);
            let over = self.refusals.checked_sub(MANY);
            self.until = over.map(|over| now + backoff_between(BRAKE_FIRST, BRAKE_CAP, over + 1));
        }
        self.record_failure(recipient, error, now) || recovered
    }

    /// Records that a recipient cannot be reached, whatever the server answers. Returns whether that is news.
    pub(super) fn record_failure(&mut self, recipient: &str, error: String, now: Instant) -> bool {
        let known = self.refused.contains_key(recipient);
        if self.refused.len() < REMEMBERED || known {
            self.refused.insert(recipient.to_owned(), (error, now));
        }
        !known && self.refused.len() <= NAMED
    }

    /// Records that the channel failed, and pauses it. Of several attempts at the same time, one counts. Returns whether
    /// that is news.
    pub(super) fn failed(&mut self, reason: &'static str, error: String, now: Instant) -> bool {
        let news = self.error() != Some((reason, &error));
        // A channel that is only slowed down may well fail for the first time.
        if self.held_until(now).is_none() || self.error.is_none() {
            self.failures = self.failures.saturating_add(1);
            self.until = Some(now + pause(self.failures));
        }
        self.error = Some(Failure { reason, error, at: now });
        news
    }

    /// Forgets old failures. `waits`: messages wait for the channel, so its error is still retried.
    pub(super) fn forget(&mut self, waits: bool, now: Instant) {
        let long_ago = |at: Instant| now.saturating_duration_since(at) >= REMEMBERED_FOR;
        self.refused.retain(|_, (_, at)| !long_ago(*at));
        if !waits && self.error.as_ref().is_some_and(|failure| long_ago(failure.at)) {
            (self.failures, self.error) = (0, None);
        }
    }

    /// Records that the server works. Returns whether that is news.
    fn answers(&mut self) -> bool {
        let failed = self.error.take().is_some();
        if failed {
            (self.failures, self.until) = (0, None);
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: &str = "550 5.1.1 No such user here";

    /// The remaining pause, in seconds from `now`; 0 if there is none.
    fn held(channel: &Channel, now: Instant) -> f64 {
        channel.held_until(now).map_or(0.0, |until| (until - now).as_secs_f64())
    }

    #[test]
    fn many_refusals_slow_a_channel_down_and_deliveries_speed_it_up() {
        let (mut channel, mut now) = (Channel::default(), Instant::now());
        for seconds in [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0] {
            channel.refused("x@y.org", ERROR.to_owned(), now);
            // Refusals that were in progress at the same time.
            for _ in 0..3 {
                if seconds > 0.0 {
                    channel.refused("z@y.org", ERROR.to_owned(), now);
                }
            }
            let pause = held(&channel, now);
            assert!((seconds..=seconds * 1.25).contains(&pause), "{seconds}: {pause}");
            assert!(channel.error().is_none(), "it does not fail as a whole");
            now = channel.held_until(now).unwrap_or(now);
        }
        let rests = |channel: &mut Channel| {
            channel.delivered("a@y.org");
            channel.until.is_some()
        };
        assert_eq!([(); 5].map(|()| rests(&mut channel)), [true, true, true, true, false]);
        assert!(!channel.refused("x@y.org", ERROR.to_owned(), now), "it was known");
        assert!(held(&channel, now) >= 1.0);
    }

    #[test]
    fn a_refusal_says_that_the_server_is_there() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        for _ in 0..20 {
            channel.refused("x@y.org", ERROR.to_owned(), now);
        }
        assert!(channel.failed("Unreachable", "gone".to_owned(), now), "news although it is held already");
        assert!(held(&channel, now) >= 5.0);
        assert!(!channel.failed("Unreachable", "gone".to_owned(), now));
        assert!(channel.refused("x@y.org", ERROR.to_owned(), now));
        assert!(channel.error().is_none() && held(&channel, now) < 5.0);
    }

    #[test]
    fn an_error_is_forgotten_once_nothing_can_show_whether_it_still_holds() {
        let (mut channel, now) = (Channel::default(), Instant::now());
        channel.failed("Unreachable", "gone".to_owned(), now);
        channel.record_failure("x", "is no address".to_owned(), now);
        channel.forget(false, now + Duration::from_mins(59));
        assert_eq!((channel.error(), channel.refused_recipients().len()), (Some(("Unreachable", "gone")), 1));
        channel.forget(true, now + REMEMBERED_FOR);
        assert_eq!((channel.error(), channel.refused_recipients().len()), (Some(("Unreachable", "gone")), 0));
        channel.forget(false, now + REMEMBERED_FOR);
        assert_eq!(channel.error(), None);
    }
}
