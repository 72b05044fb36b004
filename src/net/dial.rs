//! Opens TCP connections, to checked addresses only: a name is resolved once, so that a second answer of its name server
//! cannot lead elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::address::{AddressPolicy, Refused};

/// TCP keepalive: how long a connection may be idle before the first probe, the interval of further probes, and how many
/// unanswered probes close it.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// How many addresses of a name to try.
const ADDRESSES: usize = 16;

/// A failure to connect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The operator is not allowed to connect to the address.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name cannot be resolved.
    #[error("cannot resolve the name {0}: {1}")]
    NotResolved(String, String),
    /// No address accepts a connection; names the last one.
    #[error("{0}: {1}")]
    NotConnected(SocketAddr, String),
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
}

/// Opens connections that its policy allows.
#[derive(Clone, Debug)]
pub struct Dialer {
    policy: Arc<AddressPolicy>,
}

impl Dialer {
    /// Creates a dialer with this policy.
    pub fn new(policy: AddressPolicy) -> Self {
        Self { policy: Arc::new(policy) }
    }

    /// Creates a dialer that may connect to any address.
    pub fn unrestricted() -> Self {
        Self::new(AddressPolicy::unrestricted())
    }

    /// Returns the policy.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Connects before `deadline`. Splits the time among several addresses.
    pub async fn connect(&self, host: &str, port: u16, deadline: Instant) -> Result<TcpStream, DialError> {
        let resolving = timeout_at(deadline, self.resolve(host, port));
        let addresses = resolving.await.map_err(|_| DialError::TimedOut)??;
        let mut failed = DialError::TimedOut;
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    prepare(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = DialError::NotConnected(*address, error.to_string()),
                Err(_) if addresses.len() > 1 => {
                    failed = DialError::NotConnected(*address, "no answer in time".to_owned());
                }
                Err(_) => failed = DialError::TimedOut,
            }
        }
        Err(failed)
    }

    /// Resolves a host to its allowed addresses, at least one.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            self.policy.check(host, address)?;
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let not_resolved = |error: &str| DialError::NotResolved(host.to_owned(), error.to_owned());
        let found = tokio::net::lookup_host((host, port)).await;
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in found.map_err(|error: io::Error| not_resolved(&error.to_string()))? {
            match self.policy.check(host, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        allowed.truncate(ADDRESSES);
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(refused)) => Err(refused.into()),
            (true, None) => Err(not_resolved("it has no address")),
        }
    }
}

/// Sends small messages without delay, and detects peers that are gone. If the system refuses either, the connection still
/// works.
fn prepare(stream: &TcpStream) {
    let (idle, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
    let set = stream.set_nodelay(true).and(SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "failed to set options of a connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn loopback_host_is_refused_in_every_form() {
        let dialer = Dialer::new(AddressPolicy::default());
        for host in ["127.0.0.1", "::1", "localhost", "127.1", "0x7f.1", "2130706433", "0"] {
            let error = dialer.connect(host, 9, soon()).await.unwrap_err();
            assert!(matches!(error, DialError::Refused(_)), "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn allowed_address_is_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = Dialer::new("127.0.0.1".parse().unwrap());
        let stream = dialer.connect("127.0.0.1", port, soon()).await.unwrap();
        assert!(stream.nodelay().unwrap() && SockRef::from(&stream).keepalive().unwrap());
        drop(listener);
        let error = dialer.connect("127.0.0.1", port, soon()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn unresolvable_name_is_reported() {
        let error = Dialer::unrestricted().connect("nowhere.invalid", 9, soon()).await.unwrap_err();
        assert!(matches!(error, DialError::NotResolved(..)), "{error}");
    }
}
