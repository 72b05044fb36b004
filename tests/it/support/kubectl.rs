//! kubectl, as a user runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::helm::Ran;

/// The real program, with a cache of its own: concurrent tests would otherwise write the same files.
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
    cache: tempfile::TempDir,
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), cache: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn run(&self, args: &[&str], input: &str) -> Ran {
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.cache.path());
        Ran::of(&mut command, input)
    }

    /// Applies a manifest with a dry run on the API server, which refuses unknown fields. Objects that name no namespace
    /// are for this one.
    pub(crate) fn dry_run(&self, namespace: Option<&str>, manifest: &str) -> Ran {
        let mut args = vec!["apply", "--server-side", "--dry-run=server", "--validate=strict"];
        args.extend(["--force-conflicts", "--field-manager=test", "--filename", "-"]);
        args.extend(namespace.iter().flat_map(|namespace| ["--namespace", namespace]));
        self.run(&args, manifest)
    }
}
