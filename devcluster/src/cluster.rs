//! A cluster: all of its servers, and its folder.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use crate::{
    Error,
    binaries::{self, Extent, Kubernetes},
    cache::Cache,
    control_plane::{ControlPlane, Site},
    node::{self, Node, NodeOptions, containers::Containers},
    pki::Pki,
    postgres::{self, Postgres},
    process::Spawner,
    progress::{Cancel, Progress, Quiet, Steps},
    run_dir::{self, RunDir},
    unprivileged_user::UnprivilegedUser,
};

/// Options of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Additional arguments of kube-apiserver, which override the default ones.
    pub apiserver_args: Vec<String>,
    /// Options of a node, which runs Pods. Only possible inside a [`Sandbox`](crate::Sandbox).
    pub node: Option<NodeOptions>,
    /// Cancels the start.
    pub cancel: Cancel,
}

impl Options {
    fn extent(&self) -> Extent {
        if self.node.is_some() { Extent::WithNode } else { Extent::ControlPlane }
    }

    /// Returns the address at which Pods reach the servers.
    fn address(&self) -> Option<&'static str> {
        self.node.as_ref().map(|_| node::ADDRESS)
    }
}

/// A running cluster: etcd, kube-apiserver, kube-controller-manager and Postgres on free ports of 127.0.0.1.
///
/// Dropping it stops all servers and removes all files. The servers also end when this process ends without dropping
/// it, by a signal or because the cluster is in a `static`. The next start then removes the files.
// Fields are dropped in declaration order, so the folder is removed last.
#[derive(Debug)]
pub struct Cluster {
    /// Boxed, because most clusters have no node.
    node: Option<Box<Node>>,
    control_plane: ControlPlane,
    postgres: Postgres,
    ca: PathBuf,
    bin: PathBuf,
    run: RunDir,
}

impl Cluster {
    /// Starts a cluster and waits until it is ready. The first call can download or build Kubernetes.
    pub fn start(options: &Options, progress: &mut dyn Progress) -> Result<Self, Error> {
        let cache = Cache::open()?;
        let user = UnprivilegedUser::for_postgres()?;
        let mut steps = Steps::new(progress, options.cancel.clone());
        let kubernetes = binaries::find(&cache, options.extent(), &mut steps)?;
        let run = RunDir::create(&cache, user.as_ref())?;
        let postgres_bin = postgres::find(&cache, &run, &mut steps)?;
        let logs = run.sub("logs")?;
        let containers = options.node.as_ref().map(|_| Containers::find(&cache, &mut steps)).transpose()?;
        let parts = Parts { run: &run, logs: &logs, kubernetes, containers, postgres_bin, user };
        let Running { node, control_plane, postgres, ca } =
            parts.start(options, steps).map_err(|error| keep_logs(error, &logs, &cache))?;
        let bin = parts.link_tools()?;
        Ok(Self { node, control_plane, postgres, ca, bin, run })
    }

    /// Removes the files and processes that killed clusters left behind. Each start does so too.
    pub fn sweep() -> Result<(), Error> {
        run_dir::sweep(&run_dir::parent(&Cache::open()?, UnprivilegedUser::for_postgres()?.as_ref())?);
        Ok(())
    }

    /// Returns the path of a kubeconfig for a cluster administrator.
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// Returns the `postgres://` URL of a superuser, with `sslmode=require`.
    pub fn database_url(&self) -> &str {
        &self.postgres.url
    }

    /// Returns the path of the certificate authority of kube-apiserver and Postgres, in PEM format.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// Returns the folder of this cluster, which contains `logs`. Dropping the cluster removes it.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Returns the path of a folder with `kubectl`, and with `psql` if it is installed.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Returns the environment variables that a command needs to use this cluster.
    pub fn env(&self) -> Vec<(&'static str, OsString)> {
        let mut path = self.bin.clone().into_os_string();
        if let Some(inherited) = env::var_os("PATH") {
            path.push(":");
            path.push(inherited);
        }
        let mut env = vec![
            ("KUBECONFIG", self.kubeconfig().into()),
            ("DATABASE_URL", self.database_url().into()),
            ("PATH", path),
            // Otherwise kubectl writes its cache of this cluster to ~/.kube/cache.
            ("KUBECACHEDIR", self.run.path().join("kube-cache").into_os_string()),
            ("DEVCLUSTER", "1".into()),
            ("DEVCLUSTER_CA", self.ca_file().into()),
        ];
        if self.node.is_some() {
            env.push(("DEVCLUSTER_NODE", node::NAME.into()));
            env.push(("DEVCLUSTER_NODE_ADDRESS", node::ADDRESS.into()));
        }
        env
    }
}

