//! Finds the Kubernetes binaries on the machine, in the cache, by a download, or by a build. Uses the first source that
//! has all of them.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Error,
    cache::Cache,
    download::{self, Release},
    gobuild,
    progress::Steps,
};

/// The version of Kubernetes to download or build. Must match `kubernetes/go.mod`.
pub(crate) const KUBERNETES: &str = "v1.36.3";
/// The version of etcd that this version of Kubernetes uses. Must match `kubernetes/go.mod`.
pub(crate) const ETCD: &str = "v3.6.8";
/// The minimum version of a kube-apiserver on the machine.
const MINIMUM: Version = Version { major: 1, minor: 33 };

/// The programs of a control plane, in download order. Those that fail fastest come first.
pub(crate) const NAMES: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/// The additional programs of a node.
pub(crate) const NODE_NAMES: [&str; 3] = ["kube-scheduler", "kubelet", "kube-proxy"];

/// The set of programs to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    ControlPlane,
    WithNode,
}

impl Extent {
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let node = NODE_NAMES.into_iter().filter(move |_| self == Self::WithNode);
        NAMES.into_iter().chain(node)
    }
}

/// The paths of the programs of a control plane, and of a node if requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kubernetes {
    pub(crate) node: Option<NodePrograms>,
    pub(crate) etcd: PathBuf,
    pub(crate) apiserver: PathBuf,
    pub(crate) controller_manager: PathBuf,
    pub(crate) kubectl: PathBuf,
}

/// The paths of the programs of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePrograms {
    pub(crate) scheduler: PathBuf,
    pub(crate) kubelet: PathBuf,
    pub(crate) proxy: PathBuf,
}

impl NodePrograms {
    fn complete(find: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        let [scheduler, kubelet, proxy] = NODE_NAMES.map(find);
        Some(Self { scheduler: scheduler?, kubelet: kubelet?, proxy: proxy? })
    }
}

impl Kubernetes {
    /// Returns all requested programs, or `None` if one is missing. Never mixes the versions of two sources.
    fn complete(extent: Extent, find: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        let node = match extent {
            Extent::ControlPlane => None,
            Extent::WithNode => Some(NodePrograms::complete(&find)?),
        };
        let [etcd, apiserver, controller_manager, kubectl] = NAMES.map(find);
        Some(Self {
            node,
            etcd: etcd?,
            apiserver: apiserver?,
            controller_manager: controller_manager?,
            kubectl: kubectl?,
        })
    }

    fn new_enough(&self) -> bool {
        [&self.apiserver, &self.controller_manager]
            .into_iter()
            .all(|program| version_of(program).is_some_and(|version| version >= MINIMUM))
    }

    fn in_folder(extent: Extent, folder: &Path) -> Option<Self> {
        Self::complete(extent, |name| executable(folder, name))
    }
}

/// Finds the binaries, or downloads or builds them.
pub(crate) fn find(cache: &Cache, extent: Extent, steps: &mut Steps) -> Result<Kubernetes, Error> {
    if let Some(assets) = env::var_os("KUBEBUILDER_ASSETS") {
        if let Some(found) = Kubernetes::in_folder(extent, Path::new(&assets)).filter(Kubernetes::new_enough)
        {
            return Ok(found);
        }
        let required = extent.names().collect::<Vec<_>>().join(", ");
        steps.begin(format!(
            "ignoring KUBEBUILDER_ASSETS: it lacks one of {required}, or is older than {MINIMUM}"
        ))?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(found) =
        Kubernetes::complete(extent, |name| on_path(&path, name)).filter(Kubernetes::new_enough)
    {
        return Ok(found);
    }
    let folder = cache.path().join(format!("kubernetes-{KUBERNETES}"));
    if let Some(found) = Kubernetes::in_folder(extent, &folder) {
        return Ok(found);
    }
    get(cache, extent, &folder, &Release::official(), &path, steps)
}

/// Downloads the binaries, or builds them with the Go toolchain on `path`.
fn get(
    cache: &Cache,
    extent: Extent,
    folder: &Path,
    release: &Release,
    path: &OsStr,
    steps: &mut Steps,
) -> Result<Kubernetes, Error> {
    let _lock = cache.lock(&format!("kubernetes-{KUBERNETES}"), steps)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    download::remove_parts(folder);
    if let Some(found) = Kubernetes::in_folder(extent, folder) {
        return Ok(found);
    }
    let download = match download::kubernetes(release, extent, folder, steps) {
        Ok(()) => None,
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => Some(error),
    };
    if let Some(download) = download {
        steps.begin(format!("building Kubernetes {KUBERNETES}, because the download failed: {download}"))?;
        gobuild::kubernetes(cache, extent, folder, path, steps).map_err(|build| match build {
            Error::Cancelled => build,
            build => {
                let minimum = MINIMUM.to_string();
                Error::NoKubernetes { minimum, download: Box::new(download), build: Box::new(build) }
            }
        })?;
    }
    Kubernetes::in_folder(extent, folder)
        .ok_or_else(|| Error::io("find all binaries in", folder)(std::io::ErrorKind::NotFound.into()))
}

/// Finds the program `name` on a search path, as a shell does.
pub(crate) fn on_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    env::split_paths(path).find_map(|folder| executable(&folder, name))
}

