//! `devcluster exec`: a cluster, or Postgres alone, for the length of a command.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus},
    thread,
    time::Duration,
};

use clap::Args;
use devcluster::{Cluster, Error, NodeOptions, Options, Server, Stderr};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    signals::{self, Signals},
    watch::Watch,
};

#[derive(Args)]
pub(crate) struct ExecArgs {
    /// With a node, so that Pods run: in namespaces of its own, where COMMAND runs too and which have no way out
    ///
    /// Takes root. Where it cannot be, the status is 69. A Pod reaches what COMMAND runs at `DEVCLUSTER_NODE_ADDRESS`.
    #[arg(long)]
    node: bool,
    /// For the node: an archive with images for Pods, as there is no registry; can be repeated
    #[arg(long = "image", value_name = "FILE", requires = "node")]
    images: Vec<PathBuf>,
    /// With Postgres alone, which starts within seconds and needs no Kubernetes: `KUBECONFIG` names a file that is not there
    #[arg(long, conflicts_with = "node")]
    postgres: bool,
    /// In the namespaces that `--node` has made
    #[arg(long, hide = true, requires = "node")]
    inside: bool,
    /// The command and its arguments, after `--`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &ExecArgs) -> Result<ExitCode, Error> {
    if args.node && !args.inside {
        return super::node::run(&args.images, &args.command);
    }
    let failed = |source| Error::Spawn { program: "COMMAND".into(), source };
    let signals = Signals::listen().map_err(failed)?;
    let mut options = Options { cancel: signals.cancel(), ..Options::default() };
    if args.inside {
        devcluster::furnish()?;
        options.node = Some(NodeOptions { images: args.images.clone() });
    }
    let mut progress = Stderr::new();
    let started = if args.postgres {
        Server::start_with(&[], options.cancel, &mut progress)
            .map(|server| Running::Postgres(Box::new(server)))
    } else {
        Cluster::start(&options, &mut progress).map(|cluster| Running::Cluster(Box::new(cluster)))
    };
    let running = match started {
        Err(Error::Cancelled) => return Ok(code(128 + signals.take().unwrap_or_default())),
        started => started?,
    };
    // Clears the line of the terminal before the command writes there.
    drop(progress);
    let watch = Watch::start(running.folder())?;
    let child = spawn(&args.command, running.env())?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let status = wait(child, &signals, |signal| {
        if let Some(pid) = pid {
            // If it has just ended, the next look says so.
            let _ = kill_process(pid, signal);
        }
    });
    let status = status.map_err(failed)?;
    watch.finish();
    drop(running);
    Ok(code(number(status)))
}

/// What the command has.
enum Running {
    Cluster(Box<Cluster>),
    Postgres(Box<Server>),
}

impl Running {
    fn folder(&self) -> &Path {
        match self {
            Self::Cluster(cluster) => cluster.folder(),
            Self::Postgres(server) => server.folder(),
        }
    }

    fn env(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Self::Cluster(cluster) => cluster.env(),
            Self::Postgres(server) => server.env(),
        }
    }
}

fn spawn(command: &[OsString], env: Vec<(&'static str, OsString)>) -> Result<Child, Error> {
    // Killing this process ends the command, which has no cluster any more. This thread, the main one, lives as long
    // as the process.
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--pdeathsig", "KILL", "--"]).args(command).envs(env);
    setpriv.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoSetpriv,
        _ => Error::Spawn { program: "setpriv".into(), source },
    })
}

/// Waits for the command, and passes on the signals that only this process has got.
pub(crate) fn wait(mut child: Child, signals: &Signals, pass_on: impl Fn(Signal)) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(number) = signals.take()
            && !signals::came_from_terminal(number)
            && let Some(signal) = Signal::from_named_raw(number)
        {
            pass_on(signal);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// As a shell tells it.
pub(crate) fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

pub(crate) fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
