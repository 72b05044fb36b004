//! `devcluster exec`: runs a command with a cluster, or with Postgres only.

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
    /// Add a node, so that Pods run. The node and COMMAND run in separate namespaces without access to the network
    ///
    /// Requires root. If a node cannot run on this machine, the exit status is 69. Pods reach servers that COMMAND
    /// starts at `DEVCLUSTER_NODE_ADDRESS`.
    #[arg(long)]
    node: bool,
    /// Load the images in this archive onto the node, which has no registry; can be repeated
    #[arg(long = "image", value_name = "FILE", requires = "node")]
    images: Vec<PathBuf>,
    /// Start only Postgres, within seconds and without Kubernetes. `KUBECONFIG` names a file that does not exist
    #[arg(long, conflicts_with = "node")]
    postgres: bool,
    /// Run inside the namespaces that `--node` created
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
        devcluster::prepare_namespaces()?;
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
            // Fails if the process has just ended, which the next iteration notices.
            let _ = kill_process(pid, signal);
        }
    });
    let status = status.map_err(failed)?;
    watch.finish();
    drop(running);
    Ok(code(number(status)))
}

/// The servers that a command uses.
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
    // Killing this process also ends the command, whose cluster is gone. The signal follows the thread that starts the
    // command; this is the main thread, which lives as long as the process.
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--pdeathsig", "KILL", "--"]).args(command).envs(env);
    setpriv.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoSetpriv,
        _ => Error::Spawn { program: "setpriv".into(), source },
    })
}

/// Waits for the command, and forwards the signals that only this process received.
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

/// Returns the exit status as a shell reports it.
pub(crate) fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

pub(crate) fn code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
