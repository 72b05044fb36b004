//! A Postgres without Kubernetes, for tests that do to a server what others must not feel.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::Signal;

use crate::{
    Error,
    account::Account,
    cache::Cache,
    control_plane::Site,
    pki::Pki,
    postgres::{self, Postgres},
    process::Spawner,
    progress::{Cancel, Progress, Quiet, Steps},
    run_dir::RunDir,
};

/// A running Postgres on a free port of 127.0.0.1; dropping it stops it and removes its files.
// The fields are dropped in this order, so the folder goes last.
#[derive(Debug)]
pub struct Server {
    postgres: Postgres,
    spawner: Arc<Spawner>,
    run: Arc<RunDir>,
}

impl Server {
    /// Starts a server and waits until it answers. `wrapper`: a program with arguments that is to start it, if any.
    pub fn start(wrapper: &[OsString]) -> Result<Self, Error> {
        Self::start_with(wrapper, Cancel::default(), &mut Quiet)
    }

    /// The same, which `cancel` stops half-way. The first time, this may download Postgres.
    pub fn start_with(
        wrapper: &[OsString],
        cancel: Cancel,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let cache = Cache::open()?;
        let account = Account::for_postgres()?;
        let mut steps = Steps::new(progress, cancel);
        let run = Arc::new(RunDir::create(&cache, account.as_ref())?);
        let bin = postgres::find(&cache, &run, &mut steps)?;
        let logs = run.sub("logs")?;
        let pki = Pki::create(&run.sub("pki")?, None)?;
        let spawner = Spawner::start()?;
        let site = Site { run: &run, logs: &logs, pki: &pki, spawner: &spawner, address: None };
        let postgres = Postgres::start(&site, &bin, account.as_ref(), wrapper, &mut steps)?;
        Ok(Self { postgres, spawner, run })
    }

    /// The `postgres://` URL of a superuser, with `sslmode=require`. It stays the same.
    pub fn url(&self) -> &str {
        &self.postgres.url
    }

    /// The folder of this server and its standbys, with `logs` in it.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// What a command needs in its environment to work with this server. `KUBECONFIG` names a file that is not there, so that the
    /// command reaches no cluster, least of all one of yours.
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

    /// Kills the server as the kernel does when memory runs out, and nothing is written any more.
    pub fn kill(&mut self) {
        self.postgres.end(Signal::KILL);
    }

    /// Starts the server again that was killed.
    pub fn start_again(&mut self) -> Result<(), Error> {
        let mut quiet = Quiet;
        let mut steps = Steps::new(&mut quiet, Cancel::default());
        self.postgres.start_again(&self.spawner, &mut steps)
    }

    /// A streaming standby of this server, which restarts for it.
    pub fn standby(&mut self) -> Result<Self, Error> {
        let mut quiet = Quiet;
        let mut steps = Steps::new(&mut quiet, Cancel::default());
        let folder = self.run.path().join("standby");
        let postgres = self.postgres.standby(&folder, &self.spawner, &mut steps)?;
        Ok(Self { postgres, spawner: Arc::clone(&self.spawner), run: Arc::clone(&self.run) })
    }
}
