//! Parts of the machine that a test needs and that not every machine has.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A part that not every machine has, by the way to get it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Packages of Debian, which need root.
    Debian(&'static str),
    /// A program that `tests/tools` installs without root.
    Tool(&'static str),
    /// A part that no command installs.
    Other(&'static str),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Debian(packages) => write!(f, "`apt-get install {packages}`"),
            Self::Tool(program) => write!(f, "`tests/tools {program}`"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Returns `found`, or `None` after reporting that `test` was left out. With `JOBEXEC_TEST_ALL` set, as in CI, the part
/// must exist.
pub(crate) fn needs<T>(test: &str, part: Part, found: Option<T>) -> Option<T> {
    if found.is_none() {
        assert!(std::env::var_os("JOBEXEC_TEST_ALL").is_none(), "{test} needs {part}");
        not_tested(test, part);
    }
    found
}

/// Reports on the terminal that `test` was left out, and in the file `JOBEXEC_NOT_TESTED`, from which `make test` reports
/// it again at its end.
pub(crate) fn not_tested(test: &str, part: Part) {
    // Not captured, unlike the output of `eprintln!`.
    std::io::stderr().write_all(format!("\nNOT TESTED: {test} needs {part}\n").as_bytes()).unwrap();
    let Some(path) = std::env::var_os("JOBEXEC_NOT_TESTED") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    // In one write, as tests run concurrently.
    file.write_all(format!("{part}\n").as_bytes()).unwrap();
}

/// The program of this name, also from the folders for root.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The library that shows a different time to a program.
pub(crate) fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

/// `setpriv`, to be followed by a program and its arguments: the program ends with the thread that starts it, and does
/// not run as root.
pub(crate) fn unprivileged() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.arg("--");
    command
}

/// Reports whether file systems can be mounted here in a private namespace.
pub(crate) fn may_mount(folder: &Path) -> bool {
    let mut mount = Command::new("unshare");
    mount.args(["--mount", "mount", "-t", "tmpfs", "tmpfs"]).arg(folder).stderr(Stdio::null());
    mount.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}
