//! The permissions of the API as Kubernetes authorization attributes.

use std::fmt;

use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes};

/// The API group of the resources that permissions refer to.
const GROUP: &str = "jobexec.dev";

/// The prefix of the API's paths in Kubernetes authorization: the role `system:discovery`, which every cluster binds,
/// grants `/api/*` to everybody who has a token.
const PREFIX: &str = "/jobexec";

/// The path that is usual for all Prometheus targets in a cluster, so that the `ServiceAccount` of Prometheus mostly
/// has this right already.
const METRICS: &str = "/metrics";

/// A permission that a request can require.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Permission {
    /// Read the executions of the stores in a namespace, or in all namespaces (`None`).
    Executions(Option<String>),
    /// Clean up a store, or all stores (`None`).
    CleanUp(Option<(String, String)>),
    /// Get a path of the API that belongs to no namespace.
    Path(&'static str),
    /// Get the metrics.
    Metrics,
}

impl Permission {
    /// Returns the attributes for a `SubjectAccessReview`.
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

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executions(None) => {
                f.write_str("list jobexecutions.jobexec.dev in every namespace that has stores")
            }
            Self::Executions(Some(namespace)) => {
                write!(f, "list jobexecutions.jobexec.dev in namespace {namespace}")
            }
            Self::CleanUp(None) => f.write_str("create executionstores.jobexec.dev/cleanup for every store"),
            Self::CleanUp(Some((namespace, name))) => {
                write!(f, "create executionstores.jobexec.dev/cleanup for {name} in namespace {namespace}")
            }
            Self::Path(path) => write!(f, "get the non-resource URL {PREFIX}{path}"),
            Self::Metrics => write!(f, "get the non-resource URL {METRICS}"),
        }
    }
}
