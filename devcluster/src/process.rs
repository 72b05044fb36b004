//! Runs child processes that never outlive this process.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{Error, progress::Steps, unprivileged_user::UnprivilegedUser};

/// The maximum time for a server to become ready, even on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// A thread that starts processes and lives as long as they do.
///
/// The kernel sends the parent-death signal when the *thread* that started a child ends, and the thread of a test can
/// end while other tests still use the cluster.
#[derive(Debug)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    pub(crate) fn start() -> Result<Arc<Self>, Error> {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::Builder::new()
            .name("devcluster-spawner".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .map_err(|source| Error::Spawn { program: "a thread".into(), source })?;
        Ok(Arc::new(Self { requests }))
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the spawning thread is gone");
        let (answer, child) = mpsc::channel();
        self.requests.send((command, answer)).map_err(|_| gone())?;
        child.recv().map_err(|_| gone())?
    }
}

/// The description of a process to start, and of the signal that ends it.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    /// The command line that starts the program. Empty to start it directly.
    pub(crate) wrapper: Vec<OsString>,
    /// The user to run as. `None` for the current user.
    pub(crate) user: Option<UnprivilegedUser>,
    /// The signal that ends the process quickly.
    pub(crate) stop: Signal,
    /// Whether to inherit the environment. Servers get a minimal one, because ETCD_… or PG… variables of the user would
    /// change their behavior.
    pub(crate) keep_env: bool,
    pub(crate) env: Vec<(&'static str, OsString)>,
}

impl Launch {
    /// Describes a server that SIGKILL ends, with its log in `logs`.
    pub(crate) fn server(name: &'static str, program: &Path, folder: &Path, logs: &Path) -> Self {
        Self {
            name,
            program: program.to_owned(),
            args: Vec::new(),
            folder: folder.to_owned(),
            log: logs.join(format!("{name}.log")),
            wrapper: Vec::new(),
            user: None,
            stop: Signal::KILL,
            keep_env: false,
            env: Vec::new(),
        }
    }

    pub(crate) fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn start(&self, spawner: &Arc<Spawner>) -> Result<Process, Error> {
        let open = || File::options().create(true).append(true).open(&self.log);
        let log = open().map_err(Error::io("open", &self.log))?;
        let stderr = log.try_clone().map_err(Error::io("open", &self.log))?;
        let mut command = setpriv(&self.wrapper, self.stop, self.user.as_ref());
        command.arg("--").arg(&self.program).args(&self.args);
        if !self.keep_env {
            command.env_clear();
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
            command.env("HOME", &self.folder).env("LC_ALL", "C").env("TZ", "UTC");
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        // A separate process group: Ctrl-C at the terminal is for the user's command, which still needs the cluster.
        command.current_dir(&self.folder).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(stderr);
        let child = spawner.spawn(command).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoSetpriv,
            _ => Error::Spawn { program: self.name.into(), source },
        })?;
        Ok(Process { launch: self.clone(), child, _spawner: Arc::clone(spawner) })
    }
}

/// Returns a `setpriv` command with a parent-death signal. The caller appends `--` and the program.
pub(crate) fn setpriv(wrapper: &[OsString], death: Signal, user: Option<&UnprivilegedUser>) -> Command {
    let mut words = wrapper.iter().cloned().chain(["setpriv".into()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    let death = match death {
        Signal::QUIT => "QUIT",
        Signal::TERM => "TERM",
        _ => "KILL",
    };
    command.args(["--pdeathsig", death]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
        command.arg("--clear-groups");
    }
    command
}

/// A running child process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    child: Child,
    /// Keeps the thread, and thus the child, alive.
    _spawner: Arc<Spawner>,
}

impl Process {
    /// Waits until `ready` returns true. Fails if the process exits or is not ready in time.
    pub(crate) fn until(&mut self, steps: &mut Steps, mut ready: impl FnMut() -> bool) -> Result<(), Error> {
        let begin = Instant::now();
        while !ready() {
            if let Some(status) = self.try_wait()? {
                return Err(self.ended_early(status));
            }
            if begin.elapsed() > READY_TIMEOUT {
                let (name, log) = (self.launch.name.into(), self.launch.log.clone());
                return Err(Error::NotReady {
                    name,
                    seconds: READY_TIMEOUT.as_secs(),
                    tail: tail(&log),
                    log,
                });
            }
            steps.tick()?;
            thread::sleep(Duration::from_millis(25));
        }
        Ok(())
    }

    /// Waits for a tool to exit successfully, without a time limit.
    pub(crate) fn success(mut self, steps: &mut Steps) -> Result<(), Error> {
        loop {
            match self.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.ended_early(status)),
                None => steps.tick()?,
            }
            thread::sleep(Duration::from_millis(25));
        }
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(|source| Error::Spawn { program: self.launch.name.into(), source })
    }

    fn ended_early(&self, status: ExitStatus) -> Error {
        let log = self.launch.log.clone();
        Error::EndedEarly { name: self.launch.name.into(), status, tail: tail(&log), log }
    }

    /// Sends `signal` to the process, but not to its children, and waits for its exit.
    pub(crate) fn end(mut self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
            let _ = self.child.wait();
        }
    }

    /// Ends the process and waits for its exit.
    fn stop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if self.launch.stop != Signal::KILL {
            let _ = kill_process(pid, self.launch.stop);
            let deadline = Instant::now() + Duration::from_secs(6);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the last lines of a log, which usually contain the cause.
fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES);
    let indented: Vec<_> = lines.iter().skip(from).map(|line| format!("  {line}")).collect();
    indented.join("\n")
}
