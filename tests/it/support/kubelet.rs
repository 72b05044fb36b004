//! A stand-in for a kubelet: a Node whose kubelet can only forward ports. A port-forward thus passes through the real API
//! server and its RBAC, although nothing runs a Pod here.

use std::sync::Arc;

use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::World;

/// The label that selects the operator's Pods.
const LABEL: &str = "app.kubernetes.io/name";

/// A running kubelet; it ends when dropped.
pub(crate) struct Kubelet {
    node: String,
    /// Its own runtime, so that it answers while a test waits for a program.
    runtime: Option<Runtime>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl World {
    /// Starts a kubelet with a Node of its own.
    pub(crate) async fn kubelet(&self) -> Kubelet {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listening = runtime.spawn(TcpListener::bind("127.0.0.1:0"));
        let listener = listening.await.unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(serve(listener, acceptor()));
        let node = self.namespace.clone();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        nodes.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }});
        nodes.patch_status(&node, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        Kubelet { node, runtime: Some(runtime) }
    }

    /// Creates an operator's Pod on this kubelet, whose API has this port on this machine.
    pub(crate) async fn operators_pod(&self, kubelet: &Kubelet, name: &str, port: u16, ready: bool) {
        self.pod_of_release(kubelet, "jobexec-operator", name, port, ready).await;
    }

    /// Does the same for a release of this name.
    pub(crate) async fn pod_of_release(
        &self,
        kubelet: &Kubelet,
        release: &str,
        name: &str,
        port: u16,
        ready: bool,
    ) {
        let labels = json!({LABEL: "jobexec-operator", "app.kubernetes.io/instance": release});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": kubelet.node, "containers": [
                {"name": "operator", "image": "jobexec-operator", "ports": [{"name": "https", "containerPort": port}]},
            ]},
        });
        self.pod(name, pod).await;
        let ready = if ready { "True" } else { "False" };
        let status =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

/// TLS with a self-signed certificate.
pub(crate) fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[allow(clippy::result_large_err, reason = "the handshake asks for it")]
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that disconnects does not matter to the kubelet.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut port = None;
            let shaken = tokio_tungstenite::accept_hdr_async(stream, |request: &Request, response| {
                port = port_of(request);
                Ok(with_protocol(response))
            });
            if let (Ok(socket), Some(port)) = (shaken.await, port) {
                forward(socket, port).await;
            }
        });
    }
}

/// Parses `/portForward/NAMESPACE/POD?port=PORT`.
fn port_of(request: &Request) -> Option<u16> {
    let uri = request.uri();
    assert!(uri.path().starts_with("/portForward/"), "{uri}");
    uri.query()?.strip_prefix("port=")?.parse().ok()
}

fn with_protocol(mut response: Response) -> Response {
    response.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
    response
}

/// Forwards a port. Channel 0 carries data, channel 1 errors; each begins with the port.
async fn forward<S>(mut socket: WebSocketStream<S>, port: u16)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let frame = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [0, 1] {
        let _ = socket.send(frame(channel, &port.to_le_bytes())).await;
    }
    let mut pod = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(pod) => pod,
        Err(error) => {
            let told = format!("error forwarding port {port} to pod: {error}");
            let _ = socket.send(frame(1, told.as_bytes())).await;
            return hang_up(socket).await;
        }
    };
    let (mut from_pod, mut to_pod) = pod.split();
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        tokio::select! {
            read = from_pod.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    if socket.send(frame(0, &buffer[..length])).await.is_err() {
                        return;
                    }
                }
                _ => return hang_up(socket).await,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&0) => {
                    if to_pod.write_all(&bytes[1..]).await.is_err() {
                        return;
                    }
                }
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            },
        }
    }
}

/// Closes the socket, and reads until the other side closes it too. A socket that is dropped with unread bytes resets the
/// connection, and earlier bytes may be lost on their way through the API server.
async fn hang_up<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}
