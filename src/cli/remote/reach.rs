//! A way to the API: through Kubernetes to the operator's Pod, or straight to an address.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::client::UpgradeConnectionError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::RemoteError;
use super::find::{self, Found};
use crate::secrets::describe;

/// How long to wait until somebody says why a port-forward broke.
const REASON_LIMIT: Duration = Duration::from_secs(1);

/// Bytes to the API and back.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection, on which nothing has been said yet.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Bytes>,
    pub(super) fault: Fault,
}

/// Why a port-forward to a Pod breaks, once somebody says so.
pub(super) struct Fault(Option<(String, BoxFuture<'static, Option<String>>)>);

impl Fault {
    /// Waits until it is said; for ever, if nobody does.
    pub(super) async fn told(&mut self) -> RemoteError {
        if let Some((pod, said)) = &mut self.0 {
            let (said, pod) = (said.await, std::mem::take(pod));
            self.0 = None;
            if let Some(said) = said {
                return RemoteError::Forward { pod, error: said.trim().to_owned() };
            }
        }
        future::pending().await
    }

    /// What is known better than this: the stream breaks and somebody says why at the same time, in either order.
    pub(super) async fn or(&mut self, error: RemoteError) -> RemoteError {
        if self.0.is_none() {
            return error;
        }
        timeout(REASON_LIMIT, self.told()).await.unwrap_or(error)
    }
}

/// Where the API is.
pub(super) enum Way {
    /// In a Pod that is ready.
    Pod {
        /// The Pods of its namespace.
        pods: Box<Api<Pod>>,
        /// That namespace.
        namespace: String,
        /// The labels of those that may be taken.
        selector: String,
    },
    /// At an address.
    Address {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Way {
    /// Goes there.
    pub(super) async fn connect(&self) -> Result<Connection, RemoteError> {
        match self {
            Self::Pod { pods, namespace, selector } => forward(pods, namespace, selector).await,
            Self::Address { host, port } => {
                let address = || format!("{host}:{port}");
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| RemoteError::Address { address: address(), error })?;
                Ok(Connection { stream: Box::new(stream), fault: Fault(None) })
            }
        }
    }
}

/// Forwards the port of an operator's Pod.
async fn forward(pods: &Api<Pod>, namespace: &str, selector: &str) -> Result<Connection, RemoteError> {
    let params = ListParams::default().labels(selector);
    let found = pods.list(&params).await.map_err(|error| match refusal(&error) {
        Some(403) => RemoteError::PodsForbidden(namespace.to_owned()),
        _ => RemoteError::Kubernetes { namespace: namespace.to_owned(), error: said(error) },
    });
    let Found { pod, port } = find::choose(namespace, selector, &found?.items)?;
    let failed = |error: String| RemoteError::Forward { pod: pod.clone(), error };
    let mut forwarder = pods.portforward(&pod, &[port]).await.map_err(|error| match refusal(&error) {
        Some(403) => RemoteError::ForwardForbidden { namespace: namespace.to_owned(), pod: pod.clone() },
        _ => failed(said(error)),
    })?;
    let streams = forwarder.take_stream(port).zip(forwarder.take_error(port));
    let (stream, fault) = streams.ok_or_else(|| failed("there is no stream".to_owned()))?;
    Ok(Connection { stream: Box::new(stream), fault: Fault(Some((pod, fault.boxed()))) })
}

/// The status with which the API server refused.
fn refusal(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    }
}

/// What an error says to a person.
fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        error => describe(&error),
    }
}
