//! The operator under test: the real binary.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::PATIENCE;

/// The networks that contain the servers of the tests.
pub(crate) const LOOPBACK: &str = "127.0.0.0/8,::1";

/// A running operator; killed when dropped.
pub(crate) struct Operator {
    child: Child,
    log: PathBuf,
    /// The length of the log before this operator.
    before: u64,
}

impl Operator {
    /// Starts the binary for these namespaces with this kubeconfig and additional environment, and logs to `log`.
    pub(crate) fn start(
        namespace: &str,
        kubeconfig: &std::path::Path,
        log: PathBuf,
        env: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
        command
            .args(["operator", "--namespaces", namespace])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("LOG_FORMAT", "json")
            // Many operators share one machine: only tests of the servers ask for a port.
            .env("HTTPS_ADDRESS", "off")
            .env("PROBE_ADDRESS", "off")
            .env("RUST_LOG", "debug,hyper=info,tower=info,rustls=info")
            .env("RUST_BACKTRACE", "1")
            // All servers of the tests are on this machine.
            .env("ALLOW_ADDRESSES", LOOPBACK)
            .envs(env.iter().copied());
        Self::spawn(command, log)
    }

    /// Starts the binary as a container of a Pod would, with exactly its arguments and its environment, but on free
    /// ports.
    pub(crate) fn of_container(container: &Value, kubeconfig: &std::path::Path, log: PathBuf) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
        command.args(container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()));
        command.env_clear().env("KUBECONFIG", kubeconfig);
        for variable in container["env"].as_array().unwrap() {
            // The only value that is not literal is the Pod's own name.
            let value = variable["value"].as_str().unwrap_or("jobexec-operator-0");
            let free = match variable["name"].as_str().unwrap() {
                name if name.ends_with("_ADDRESS") && value != "off" => "127.0.0.1:0",
                _ => value,
            };
            command.env(variable["name"].as_str().unwrap(), free);
        }
        command.env("ALLOW_ADDRESSES", LOOPBACK);
        Self::spawn(command, log)
    }

    fn spawn(mut command: Command, log: PathBuf) -> Self {
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let before = stderr.metadata().unwrap().len();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        Self { child, log, before }
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// The log of this operator, without those before it.
    pub(crate) fn own_log(&self) -> String {
        self.own_lines().map(|line| line + "\n").collect()
    }

    /// The lines of that log, read lazily.
    pub(crate) fn own_lines(&self) -> impl Iterator<Item = String> + use<> {
        let mut log = std::fs::File::open(&self.log).unwrap();
        log.seek(std::io::SeekFrom::Start(self.before)).unwrap();
        BufReader::new(log).lines().map(Result::unwrap)
    }

    /// Waits until this many lines of that log contain the text.
    pub(crate) async fn has_said(&self, text: &str, times: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.own_lines().filter(|line| line.contains(text)).count() < times {
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "it never said {text:?} {times} times\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The file of the log.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// A value of its memory by its name in `/proc/PID/status`, in MiB.
    pub(crate) fn memory(&self, figure: &str) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(figure)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
    }

    /// The id of its process.
    #[allow(dead_code, reason = "a benchmark uses it")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reports whether it still runs.
    #[allow(dead_code, reason = "a benchmark uses it")]
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(tokio::time::Instant::now() < deadline, "it goes on\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Asks it to stop and returns its exit status.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
