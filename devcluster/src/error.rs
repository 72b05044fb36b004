//! The errors of this crate, with messages for users at a terminal: what is missing and how to install it.

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
        /// The attempted action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// All environment variables that locate the cache are unset.
    #[error("no folder for the cache: set JOBEXEC_DEVCLUSTER_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The name of the program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// `setpriv`, which ends the servers if this process is killed, is missing.
    #[error("setpriv not found: apt-get install util-linux (or your distribution's util-linux package)")]
    NoSetpriv,
    /// A server ended instead of becoming ready.
    #[error("{name} exited early ({status}); last lines of its log {}:\n{tail}", log.display())]
    EndedEarly {
        /// The name of the server or tool.
        name: String,
        /// The exit status.
        status: ExitStatus,
        /// The path of the log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A server is running but did not become ready in time.
    #[error("{name} was not ready after {seconds} s; last lines of its log {}:\n{tail}", log.display())]
    NotReady {
        /// The name of the server.
        name: String,
        /// The time waited, in seconds.
        seconds: u64,
        /// The path of the log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The start was cancelled.
    #[error("cancelled while starting")]
    Cancelled,
    /// Official binaries exist only for amd64 and arm64.
    #[error("no Kubernetes or Postgres binaries are published for {0}: put your own on PATH")]
    UnsupportedArch(&'static str),
    /// A download failed.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// The URL of the download.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The checksum of a download does not match the published one.
    #[error("{url} has SHA-256 {actual}, expected {expected}: not used")]
    Checksum {
        /// The URL of the download.
        url: String,
        /// The published checksum.
        expected: String,
        /// The checksum of the downloaded file.
        actual: String,
    },
    /// Kubernetes was not found, and could not be downloaded or built.
    #[error(
        "no Kubernetes binaries: not in KUBEBUILDER_ASSETS, not on PATH (kube-apiserver {minimum} or newer, \
         with etcd, kube-controller-manager and kubectl); the download failed ({download}); the build failed ({build})"
    )]
    NoKubernetes {
        /// The minimum version.
        minimum: String,
        /// The error of the download.
        download: Box<Error>,
        /// The error of the build.
        build: Box<Error>,
    },
    /// Helm was not found, and could not be downloaded or built.
    #[error(
        "no helm: not on PATH ({minimum} or newer); the download failed ({download}); the build failed ({build})"
    )]
    NoHelm {
        /// The minimum version.
        minimum: String,
        /// The error of the download.
        download: Box<Error>,
        /// The error of the build.
        build: Box<Error>,
    },
    /// No usable Go toolchain is installed.
    #[error(
        "no Go toolchain of version 1.21 or newer on PATH: install it from https://go.dev/dl, or with \
         apt-get install golang if that is new enough"
    )]
    NoGo,
    /// Postgres is not installed, and could not be downloaded.
    #[error(
        "no Postgres server of version 13 or newer: apt-get install postgresql (or put its bin folder on PATH); \
         the download failed too: {0}"
    )]
    NoPostgres(Box<Error>),
    /// `JOBEXEC_DEVCLUSTER_POSTGRES` names a folder without a usable Postgres.
    #[error(
        "JOBEXEC_DEVCLUSTER_POSTGRES={} must be \"embedded\" or a folder with initdb and postgres of version 13 or newer",
        .0.display()
    )]
    BadPostgres(PathBuf),
    /// Postgres refuses to run as root, and no other user is available to run it.
    #[error(
        "Postgres does not run as root, and there is neither a user \"postgres\" nor \"nobody\": useradd postgres"
    )]
    NoUnprivilegedUser,
    /// All folders for temporary files are closed to other users.
    #[error("Postgres runs as {0}, who cannot enter TMPDIR, /tmp or /var/tmp: chmod a+x one of them")]
    NoOpenFolder(String),
    /// This machine, or the privileges of this process, do not suffice for a node.
    #[error("cannot run a node here: {0}")]
    NoNode(String),
    /// A file is not a program that an image can hold.
    #[error("cannot build an image of {}: {reason}", path.display())]
    BadProgram {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// Certificates could not be created.
    #[error("cannot create certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// The local HTTPS client could not be created from the cluster's certificates.
    #[error("cannot use the certificates: {0}")]
    Https(#[from] ureq::Error),
    /// The SQL of `devcluster sql` failed.
    #[error("{0}")]
    Sql(String),
    /// No cluster is running.
    #[error("no cluster: run inside `devcluster exec --`, or `eval \"$(devcluster up)\"` first")]
    NotRunning,
    /// The background process of `devcluster up` failed with this message.
    #[error("{0}")]
    Background(String),
}

impl Error {
    /// Returns a function for `map_err` that creates the error of an action on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Changes the folder of the log to `folder`, because the folder of the cluster is removed before the user reads
    /// the error.
    pub(crate) fn with_log_in(mut self, folder: &Path) -> Self {
        if let Self::EndedEarly { log, .. } | Self::NotReady { log, .. } = &mut self
            && let Some(name) = log.file_name()
        {
            *log = folder.join(name);
        }
        self
    }

    /// Reports whether a server failed only because another process took its port between choosing and using it.
    pub(crate) fn port_was_taken(&self) -> bool {
        matches!(self, Self::EndedEarly { tail, .. } if tail.to_lowercase().contains("address already in use"))
    }
}
