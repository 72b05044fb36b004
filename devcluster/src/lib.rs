//! A throwaway Kubernetes control plane and Postgres on loopback, for the demo and the tests.
//!
//! [`Cluster::start`] gives etcd, kube-apiserver (with RBAC), kube-controller-manager and Postgres, each a process of
//! its own on a free port of 127.0.0.1. Without a node objects of every kind can be made, but no Pod runs.
//! Dropping the [`Cluster`] ends the processes and removes their files; killing this process does so too, the files
//! then go at the next start. Several clusters can run at once.
//!
//! Inside a [`Room`], which takes root, a cluster can have a node too ([`NodeOptions`]), and Pods run; [`Image`] makes
//! images for them.
//!
//! [`helm`] gives the program of that name, for those who install a chart.
//!
//! A [`Server`] is a Postgres alone, which may be killed and started again and followed by a standby.
//!
//! How the parts hang together: [`Cluster`] finds the programs (`binaries`, which asks `download` and then `gobuild`;
//! `postgres`, which asks `embedded`), makes a folder (`run_dir`) and certificates in it (`pki`), and starts the servers
//! (`control_plane`, `postgres`, `node`) as children that never outlive it (`process`).
//!
//! ```no_run
//! # fn main() -> Result<(), devcluster::Error> {
//! let cluster = devcluster::Cluster::start(&devcluster::Options::default(), &mut devcluster::Quiet)?;
//! println!("{} {}", cluster.kubeconfig().display(), cluster.database_url());
//! # Ok(())
//! # }
//! ```

mod account;
mod binaries;
mod cache;
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
mod leftovers;
mod node;
mod pki;
mod ports;
mod postgres;
mod process;
mod progress;
mod run_dir;
mod server;

pub use crate::{
    cache::Cache,
    cluster::{Cluster, Options},
    error::Error,
    helm::helm,
    image::{Image, Written},
    node::{NodeOptions, Room, Tenant, furnish},
    progress::{Cancel, Progress, Quiet, Stderr},
    server::Server,
};
