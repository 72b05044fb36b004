//! What can be asked for, in the words of Kubernetes' authorization.

use std::fmt;

use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes};

/// The API group whose resources stand for what the API shows and does.
const GROUP: &str = "jobexec.dev";

/// What stands before paths of the API where Kubernetes is asked about them: its role `system:discovery` opens `/api/*` to
/// everybody who has a token, and is bound in every cluster.
const PREFIX: &str = "/jobexec";

/// What everything that Prometheus scrapes in a cluster is asked about by, so that its `ServiceAccount` mostly has the right
/// already.
const METRICS: &str = "/metrics";

/// Something that a caller may or may not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Access {
    /// See the executions of the stores of a namespace; `None`: of all.
    Executions(Option<String>),
    /// Clean up a store; `None`: all of them.
    CleanUp(Option<(String, String)>),
    /// Get what is at this path of the API and belongs to no namespace.
    Path(&'static str),
    /// Get metrics.
    Metrics,
}

impl Access {
    /// As a `SubjectAccessReview` asks.
    pub(super) fn attributes(&self) -> (Option<ResourceAttributes>, Option<NonResourceAttributes>) {
        let resource = |verb: &str, resource: &str, subresource: Option<&str>| ResourceAttributes {
            group: Some(GROUP.to_owned()),
            verb: Some(verb.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(ToOwned::to_owned),
            ..ResourceAttributes::default()
        };
        let get = |path| NonResourceAttributes { path: Some(path), verb: Some("get".to_owned()) };
        match self {
            Self::Executions(namespace) => {
                let list = resource("list", "jobexecutions", None);
                (Some(ResourceAttributes { namespace: namespace.clone(), ..list }), None)
            }
            Self::CleanUp(store) => {
                let create = resource("create", "executionstores", Some("cleanup"));
                let (namespace, name) = store.clone().unzip();
                (Some(ResourceAttributes { namespace, name, ..create }), None)
            }
            Self::Path(path) => (None, Some(get(format!("{PREFIX}{path}")))),
            Self::Metrics => (None, Some(get(METRICS.to_owned()))),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executions(None) => {
                f.write_str("list jobexecutions.jobexec.dev in every namespace with stores")
            }
            Self::Executions(Some(namespace)) => {
                write!(f, "list jobexecutions.jobexec.dev in the namespace {namespace}")
            }
            Self::CleanUp(None) => f.write_str("create executionstores.jobexec.dev/cleanup for every store"),
            Self::CleanUp(Some((namespace, name))) => {
                write!(
                    f,
                    "create executionstores.jobexec.dev/cleanup for {name} in the namespace {namespace}"
                )
            }
            Self::Path(path) => write!(f, "get the non-resource URL {PREFIX}{path}"),
            Self::Metrics => write!(f, "get the non-resource URL {METRICS}"),
        }
    }
}
