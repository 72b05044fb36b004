//! A Postgres without Kubernetes, for tests that disturb the server and must not affect other tests.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::Signal;

use crate::{
    Error,
    cache::Cache,
    control_plane::Site,
    pki::Pki,
    postgres::{self, Postgres},
    process::Spawner,
    progress::{Cancel, Progress, Quiet, Steps},
    run_dir::RunDir,
    unprivileged_user::UnprivilegedUser,
};

/// A running Postgres on a free port of 127.0.0.1. Dropping it stops the server and removes its files.
// Fields are dropped in declaration order, so the folder is removed last.
#[derive(Debug)]
pub struct Server {
    postgres: Postgres,
    spawner: Arc<Spawner>,
    run: Arc<RunDir>,
}

impl Server {
    /// Starts a server and waits until it accepts connections. `wrapper` is a command line that starts it, or empty.
    pub fn start(wrapper: &[OsString]) -> Result<Self, Error> {
        Self::start_with(wrapper, Cancel::default(), &mut Quiet)
    }

    /// Starts a server like [`start`](Self::start), with cancellation and progress. The first call can download
    /// Postgres.
    pub fn start_with(
        wrapper: &[OsString],
        cancel: Cancel,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let cache = Cache::open()?;
        let user = UnprivilegedUser::for_postgres()?;
        let mut steps = Steps::new(progress, cancel);
        let run = Arc::new(RunDir::create(&cache, user.as_ref())?);
        let bin = postgres::find(&cache, &run, &mut steps)?;
        let logs = run.sub("logs")?;
        let pki = Pki::create(&run.sub("pki")?, None)?;
        let spawner = Spawner::start()?;
        let site = Site { run: &run, logs: &logs, pki: &pki, spawner: &spawner, address: None };
        let postgres = Postgres::start(&site, &bin, user.as_ref(), wrapper, &mut steps)?;
        Ok(Self { postgres, spawner, run })
    }

    /// Returns the `postgres://` URL of a superuser, with `sslmode=require`. A restart does not change it.
    pub fn url(&self) -> &str {
        &self.postgres.url
    }

    /// Returns the folder of this server and its standbys, which contains `logs`.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Returns the environment variables that a command needs to use this server. `KUBECONFIG` names a file that does
    /// not exist, so that the command cannot reach any of your clusters.
    pub fn env(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("DATABASE_URL", self.url().into()),
            ("KUBECONFIG", self.kubeconfig().into()),
            ("DEVCLUSTER", "1".into()),
        ]
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// Kills the server with SIGKILL, as the kernel does when memory runs out, so that it writes nothing more.
    pub fn kill(&mut self) {
        self.postgres.end(Signal::KILL);
    }

    /// Restarts a killed server.
    pub fn restart(&mut self) -> Result<(), Error> {
        let mut quiet = Quiet;
        let mut steps = Steps::new(&mut quiet, Cancel::default());
        self.postgres.restart(&self.spawner, &mut steps)
    }

    /// Starts a streaming standby of this server, which it restarts.
    pub fn standby(&mut self) -> Result<Self, Error> {
        let mut quiet = Quiet;
        let mut steps = Steps::new(&mut quiet, Cancel::default());
        let folder = self.run.path().join("standby");
        let postgres = self.postgres.standby(&folder, &self.spawner, &mut steps)?;
        Ok(Self { postgres, spawner: Arc::clone(&self.spawner), run: Arc::clone(&self.run) })
    }
}
