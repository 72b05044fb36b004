//! Failures of calls of the operator's API; each message says what to do next.

use std::path::PathBuf;
use std::time::Duration;

use crate::http::types::Problem;

/// Why a call of the operator's API failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no kube context, or it cannot be used.
    #[error(
        "cannot use the current kube context: {0}. Check KUBECONFIG, or name the API with --api-url and a token with JOBEXEC_TOKEN"
    )]
    Context(String),
    /// The Kubernetes API failed.
    #[error("cannot look for the operator's Pod in the namespace {namespace}: {error}")]
    Kubernetes {
        /// The namespace of the operator.
        namespace: String,
        /// The error of the Kubernetes API.
        error: String,
    },
    /// The user is not allowed to list Pods.
    #[error(
        "you are not allowed to list Pods in the namespace {0}, where the operator is expected: bind the Role jobexec-cli there to your user (manifests/install/api.yaml), name another namespace with --operator-namespace, or the API's address with --api-url"
    )]
    PodsForbidden(String),
    /// No operator was found.
    #[error(
        "there is no operator in the namespace {namespace}: no Pod there has the label {selector}. Name its namespace with --operator-namespace, and with --operator-release a release that `helm list` shows there"
    )]
    NoPod {
        /// The namespace.
        namespace: String,
        /// The labels of the operator.
        selector: String,
    },
    /// The operator is not ready.
    #[error(
        "the operator in the namespace {namespace} is not ready: see `kubectl -n {namespace} describe pod {pod}`, and try again once it is"
    )]
    NotReady {
        /// The namespace.
        namespace: String,
        /// The name of the Pod.
        pod: String,
    },
    /// The Pod has no port for the API.
    #[error(
        "the operator's Pod {0} has no container port named https: add it as in manifests/install/deployment.yaml, or name the API's address with --api-url"
    )]
    NoPort(String),
    /// The user is not allowed to forward ports.
    #[error(
        "you are not allowed to forward a port of the Pod {pod} in the namespace {namespace}, which takes the verbs get and create on pods/portforward: bind the Role jobexec-cli there to your user (manifests/install/api.yaml), or name the API's address with --api-url"
    )]
    ForwardForbidden {
        /// The namespace.
        namespace: String,
        /// The name of the Pod.
        pod: String,
    },
    /// The port-forward could not be set up, or broke.
    #[error(
        "the port-forward to the Pod {pod} failed: {error}. Try again; the operator may just have been replaced"
    )]
    Forward {
        /// The name of the Pod.
        pod: String,
        /// The error.
        error: String,
    },
    /// The address does not accept connections.
    #[error("cannot connect to {address}: {error}. Check --api-url")]
    Address {
        /// Host and port.
        address: String,
        /// The error.
        error: std::io::Error,
    },
    /// The certificate is not trusted, or the peer does not speak TLS.
    #[error(
        "TLS with the API failed: {0}. Name the authority that signed its certificate with --certificate-authority, or skip the check with --insecure-skip-tls-verify"
    )]
    Tls(std::io::Error),
    /// The file with the certificate authority cannot be used.
    #[error("cannot use the certificates in {0}: {1}. Give a PEM file, such as ca.crt of the Secret")]
    Authority(PathBuf, String),
    /// TLS or the request cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
    /// There is no token to send.
    #[error(
        "the current kube context has no token (it may have a client certificate), and the operator's API authenticates by tokens. Get one, for example `export JOBEXEC_TOKEN=$(kubectl -n NAMESPACE create token NAME)` of a ServiceAccount that the ClusterRole jobexec-reader or jobexec-administrator is bound to, with --audience if the operator runs with --token-audience; or name a file with a token with --token-file"
    )]
    NoToken,
    /// The kube context impersonates another user, whom its token does not identify.
    #[error(
        "the current kube context impersonates another user (`as:`), whom the operator's API would not recognize by the token: give a token of that user as JOBEXEC_TOKEN or with --token-file"
    )]
    Impersonates,
    /// The file with the token cannot be read.
    #[error("cannot read the token in {0}: {1}")]
    TokenFile(PathBuf, std::io::Error),
    /// The token is malformed.
    #[error("the token in {0} is invalid: it is empty, or has characters that no token has")]
    BadToken(String),
    /// The API returned an error.
    #[error("{}{}", .0.detail, hint(&.0.reason))]
    Problem(Problem),
    /// The response does not come from the API.
    #[error(
        "the server that answers is not the operator's API: status {0} without problem details. Check --api-url"
    )]
    NotTheApi(u16),
    /// The response does not have the expected form.
    #[error("cannot parse the response of the API: {0}. Use the jobexec of the operator's version")]
    Unreadable(String),
    /// The connection was closed.
    #[error("the API closed the connection before it answered ({0}): try again")]
    ConnectionClosed(String),
    /// Connecting took too long.
    #[error("no connection to the API within {0:?}: check that it can be reached, and try again")]
    ConnectTimeout(Duration),
    /// The connection was closed before the request.
    #[error(
        "the connection to the API was closed before the TLS handshake ended ({0}): check that the operator answers at this address, and try again"
    )]
    ClosedDuringHandshake(String),
    /// The response took too long.
    #[error("no response from the API within {0:?}: try again, or request less")]
    ResponseTimeout(Duration),
    /// The outcome of a write is unknown.
    #[error(
        "{0}. A clean-up that has begun continues without its caller: `jobexec history` shows what it did"
    )]
    Unknown(Box<RemoteError>),
    /// The state of the executions is unknown.
    #[error("{store} is unhealthy: {why}")]
    Unhealthy {
        /// The name of the store.
        store: String,
        /// The reason, and what to do.
        why: String,
    },
}

/// Returns advice that the API cannot give, because it does not know its caller's command line.
fn hint(reason: &str) -> &'static str {
    match reason {
        "TokenRefused" => {
            ", and give it as JOBEXEC_TOKEN or with --token-file. If the operator runs with --token-audience, use `kubectl create token --audience`"
        }
        "StoreNotFound" => {
            ": see `kubectl get executionstores -A`, and name the operator of another namespace with --operator-namespace, or of another release there with --operator-release"
        }
        "NotFound" => ". Use the jobexec of the operator's version",
        _ => "",
    }
}

impl RemoteError {
    /// Returns the error of a request, of which it may be a `dry_run`: that has no effects that could continue.
    pub(super) fn of_request(self, dry_run: bool) -> Self {
        match self {
            Self::Unknown(error) if dry_run => *error,
            error => error,
        }
    }
}
