//! What can go wrong, worded for the person at the terminal: what is missing and how to get it.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

/// A failure to find, build, start or stop a part of the cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Neither of the variables that name a place for the cache is set.
    #[error("no place for the cache: set JOBEXEC_DEVCLUSTER_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program's name.
        program: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Without setpriv nothing would end the servers when this process is killed.
    #[error("setpriv not found: apt-get install util-linux (or your distribution's util-linux package)")]
    NoSetpriv,
    /// A server ended instead of becoming ready.
    #[error("{name} ended early ({status}); the end of its log {}:\n{tail}", log.display())]
    EndedEarly {
        /// Which server or tool.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// A server is there but does not answer as it should.
    #[error("{name} was not ready after {seconds} s; the end of its log {}:\n{tail}", log.display())]
    NotReady {
        /// Which server.
        name: String,
        /// How long it was waited for.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// Asked to stop while starting.
    #[error("stopped while starting")]
    Cancelled,
    /// Official binaries exist for two architectures only.
    #[error("no Kubernetes or Postgres binaries are published for {0}: put your own on PATH")]
    UnsupportedArch(&'static str),
    /// A download failed.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// From where.
        url: String,
        /// Why it failed.
        reason: String,
    },
    /// What came is not what was published.
    #[error("{url} has SHA-256 {actual}, expected {expected}: not used")]
    Checksum {
        /// From where.
        url: String,
        /// The published checksum.
        expected: String,
        /// The checksum of what came.
        actual: String,
    },
    /// Kubernetes could neither be found, nor downloaded, nor built.
    #[error(
        "no Kubernetes binaries: not in KUBEBUILDER_ASSETS, not on PATH (kube-apiserver {minimum} or newer, \
         with etcd, kube-controller-manager and kubectl), no download ({download}), no build ({build})"
    )]
    NoKubernetes {
        /// The oldest acceptable version.
        minimum: String,
        /// Why the download failed.
        download: Box<Error>,
        /// Why the build failed.
        build: Box<Error>,
    },
    /// Helm could neither be found, nor downloaded, nor built.
    #[error("no helm: not on PATH ({minimum} or newer), no download ({download}), no build ({build})")]
    NoHelm {
        /// The oldest acceptable version.
        minimum: String,
        /// Why the download failed.
        download: Box<Error>,
        /// Why the build failed.
        build: Box<Error>,
    },
    /// There is no usable Go to build with.
    #[error(
        "no Go toolchain of version 1.21 or newer on PATH: https://go.dev/dl, or apt-get install golang if that is new enough"
    )]
    NoGo,
    /// No Postgres is installed, and the embedded one could not be had.
    #[error(
        "no Postgres server of version 13 or newer: apt-get install postgresql (or put its bin folder on PATH); \
         a ready-made one could not be had either: {0}"
    )]
    NoPostgres(Box<Error>),
    /// The folder named by `JOBEXEC_DEVCLUSTER_POSTGRES` is no Postgres.
    #[error(
        "JOBEXEC_DEVCLUSTER_POSTGRES={}: neither \"embedded\" nor a folder with initdb and postgres \
         of version 13 or newer",
        .0.display()
    )]
    BadPostgres(PathBuf),
    /// Postgres refuses to run as root, and there is nobody to run it as.
    #[error(
        "Postgres does not run as root, and there is neither a user \"postgres\" nor \"nobody\": useradd postgres"
    )]
    NoAccount,
    /// Every folder for temporary files is closed to other users.
    #[error("Postgres runs as {0}, who can enter none of TMPDIR, /tmp and /var/tmp: chmod a+x one of them")]
    NoOpenFolder(String),
    /// This machine, or what this process may do on it, does not suffice for a node.
    #[error("no node can run here: {0}")]
    NoNode(String),
    /// A file is no program that can be put into an image.
    #[error("no image can be made of {}: {reason}", path.display())]
    BadProgram {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificates could not be made.
    #[error("cannot make certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// The local HTTPS client could not be made from our own certificates.
    #[error("cannot use the certificates: {0}")]
    Https(#[from] ureq::Error),
    /// `devcluster sql` got no answer.
    #[error("{0}")]
    Sql(String),
    /// There is no cluster to talk to.
    #[error("no cluster: run inside `devcluster exec --`, or `eval \"$(devcluster up)\"` first")]
    NotRunning,
    /// The background process of `devcluster up` failed; the text is its own.
    #[error("{0}")]
    Background(String),
}

impl Error {
    /// Makes the error of an operation on `path`, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Names the log where it was kept, as the cluster's own folder is gone when the error is read.
    pub(crate) fn with_log_in(mut self, folder: &Path) -> Self {
        if let Self::EndedEarly { log, .. } | Self::NotReady { log, .. } = &mut self
            && let Some(name) = log.file_name()
        {
            *log = folder.join(name);
        }
        self
    }

    /// Whether a server failed only because its port was taken between choosing and using it.
    pub(crate) fn port_was_taken(&self) -> bool {
        matches!(self, Self::EndedEarly { tail, .. } if tail.to_lowercase().contains("address already in use"))
    }
}
