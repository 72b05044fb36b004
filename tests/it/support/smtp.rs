//! A real mail server, aiosmtpd, that reports what it receives and misbehaves as configured.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{PATIENCE, machine};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/notify/sink.py");

/// A mail server; it ends when dropped.
pub(crate) struct Sink {
    child: Child,
    stdin: Option<ChildStdin>,
    events: UnboundedReceiver<Value>,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    /// Its self-signed certificate.
    pub(crate) certificate: String,
    _folder: tempfile::TempDir,
}

impl Sink {
    /// Starts a mail server, or returns `None` after reporting that `test` was left out. `told`: see `sink.py`.
    pub(crate) async fn start(test: &str, told: &Value) -> Option<Self> {
        let python = machine::needs(test, machine::Part::Tool("aiosmtpd"), python())?;
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut told = told.clone();
        told["cert"] = json!(certificate);
        told["key"] = json!(key);
        // It ends with the test, even if that is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(python)
            .args([SCRIPT, &told.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = unbounded_channel();
        std::thread::spawn(move || {
            for line in lines {
                // There may be no receiver any more.
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let stdin = child.stdin.take();
        let certificate = made.cert.pem();
        let mut sink = Self { child, stdin, events, port: 0, certificate, _folder: folder };
        sink.port = u16::try_from(sink.next("listening").await["port"].as_u64().unwrap()).unwrap();
        Some(sink)
    }

    /// Waits for the next event of this kind.
    pub(crate) async fn next(&mut self, event: &str) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("never: {event}")).expect("the mail server runs");
            if next["event"] == event {
                return next;
            }
        }
    }

    /// Ends it after the last client has disconnected, and returns the kinds of events until then.
    pub(crate) async fn end(mut self) -> Vec<String> {
        self.stdin.take();
        let mut kinds = Vec::new();
        while let Some(event) = tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap() {
            kinds.push(event["event"].as_str().unwrap().to_owned());
        }
        kinds
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python installation that contains aiosmtpd: the one beside its program.
fn python() -> Option<PathBuf> {
    let program = machine::program("aiosmtpd")?;
    let python = program.canonicalize().ok()?.parent()?.join("python3");
    python.is_file().then_some(python)
}
