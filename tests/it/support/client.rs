//! The real client of a job system, from `tests/adapters/NAME`: it prints a line of JSON for each thing that happens. The workers of
//! docs/recovery.md print nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;

use super::machine::{Part, needs, not_tested, program};
use super::{PATIENCE, blocking};

/// The status with which a client exits if its packages cannot be had.
const UNAVAILABLE: i32 = 69;

/// What builds the client of a system, and whether it is there.
fn builder(system: &str) -> (Part, bool) {
    let there = |name| program(name).is_some();
    match system {
        "river" | "checkpoints/go" => (Part::Other("Go, from https://go.dev/dl"), there("go")),
        "spring-batch" => (Part::Debian("maven default-jdk-headless"), there("mvn") && there("javac")),
        "pg-boss" | "graphile-worker" => (Part::Debian("npm"), there("npm")),
        _ => {
            let mut venv = Command::new("python3");
            venv.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
            (Part::Debian("python3-venv"), venv.status().is_ok_and(|status| status.success()))
        }
    }
}

/// The client of one system, for one database.
pub(crate) struct Client {
    run: PathBuf,
    environment: Vec<(String, String)>,
}

impl Client {
    /// Builds the client, once. Returns `None` after reporting that `test` was left out.
    ///
    /// A program that is a package of Debian must be there where `JOBEXEC_TEST_ALL` is set, since `.ci/run` installs it. It installs
    /// neither Go nor the packages of the clients, which come from registries: without them the test is left out there too.
    pub(crate) async fn of(test: &str, system: &'static str) -> Option<Self> {
        let (part, there) = builder(system);
        if !there && matches!(part, Part::Other(_)) {
            not_tested(test, part);
            return None;
        }
        needs(test, part, there.then_some(()))?;
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters").join(system).join("run");
        let mut build = Command::new(&run);
        let built = blocking(move || build.arg("build").output()).await;
        if built.status.code() == Some(UNAVAILABLE) {
            not_tested(
                test,
                Part::Other("the packages of the clients, from npm, PyPI, Maven Central and Go's proxy"),
            );
            return None;
        }
        assert!(built.status.success(), "{}: {}", run.display(), String::from_utf8_lossy(&built.stderr));
        Some(Self { run, environment: Vec::new() })
    }

    /// Sets a variable of its environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.run);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end, and returns its lines.
    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs a command that prints one line.
    pub(crate) fn line(&self, arguments: &[&str]) -> Value {
        let mut lines = self.run(arguments);
        assert_eq!(lines.len(), 1, "{arguments:?}: {lines:?}");
        lines.remove(0)
    }

    /// Puts a job into its queue, and returns its id.
    pub(crate) fn enqueue(&self, arguments: &[&str]) -> String {
        let line = self.line(&[&["enqueue"], arguments].concat());
        line["id"].as_str().unwrap().to_owned()
    }

    /// What the client says of a job.
    pub(crate) fn show(&self, id: &str) -> Value {
        self.line(&["show", id])
    }

    /// Starts a worker.
    pub(crate) fn work(&self, arguments: &[&str]) -> Worker {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.command(&[&["work"], arguments].concat());
        let stderr = log.reopen().unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test may have ended.
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Worker { child, lines, seen: Vec::new(), log }
    }
}

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    lines: Receiver<Value>,
    /// Lines that nobody has waited for yet.
    seen: Vec<Value>,
    log: tempfile::NamedTempFile,
}

impl Worker {
    /// Waits for an event of a job, which may have come before, and returns its line. Each is returned once.
    pub(crate) fn until(&mut self, event: &str, id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        // Some clients print ids as numbers.
        let fits = |line: &Value| line["event"] == event && line["id"].to_string().trim_matches('"') == id;
        loop {
            if let Some(at) = self.seen.iter().position(fits) {
                return self.seen.remove(at);
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(error) => {
                    let log = std::fs::read_to_string(self.log.path()).unwrap();
                    panic!("no {event:?} of {id} ({error}): {:?}\n{log}", self.seen);
                }
            }
        }
    }

    /// Waits for the first event with this name, of any job, and returns the id of the job.
    pub(crate) fn first(&mut self, event: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.seen.iter().find(|line| line["event"] == event) {
                return line["id"].to_string().trim_matches('"').to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.seen
                .push(self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no {event:?}: {error}")));
        }
    }

    /// Sends it a line, such as `release ID`.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// Stops it as it is, until [`Self::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends it at once, as the kernel does when memory is short.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
