//! Runs a throwaway Kubernetes control plane and Postgres on loopback, for the demo and the tests.
//!
//! [`Cluster::start`] starts etcd, kube-apiserver (with RBAC), kube-controller-manager and Postgres, each as a process
//! on a free port of 127.0.0.1. Without a node, you can create objects of every kind, but Pods do not run. Dropping the
//! [`Cluster`] ends the processes and removes their files. Killing this process also ends them, and the next start
//! removes the files. Several clusters can run at once.
//!
//! Inside a [`Sandbox`], which requires root, a cluster can also have a node ([`NodeOptions`]) and run Pods. [`Image`]
//! builds images for them.
//!
//! [`helm`] finds or installs Helm, for callers that install a chart.
//!
//! A [`Server`] is a Postgres without Kubernetes. You can kill and restart it and add a standby.
//!
//! Architecture: [`Cluster`] finds the programs (`binaries`, which uses `download` and then `gobuild`; `postgres`,
//! which uses `embedded`), creates a folder (`run_dir`) with certificates (`pki`), and starts the servers
//! (`control_plane`, `postgres`, `node`) as child processes that never outlive it (`process`).
//!
//! ```no_run
//! # fn main() -> Result<(), devcluster::Error> {
//! let cluster = devcluster::Cluster::start(&devcluster::Options::default(), &mut devcluster::Quiet)?;
//! println!("{} {}", cluster.kubeconfig().display(), cluster.database_url());
//! # Ok(())
//! # }
//! ```

mod binaries;
mod cache;
mod cleanup;
mod cluster;
mod control_plane;
mod download;
mod embedded;
mod error;
mod gobuild;
mod helm;
mod https;
mod image;
mod kubeconfig;
mod node;
mod pki;
mod ports;
mod postgres;
mod process;
mod progress;
mod run_dir;
mod server;
mod unprivileged_user;

pub use crate::{
    cache::Cache,
    cluster::{Cluster, Options},
    error::Error,
    helm::helm,
    image::{Image, Written},
    node::{NodeOptions, Sandbox, Workload, prepare_namespaces},
    progress::{Cancel, Progress, Quiet, Stderr},
    server::Server,
};
