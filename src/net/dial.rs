//! Connects to a host by TCP. What is connected to is an address that was checked: a name is resolved once, so that no second
//! answer of its name server can lead elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::address::{AddressPolicy, Refused};

/// How long a connection may be silent before the other side is asked whether it is still there, how long each further question
/// waits, and after how many the connection is given up.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// How many addresses of a name are tried.
const ADDRESSES: usize = 16;

/// No connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The operator may not connect there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name has no address.
    #[error("the name {0} cannot be resolved: {1}")]
    NotResolved(String, String),
    /// Nothing answers at any of its addresses; the last one that was tried.
    #[error("{0}: {1}")]
    NotConnected(SocketAddr, String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
}

/// Connects where a policy allows it.
#[derive(Clone, Debug)]
pub struct Dialer {
    policy: Arc<AddressPolicy>,
}

impl Dialer {
    /// By this policy.
    pub fn new(policy: AddressPolicy) -> Self {
        Self { policy: Arc::new(policy) }
    }

    /// To any address.
    pub fn unrestricted() -> Self {
        Self::new(AddressPolicy::unrestricted())
    }

    /// The policy.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Connects, at the latest at `deadline`. Of several addresses each gets its share of the time.
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

    /// The addresses of a host that may be connected to, at least one.
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

/// Small messages go at once, and a peer that is gone is found out. Where the system does neither, the connection works all the
/// same.
fn prepare(stream: &TcpStream) {
    let (idle, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
    let set = stream.set_nodelay(true).and(SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "options of a connection could not be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test]
    async fn a_name_that_leads_to_the_pod_itself_is_refused_in_every_form() {
        let dialer = Dialer::new(AddressPolicy::default());
        for host in ["127.0.0.1", "::1", "localhost", "127.1", "0x7f.1", "2130706433", "0"] {
            let error = dialer.connect(host, 9, soon()).await.unwrap_err();
            assert!(matches!(error, DialError::Refused(_)), "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_allowed_is_connected_to() {
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
    async fn a_name_without_an_address_says_so() {
        let error = Dialer::unrestricted().connect("nowhere.invalid", 9, soon()).await.unwrap_err();
        assert!(matches!(error, DialError::NotResolved(..)), "{error}");
    }
}
