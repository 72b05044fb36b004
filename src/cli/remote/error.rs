//! What can keep the operator's API from answering, told so that the next step is clear.

use std::path::PathBuf;
use std::time::Duration;

use crate::http::wire::Problem;

/// Why the operator's API gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no kube context, or it cannot be used.
    #[error(
        "cannot use the current kube context: {0}. Check KUBECONFIG, or name the API with --api-url and a token with JOBEXEC_TOKEN"
    )]
    Context(String),
    /// Kubernetes did not do its part.
    #[error("cannot look for the operator's Pod in the namespace {namespace}: {error}")]
    Kubernetes {
        /// Where.
        namespace: String,
        /// What it said.
        error: String,
    },
    /// The caller may not look for Pods.
    #[error(
        "you may not list Pods in the namespace {0}, where the operator is looked for: have the Role jobexec-cli there bound to you (manifests/install/api.yaml), name another namespace with --operator-namespace, or the API's address with --api-url"
    )]
    PodsForbidden(String),
    /// There is no operator.
    #[error(
        "there is no operator in the namespace {namespace}: no Pod there has the label {selector}. Name its namespace with --operator-namespace, and with --operator-release only what `helm list` has there"
    )]
    NoPod {
        /// Where.
        namespace: String,
        /// What it would have.
        selector: String,
    },
    /// There is one that does not serve.
    #[error(
        "the operator in the namespace {namespace} is not ready: see `kubectl -n {namespace} describe pod {pod}`, and try again once it is"
    )]
    NotReady {
        /// Where.
        namespace: String,
        /// Which Pod.
        pod: String,
    },
    /// It does not serve the API, as far as its Pod tells.
    #[error(
        "the operator's Pod {0} has no container port named https: add it as in manifests/install/deployment.yaml, or name the API's address with --api-url"
    )]
    NoPort(String),
    /// The caller may not forward ports.
    #[error(
        "you may not forward a port of the Pod {pod} in the namespace {namespace}, which takes the rights to get and create pods/portforward: have the Role jobexec-cli there bound to you (manifests/install/api.yaml), or name the API's address with --api-url"
    )]
    ForwardForbidden {
        /// Where.
        namespace: String,
        /// Which Pod.
        pod: String,
    },
    /// The port-forward did not come about, or broke.
    #[error(
        "the port-forward to the Pod {pod} failed: {error}. Try again; the operator may just have been replaced"
    )]
    Forward {
        /// Which Pod.
        pod: String,
        /// What was said.
        error: String,
    },
    /// Nobody answers at the address.
    #[error("cannot connect to {address}: {error}. Check --api-url")]
    Address {
        /// Where.
        address: String,
        /// What was said.
        error: std::io::Error,
    },
    /// Who answers is not trusted, or does not speak TLS.
    #[error(
        "no TLS with the API: {0}. Name the authority that signed its certificate with --certificate-authority, or do without the check with --insecure-skip-tls-verify"
    )]
    Tls(std::io::Error),
    /// The authority.
    #[error("cannot use the certificates in {0}: {1}. Give a PEM file, such as ca.crt of the Secret")]
    Authority(PathBuf, String),
    /// TLS cannot be set up here.
    #[error("cannot set up TLS: {0}")]
    Setup(String),
    /// There is no token to send.
    #[error(
        "the current kube context has no token (it may have a client certificate), and the operator's API knows people by their tokens. Get one, for example `export JOBEXEC_TOKEN=$(kubectl -n NAMESPACE create token NAME)` of a ServiceAccount that the ClusterRole jobexec-reader or jobexec-administrator is bound to, with --audience where the operator was given --token-audience; or name a file that holds one with --token-file"
    )]
    NoToken,
    /// The token would be that of somebody else.
    #[error(
        "the current kube context acts as somebody else (`as:`), whom the operator's API would not know by its token: give a token of his as JOBEXEC_TOKEN or with --token-file"
    )]
    Impersonates,
    /// The file with the token.
    #[error("cannot read the token in {0}: {1}")]
    TokenFile(PathBuf, std::io::Error),
    /// The token is not one.
    #[error("the token in {0} is none: it is empty, or has characters that no token has")]
    BadToken(String),
    /// It answered, and not as asked.
    #[error("{}{}", .0.detail, hint(&.0.reason))]
    Problem(Problem),
    /// Somebody else answers.
    #[error("what answers is not the operator's API: status {0} without problem details. Check --api-url")]
    NotTheApi(u16),
    /// It answers in other words.
    #[error("the answer cannot be read: {0}. Use the jobexec of the operator's version")]
    Unreadable(String),
    /// It hung up.
    #[error("the API hung up before it had answered ({0}): try again")]
    HungUp(String),
    /// It, or what is on the way to it, took too long to be connected to.
    #[error("no connection to the API within {0:?}: see whether it can be reached, and try again")]
    NotConnected(Duration),
    /// It hung up before anything was asked.
    #[error(
        "the connection to the API was closed before TLS was agreed on ({0}): see whether it is the operator that answers there, and try again"
    )]
    NoTls(String),
    /// It took too long.
    #[error("no answer from the API within {0:?}: try again, or ask for less")]
    NoAnswer(Duration),
    /// A write whose end nobody saw.
    #[error(
        "{0}. A clean-up that was begun goes on without being waited for: `jobexec history` tells what it did"
    )]
    Unknown(Box<RemoteError>),
    /// Nothing is known of the executions.
    #[error("{store} is unhealthy: {why}")]
    Unhealthy {
        /// Which store.
        store: String,
        /// Why, and what to do.
        why: String,
    },
}

/// What the API cannot know of who asks from here.
fn hint(reason: &str) -> &'static str {
    match reason {
        "TokenRefused" => {
            ", and give it as JOBEXEC_TOKEN or with --token-file. Where the operator was given --token-audience, it takes `kubectl create token --audience`"
        }
        "StoreNotFound" => {
            ": see `kubectl get executionstores -A`, and name the operator of another namespace with --operator-namespace, or of another release there with --operator-release"
        }
        "NotFound" => ". Use the jobexec of the operator's version",
        _ => "",
    }
}
