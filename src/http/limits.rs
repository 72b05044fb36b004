//! The limits that protect clients from each other, and the operator from clients.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::eviction::Capacity;

/// The maximum size of a body, in bytes.
pub(crate) const BODY_LIMIT: usize = 64 * 1_024;

/// The limits that the administrator of the operator can set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time limit of a request, including its body.
    pub request: Duration,
    /// The maximum number of concurrent requests, including those whose clients have disconnected. Others are rejected
    /// at once. It must be lower than the number of connections that one address may have, because each connection has
    /// one request at a time: otherwise no client would ever get the rejection.
    pub requests: usize,
    /// The maximum number of concurrent requests of one caller. `None` means a quarter of `requests`, but at least 4.
    pub requests_per_caller: Option<usize>,
    /// The maximum number of connections to the API. For a new one, an idle one is closed; if none is idle, the new
    /// one waits. Each can hold a response that is read slowly, and thus memory.
    pub connections: usize,
}

impl Limits {
    /// Returns the maximum number of concurrent requests of one caller, or `None` if [`Limits::requests`] is the
    /// tighter limit.
    pub(super) fn per_caller_limit(&self) -> Option<usize> {
        let share = self.requests_per_caller.unwrap_or((self.requests / 4).max(4));
        (share < self.requests).then_some(share)
    }

    /// Returns the number of connections that the API may have if the process may open `files` files. One address may
    /// have seven eighths of them: all callers behind a load balancer share one address, and the rest is for everybody
    /// else.
    pub(super) fn api_capacity(&self, files: u64) -> Capacity {
        let total = self.connections.min(fraction(files, 2));
        if total < self.connections {
            tracing::warn!(
                files,
                connections = total,
                "the API accepts fewer connections than --max-connections: raise the limit on open files (RLIMIT_NOFILE), of which it uses at most half"
            );
        }
        Capacity { total, per_origin: total - total / 8, evict_busy: false }
    }
}

/// Returns the number of connections that the probes may have. A new one is always admitted, so that the kubelet gets
/// an answer whatever other clients do.
pub(super) fn probe_capacity(files: u64) -> Capacity {
    let total = PROBE_CONNECTIONS.min(fraction(files, 8));
    Capacity { total, per_origin: total, evict_busy: true }
}

/// Idle connections are cheap. With this many, a client that sends its request at once gets an answer before newer
/// connections evict it.
const PROBE_CONNECTIONS: usize = 256;

/// Returns the given fraction of the files that may be open. The rest is for databases and Kubernetes.
fn fraction(files: u64, parts: u64) -> usize {
    usize::try_from(files / parts).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit on open files to the hard limit and returns it. This is safe because nothing here uses
/// select(2).
pub(super) fn open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit on open files");
            current.unwrap_or(u64::MAX)
        }
    }
}

/// The time limit of a TLS handshake.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// The time limit of the head of a request, which is also how long a connection may be idle.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// [`HEAD_LIMIT`] for probes: a kubelet sends its request at once.
pub(super) const PROBE_HEAD_LIMIT: Duration = Duration::from_secs(1);

/// The maximum size of the head of a request, in bytes.
pub(super) const HEAD_BYTES: usize = 16 * 1_024;

/// The time limit of a body, from when its sender is authorized.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum time that a client may read nothing of its response.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// The maximum age of a connection. Clients can reconnect, so that only those that do not read their responses are
/// lost.
pub(super) const CONNECTION_AGE: Duration = Duration::from_mins(10);

/// The time limit of all pending requests when the operator stops: less than the operator itself has.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: usize, connections: usize) -> Limits {
        Limits { request: BODY_TIMEOUT, requests, requests_per_caller: None, connections }
    }

    #[test]
    fn a_caller_has_a_quarter_of_the_requests_and_some_in_any_case() {
        assert_eq!(
            [100, 10, 2].map(|requests| limits(requests, 128).per_caller_limit()),
            [Some(25), Some(4), None]
        );
        let own = Limits { requests_per_caller: Some(50), ..limits(100, 128) };
        assert_eq!(own.per_caller_limit(), Some(50));
    }

    #[test]
    fn no_address_has_all_connections_and_all_together_leave_files_for_databases() {
        let usual = limits(100, 128).api_capacity(1_048_576);
        assert_eq!((usual.total, usual.per_origin), (128, 112));
        assert!(usual.per_origin > 100, "one address can get the rejection");
        assert_eq!(limits(100, 65_535).api_capacity(1_024).total, 512);
        assert_eq!((probe_capacity(1_024).total, probe_capacity(1_048_576).total), (128, 256));
        assert_eq!((limits(100, 128).api_capacity(1).total, probe_capacity(1).total), (1, 1));
    }
}
