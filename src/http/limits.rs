//! What one client may take from the others, and any from the operator.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::eviction::Capacity;

/// How many bytes a body may have.
pub(crate) const BODY_LIMIT: usize = 64 * 1_024;

/// The limits that whoever runs the operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request may take, its body included.
    pub request: Duration,
    /// How many requests are worked on at the same time, also those whose clients have gone; further ones are refused at once.
    /// Fewer than one address may have connections, as each of those has one request at a time: else nobody would ever be told.
    pub requests: usize,
    /// How many requests one caller may have under way at the same time; `None`: a quarter of all, at least 4.
    pub requests_per_caller: Option<usize>,
    /// How many connections the API may have. For a further one an idle one is closed; where none is idle it waits. Each may
    /// hold an answer that is read slowly, and thus memory.
    pub connections: usize,
}

impl Limits {
    /// How many requests one caller may have under way; `None`: as many as all together, which is a limit already.
    pub(super) fn of_caller(&self) -> Option<usize> {
        let share = self.requests_per_caller.unwrap_or((self.requests / 4).max(4));
        (share < self.requests).then_some(share)
    }

    /// How many connections the API may have where the process may open so many files. One address may have seven eighths of
    /// them: behind a load balancer all callers have one, and the rest is for everybody else.
    pub(super) fn of_api(&self, files: u64) -> Capacity {
        let total = self.connections.min(part(files, 2));
        if total < self.connections {
            tracing::warn!(
                files,
                connections = total,
                "fewer connections than --max-connections: raise the limit on open files (RLIMIT_NOFILE), of which the API takes at most half"
            );
        }
        Capacity { total, per_origin: total - total / 8, evict_busy: false }
    }
}

/// How many connections the probes have. A new one is always admitted, so that the kubelet is answered whoever else connects.
pub(super) fn of_probes(files: u64) -> Capacity {
    let total = PROBE_CONNECTIONS.min(part(files, 8));
    Capacity { total, per_origin: total, evict_busy: true }
}

/// A connection with nothing under way is cheap, and with so many of them one that sends its request at once is answered before
/// newer ones close it.
const PROBE_CONNECTIONS: usize = 256;

/// One of so many parts of the files that may be open; the rest is for databases and Kubernetes.
fn part(files: u64, parts: u64) -> usize {
    usize::try_from(files / parts).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit on open files to the hard one, as nothing here uses select(2), and returns it.
pub(super) fn open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::debug!(%error, "the limit on open files cannot be raised");
            current.unwrap_or(u64::MAX)
        }
    }
}

/// How long the TLS handshake may take.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long the head of a request may take, and how long a connection may be idle.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// The same of a probe, which a kubelet sends at once.
pub(super) const PROBE_HEAD_LIMIT: Duration = Duration::from_secs(1);

/// How many bytes the head of a request may have.
pub(super) const HEAD_BYTES: usize = 16 * 1_024;

/// How long a body may take once its sender is known to have the right to send it.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(5);

/// How long a client may take none of its answer.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// How old a connection becomes. Its client connects again, so that one who does not read his answers does not stay.
pub(super) const CONNECTION_AGE: Duration = Duration::from_mins(10);

/// How long all that is under way may take when the operator is asked to stop: less than all of the operator has.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: usize, connections: usize) -> Limits {
        Limits { request: BODY_TIME, requests, requests_per_caller: None, connections }
    }

    #[test]
    fn a_caller_has_a_quarter_of_the_requests_and_some_in_any_case() {
        assert_eq!([100, 10, 2].map(|requests| limits(requests, 128).of_caller()), [Some(25), Some(4), None]);
        let own = Limits { requests_per_caller: Some(50), ..limits(100, 128) };
        assert_eq!(own.of_caller(), Some(50));
    }

    #[test]
    fn no_address_has_all_connections_and_all_together_leave_files_for_databases() {
        let usual = limits(100, 128).of_api(1_048_576);
        assert_eq!((usual.total, usual.per_origin), (128, 112));
        assert!(usual.per_origin > 100, "one too many requests of one address is told so");
        assert_eq!(limits(100, 65_535).of_api(1_024).total, 512);
        assert_eq!((of_probes(1_024).total, of_probes(1_048_576).total), (128, 256));
        assert_eq!((limits(100, 128).of_api(1).total, of_probes(1).total), (1, 1));
    }
}
