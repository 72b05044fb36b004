//! Runs Helm, and reads the manifests that it renders.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::blocking;

/// The chart in the repository.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/jobexec-operator");

/// The real program, with a home of its own.
pub(crate) struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
    kubeconfig: PathBuf,
}

/// The result of a run.
pub(crate) struct Ran {
    pub(crate) well: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(super) fn of(command: &mut Command, input: &str) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A program that does not read all of it closes the pipe.
        let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { well: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Returns the output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert!(self.well, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// Returns the error output of a run that must have failed.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.well, "not refused: {}", self.out);
        self.err
    }
}

impl Helm {
    /// Prepares Helm for one cluster. At the first call it may be downloaded or built.
    pub(crate) async fn new(kubeconfig: &Path) -> Self {
        static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
        let find = async || blocking(|| devcluster::helm(&mut devcluster::Quiet)).await;
        let program = PROGRAM.get_or_init(find).await.clone();
        Self { program, home: tempfile::tempdir().unwrap(), kubeconfig: kubeconfig.to_owned() }
    }

    /// The same for another user.
    pub(crate) fn with(&self, kubeconfig: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { program: self.program.clone(), home, kubeconfig: kubeconfig.to_owned() }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.home.path());
        }
        Ran::of(&mut command, "")
    }

    /// Renders a release named `release` with these `--set`.
    pub(crate) fn template(&self, release: &str, namespace: &str, sets: &[&str]) -> Ran {
        let mut args = vec!["template", release, CHART, "--namespace", namespace];
        args.extend(sets.iter().flat_map(|set| ["--set", *set]));
        self.run(&args)
    }
}

/// The objects of a manifest.
pub(crate) fn objects(manifest: &str) -> Vec<Value> {
    let documents = manifest.split("\n---").map(|document| document.trim_start_matches("---"));
    let objects = documents.map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    objects.filter(|object| !object.is_null()).collect()
}

/// The only object of a kind.
#[track_caller]
pub(crate) fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}