/// Finds the program `name` in a folder, if it is executable.
pub(crate) fn executable(folder: &Path, name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    let found = path.metadata().ok()?;
    (found.is_file() && found.permissions().mode() & 0o111 != 0).then_some(path)
}

/// A major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// Parses the first word that looks like a version, for example in `Kubernetes v1.36.3`,
    /// `go version go1.26.8 linux/amd64` or `postgres (PostgreSQL) 18beta1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.trim_start_matches("go").trim_start_matches('v').split('.');
            let leading = |text: &str| {
                let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                text.get(..end).and_then(|digits| digits.parse().ok())
            };
            let major = leading(numbers.next()?)?;
            Some(Self { major, minor: numbers.next().and_then(leading).unwrap_or(0) })
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Returns the version that `program --version` prints.
pub(crate) fn version_of(program: &Path) -> Option<Version> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    Version::parse(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Cancel, Quiet};

    #[test]
    fn versions_are_parsed() {
        let version = |major, minor| Some(Version { major, minor });
        assert_eq!(Version::parse("Kubernetes v1.36.3"), version(1, 36));
        assert_eq!(Version::parse("go version go1.26.8 linux/amd64"), version(1, 26));
        assert_eq!(Version::parse("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), version(15, 14));
        assert_eq!(Version::parse("postgres (PostgreSQL) 18beta1"), version(18, 0));
        assert_eq!(Version::parse("command not found"), None);
        assert!(
            version(1, 32) < Some(MINIMUM)
                && version(1, 33) >= Some(MINIMUM)
                && version(2, 0) > Some(MINIMUM)
        );
    }

    #[test]
    fn the_pinned_versions_match() {
        let module = include_str!("../kubernetes/go.mod");
        assert!(module.contains(&format!("\tk8s.io/kubernetes {KUBERNETES}")));
        assert!(module.contains(&format!("\tgo.etcd.io/etcd/server/v3 {ETCD}")));
    }

    #[test]
    fn the_error_names_each_source_that_failed() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(&folder.path().join("cache"))?;
        let mut quiet = Quiet;
        let mut steps = Steps::new(&mut quiet, Cancel::default());
        let target = cache.path().join("kubernetes");
        let got = get(
            &cache,
            Extent::ControlPlane,
            &target,
            &Release::nowhere(),
            OsStr::new("/nonexistent"),
            &mut steps,
        );
        let text = got.err().map(|error| error.to_string()).unwrap_or_default();
        for part in
            ["KUBEBUILDER_ASSETS", "kube-apiserver 1.33 or newer", "cannot download", "https://go.dev/dl"]
        {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        Ok(())
    }

    #[test]
    fn an_incomplete_folder_is_not_used() -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        for (count, name) in NAMES.iter().enumerate() {
            assert_eq!(
                Kubernetes::in_folder(Extent::ControlPlane, folder.path()),
                None,
                "with {count} programs"
            );
            let path = folder.path().join(name);
            std::fs::write(&path, "")?;
            assert_eq!(executable(folder.path(), name), None, "not executable yet");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        assert!(Kubernetes::in_folder(Extent::ControlPlane, folder.path()).is_some());
        Ok(())
    }
}
