//! A real node for the control plane: scheduler, kubelet, kube-proxy and containerd, so that Pods run.
//!
//! The node runs in separate Linux namespaces (mounts, network, processes, host name, IPC, cgroups), with its state in
//! memory. The network is isolated: its addresses exist only inside the namespaces, and clients of the cluster run
//! inside them too. Killing the first process of the namespaces ends all of their processes, including containers.
//!
//! Outside, [`Sandbox`] creates the namespaces. It creates the control groups (`cgroups`) before them and removes those
//! afterwards. Inside, [`prepare_namespaces`] sets up what a node expects of a machine (`namespaces`), and
//! [`Cluster`](crate::Cluster) starts the servers: `containers` finds the programs that are not part of Kubernetes, and
//! `servers` and `containerd` run them.

mod cgroups;
mod containerd;
pub(crate) mod containers;
mod namespaces;
mod sandbox;
mod servers;

use std::path::PathBuf;

pub(crate) use self::servers::Node;
pub use self::{
    namespaces::prepare_namespaces,
    sandbox::{Sandbox, Workload},
};

/// The name and host name of the node.
pub(crate) const NAME: &str = "devcluster";
/// The address of the node, at which Pods reach its servers.
pub(crate) const ADDRESS: &str = "10.200.0.1";
/// The address range of Pods.
pub(crate) const POD_CIDR: &str = "10.244.0.0/24";
/// The address range of Services. The first address is that of the API server.
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/24";

/// Options of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// The paths of archives with images, as written by [`Image`](crate::Image) or `docker save`. The node has no
    /// registry to pull images from.
    pub images: Vec<PathBuf>,
}
