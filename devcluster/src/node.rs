//! A real node beside the control plane: scheduler, kubelet, kube-proxy and containerd, so that Pods run.
//!
//! All of it lives in namespaces of its own (mounts, network, processes, host name, IPC, cgroups), with its state in
//! memory. The network has no way out: its addresses exist in there only, and what uses the cluster runs in there too.
//! Killing the first process ends everything, containers included.
//!
//! From outside, [`Room`] makes the namespaces (`cgroups` are made before, and go after); inside, [`furnish`] makes them
//! a machine (`ground`), and [`Cluster`](crate::Cluster) starts the servers (`containers` finds the programs that are not
//! Kubernetes' own, `servers` and `containerd` run them).

mod cgroups;
mod containerd;
pub(crate) mod containers;
mod ground;
mod room;
mod servers;

use std::path::PathBuf;

pub(crate) use self::servers::Node;
pub use self::{
    ground::furnish,
    room::{Room, Tenant},
};

/// The node's name, which is its host name too.
pub(crate) const NAME: &str = "devcluster";
/// The node's address, where Pods reach what runs on it.
pub(crate) const ADDRESS: &str = "10.200.0.1";
/// The addresses of Pods.
pub(crate) const POD_CIDR: &str = "10.244.0.0/24";
/// The addresses of Services; the first is that of the API server.
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/24";

/// What a node is to have.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Archives with images, as [`Image`](crate::Image) and `docker save` write them: there is no registry to pull from.
    pub images: Vec<PathBuf>,
}
