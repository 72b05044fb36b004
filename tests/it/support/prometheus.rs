//! A Prometheus and an Alertmanager for one test.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{PATIENCE, https};

/// A running server of the Prometheus family; killed when dropped.
pub(crate) struct Monitor {
    child: Child,
    /// The address of its API.
    pub(crate) address: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Monitor {
    /// Starts `program` with this configuration and additional files, and waits until it is ready. `data`: the option for
    /// its data folder, which differs between the two programs.
    pub(crate) async fn start(
        program: &Path,
        args: &[&str],
        data: &str,
        config: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let client = https::builder().build().unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Another process may take a free port first.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let address = format!("127.0.0.1:{port}");
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            // It ends with the test, even if that is killed.
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(program)
                .args(args)
                .arg(format!("--config.file={}", folder.path().join("config.yml").display()))
                .arg(format!("{data}={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let ready = format!("http://{address}/-/ready");
            while child.try_wait().unwrap().is_none() {
                if client.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200) {
                    return Self { child, address, client, _folder: folder };
                }
                assert!(tokio::time::Instant::now() < deadline, "{} is never ready", program.display());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(tokio::time::Instant::now() < deadline, "{} ends at once: {log}", program.display());
        }
    }

    /// Repeats a request until the response is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.client.get(format!("http://{}{path}", self.address)).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            if wanted(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
