//! Connections to the API: through Kubernetes to the operator's Pod, or directly to an address.

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
use super::discovery::{self, Found};
use crate::secrets::describe;

/// How long to wait for the reason why a port-forward broke.
const REASON_LIMIT: Duration = Duration::from_secs(1);

/// A stream of bytes to the API and back.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A new connection.
pub(super) struct Connection {
    pub(super) stream: Box<dyn ByteStream>,
    pub(super) forward_error: PortForwardError,
}

/// The error of a port-forward to a Pod, once Kubernetes reports it.
pub(super) struct PortForwardError(Option<(String, BoxFuture<'static, Option<String>>)>);

impl PortForwardError {
    /// Waits for the error; forever, if none is reported.
    pub(super) async fn wait(&mut self) -> RemoteError {
        if let Some((pod, reason)) = &mut self.0 {
            let (reason, pod) = (reason.await, std::mem::take(pod));
            self.0 = None;
            if let Some(reason) = reason {
                return RemoteError::Forward { pod, error: reason.trim().to_owned() };
            }
        }
        future::pending().await
    }

    /// Returns the reported error if there is one, else this one: the stream breaks and the report arrives in either order.
    pub(super) async fn or_given(&mut self, error: RemoteError) -> RemoteError {
        if self.0.is_none() {
            return error;
        }
        timeout(REASON_LIMIT, self.wait()).await.unwrap_or(error)
    }
}

/// The location of the API.
pub(super) enum Endpoint {
    /// A ready Pod.
    Pod {
        /// The Pods of its namespace.
        pods: Box<Api<Pod>>,
        /// The namespace.
        namespace: String,
        /// The labels of suitable Pods.
        selector: String,
    },
    /// An address.
    Address {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Endpoint {
    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Connection, RemoteError> {
        match self {
            Self::Pod { pods, namespace, selector } => forward(pods, namespace, selector).await,
            Self::Address { host, port } => {
                let address = || format!("{host}:{port}");
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| RemoteError::Address { address: address(), error })?;
                Ok(Connection { stream: Box::new(stream), forward_error: PortForwardError(None) })
            }
        }
    }
}

/// Forwards the port of an operator's Pod.
async fn forward(pods: &Api<Pod>, namespace: &str, selector: &str) -> Result<Connection, RemoteError> {
    let params = ListParams::default().labels(selector);
    let found = pods.list(&params).await.map_err(|error| match refused_status(&error) {
        Some(403) => RemoteError::PodsForbidden(namespace.to_owned()),
        _ => RemoteError::Kubernetes { namespace: namespace.to_owned(), error: describe_api_error(error) },
    });
    let Found { pod, port } = discovery::choose(namespace, selector, &found?.items)?;
    let failed = |error: String| RemoteError::Forward { pod: pod.clone(), error };
    let mut forwarder =
        pods.portforward(&pod, &[port]).await.map_err(|error| match refused_status(&error) {
            Some(403) => RemoteError::ForwardForbidden { namespace: namespace.to_owned(), pod: pod.clone() },
            _ => failed(describe_api_error(error)),
        })?;
    let streams = forwarder.take_stream(port).zip(forwarder.take_error(port));
    let (stream, forward_error) = streams.ok_or_else(|| failed("there is no stream".to_owned()))?;
    Ok(Connection {
        stream: Box::new(stream),
        forward_error: PortForwardError(Some((pod, forward_error.boxed()))),
    })
}

/// Returns the status code with which the API server refused.
fn refused_status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    }
}

/// Describes an error for people.
fn describe_api_error(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        error => describe(&error),
    }
}