/// The prerequisites of the servers.
struct Parts<'a> {
    run: &'a RunDir,
    logs: &'a Path,
    kubernetes: Kubernetes,
    containers: Option<Containers>,
    postgres_bin: PathBuf,
    user: Option<UnprivilegedUser>,
}

/// The running servers. Fields are dropped in declaration order.
struct Running {
    node: Option<Box<Node>>,
    control_plane: ControlPlane,
    postgres: Postgres,
    ca: PathBuf,
}

impl Parts<'_> {
    fn start(&self, options: &Options, mut steps: Steps) -> Result<Running, Error> {
        let pki = Pki::create(&self.run.sub("pki")?, options.address())?;
        let spawner = Spawner::start()?;
        let address = options.address();
        let site = Site { run: self.run, logs: self.logs, pki: &pki, spawner: &spawner, address };
        let (control_plane, postgres) = self.servers(&site, options, &mut steps)?;
        let node = self.node(&site, options, control_plane.port(), &mut steps)?;
        Ok(Running { node, control_plane, postgres, ca: pki.ca_file })
    }

    fn node(
        &self,
        site: &Site,
        options: &Options,
        port: u16,
        steps: &mut Steps,
    ) -> Result<Option<Box<Node>>, Error> {
        match (&options.node, &self.kubernetes.node, &self.containers) {
            (Some(options), Some(programs), Some(containers)) => {
                let node = Node::start(site, programs, containers, options, port, steps)?;
                Ok(Some(Box::new(node)))
            }
            _ => Ok(None),
        }
    }

    /// Starts Postgres and Kubernetes concurrently, because each of them leaves a core idle half of the time.
    fn servers(
        &self,
        site: &Site,
        options: &Options,
        steps: &mut Steps,
    ) -> Result<(ControlPlane, Postgres), Error> {
        let cancel = options.cancel.scope();
        steps.watch(cancel.clone());
        let (control_plane, postgres) = thread::scope(|scope| {
            let postgres = scope.spawn(|| {
                let mut quiet = Quiet;
                let mut steps = Steps::new(&mut quiet, cancel.clone());
                let started = Postgres::start(site, &self.postgres_bin, self.user.as_ref(), &[], &mut steps);
                started.inspect_err(|_| cancel.fail())
            });
            let started = ControlPlane::start(site, &self.kubernetes, &options.apiserver_args, steps);
            let control_plane = started.inspect_err(|_| cancel.fail());
            let lost = || Error::Spawn {
                program: "postgres".into(),
                source: std::io::Error::other("a thread panicked"),
            };
            (control_plane, postgres.join().unwrap_or_else(|_| Err(lost())))
        });
        match (control_plane, postgres) {
            (Ok(control_plane), Ok(postgres)) => Ok((control_plane, postgres)),
            // If one was only cancelled, the error of the other one is the cause.
            (Err(Error::Cancelled) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
        }
    }

    /// Creates a folder for PATH that contains only the clients.
    fn link_tools(&self) -> Result<PathBuf, Error> {
        let bin = self.run.sub("bin")?;
        let link = |program: &Path, name: &str| {
            let to = bin.join(name);
            symlink(program, &to).map_err(Error::io("create the link", &to))
        };
        link(&self.kubernetes.kubectl, "kubectl")?;
        if let Some(psql) = binaries::executable(&self.postgres_bin, "psql") {
            link(&psql, "psql")?;
        }
        Ok(bin)
    }
}

/// Copies the logs of a cluster that failed to start into the cache, where they stay until the next failure. The folder
/// of the cluster is removed.
fn keep_logs(error: Error, logs: &Path, cache: &Cache) -> Error {
    let kept = cache.path().join("last-failure");
    let _ = fs::remove_dir_all(&kept);
    let copy = || {
        fs::create_dir_all(&kept)?;
        for entry in fs::read_dir(logs)?.flatten() {
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
        std::io::Result::Ok(())
    };
    if copy().is_ok() { error.with_log_in(&kept) } else { error }
}
