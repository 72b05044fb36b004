//! Finds the programs of a node that are not part of Kubernetes: on the machine, or in packages of the distribution,
//! which are unpacked into the cache and not installed.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    binaries::{executable, on_path},
    cache::Cache,
    download,
    process::{Launch, Spawner},
    progress::Steps,
};

const PROGRAMS: [&str; 6] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "nft", "ip"];
const PLUGINS: [&str; 2] = ["ptp", "host-local"];
/// The names of the packages in Debian and its derivatives.
const PACKAGES: [&str; 5] = ["containerd", "runc", "containernetworking-plugins", "nftables", "iproute2"];
/// The folders in which distributions or CNI itself install CNI plugins.
const PLUGIN_FOLDERS: [&str; 4] =
    ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/lib/containernetworking"];

/// The locations of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Containers {
    /// The search path that contains the programs.
    pub(crate) path: OsString,
    /// The search path for the libraries of unpacked packages. Empty if there are none.
    pub(crate) libraries: OsString,
    /// The folder with the CNI plugins.
    pub(crate) plugins: PathBuf,
}

impl Containers {
    /// Finds the programs, or downloads them.
    pub(crate) fn find(cache: &Cache, steps: &mut Steps) -> Result<Self, Error> {
        let path = env::var_os("PATH").unwrap_or_default();
        let plugins = PLUGIN_FOLDERS.map(PathBuf::from);
        if let Some(found) = Self::complete(path.clone(), OsString::new(), &plugins) {
            return Ok(found);
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = format!("containers-{}", distribution(&release));
        let folder = cache.path().join(&name);
        if let Some(found) = Self::unpacked(&folder, &path) {
            return Ok(found);
        }
        let _lock = cache.lock(&name, steps)?;
        if !folder.exists() {
            get(cache, &folder, steps)?;
        }
        Self::unpacked(&folder, &path)
            .ok_or_else(|| Error::NoNode(format!("{} lacks a program", folder.display())))
    }

    fn unpacked(folder: &Path, path: &OsStr) -> Option<Self> {
        let all = ["usr/sbin", "usr/bin", "sbin", "bin"].map(|name| folder.join(name));
        let path = env::join_paths(all.into_iter().chain(env::split_paths(path))).ok()?;
        let libraries = fs::read_dir(folder.join("usr/lib")).into_iter().flatten().flatten();
        let libraries =
            libraries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("-linux-gnu"));
        let libraries = env::join_paths(libraries).ok()?;
        let plugins = PLUGIN_FOLDERS.map(|name| folder.join(name.trim_start_matches('/')));
        let own = plugins.into_iter().chain(PLUGIN_FOLDERS.map(PathBuf::from)).collect::<Vec<_>>();
        Self::complete(path, libraries, &own)
    }

    fn complete(path: OsString, libraries: OsString, plugins: &[PathBuf]) -> Option<Self> {
        let there = PROGRAMS.iter().all(|name| on_path(&path, name).is_some());
        let has_all = |folder: &&PathBuf| PLUGINS.iter().all(|name| executable(folder, name).is_some());
        let plugins = plugins.iter().find(has_all)?.clone();
        there.then_some(Self { path, libraries, plugins })
    }

    /// Returns the environment variables for one of the programs.
    pub(crate) fn env(&self) -> Vec<(&'static str, OsString)> {
        let mut env = vec![("PATH", self.path.clone())];
        if !self.libraries.is_empty() {
            env.push(("LD_LIBRARY_PATH", self.libraries.clone()));
        }
        env
    }

    /// Returns the path of a program.
    pub(crate) fn program(&self, name: &'static str) -> Result<PathBuf, Error> {
        on_path(&self.path, name).ok_or_else(|| Error::NoNode(format!("{name} is missing")))
    }
}

/// Returns the name and version of the distribution, for example `debian12`. Packages of other distributions are not
/// compatible.
fn distribution(release: &str) -> String {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    format!("{}{}", value("ID"), value("VERSION_ID"))
}

/// Downloads the packages, and the dependencies that are not installed, and unpacks them.
fn get(cache: &Cache, folder: &Path, steps: &mut Steps) -> Result<(), Error> {
    steps.begin(format!("downloading {}", PACKAGES.join(", ")))?;
    download::remove_parts(cache.path());
    let part = tempfile::Builder::new().prefix(download::PART).tempdir_in(cache.path());
    let part = part.map_err(Error::io("create a folder in", cache.path()))?;
    let [archives, root] = ["archives", "root"].map(|name| part.path().join(name));
    for folder in [&archives.join("partial"), &root] {
        fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    }
    let spawner = Spawner::start()?;
    let tool = |name: &'static str| {
        let path = on_path(&env::var_os("PATH").unwrap_or_default(), name);
        let missing = || {
            Error::NoNode(format!(
                "{name} is not installed: install {} and the CNI plugins",
                PROGRAMS.join(", ")
            ))
        };
        Ok::<_, Error>(Launch::server(name, &path.ok_or_else(missing)?, part.path(), part.path()))
    };
    let cached = format!("Dir::Cache::archives={}", archives.display());
    let options = ["-q", "-y", "--download-only", "--no-install-recommends", "-o", &cached, "install"];
    let fetch = || tool("apt-get").map(|apt| apt.args(options).args(PACKAGES));
    if fetch()?.start(&spawner)?.success(steps).is_err() {
        // The package lists can be missing or outdated.
        tool("apt-get")?.args(["-q", "update"]).start(&spawner)?.success(steps).map_err(no_packages)?;
        fetch()?.start(&spawner)?.success(steps).map_err(no_packages)?;
    }
    for entry in fs::read_dir(&archives).map_err(Error::io("read", &archives))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            let unpack = tool("dpkg")?.args([OsStr::new("-x"), entry.path().as_os_str(), root.as_os_str()]);
            unpack.start(&spawner)?.success(steps)?;
        }
    }
    fs::rename(&root, folder).map_err(Error::io("write", folder))
}

fn no_packages(error: Error) -> Error {
    match error {
        Error::Cancelled => error,
        error => Error::NoNode(format!("cannot download the packages {}: {error}", PACKAGES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::distribution;

    #[test]
    fn the_distribution_has_a_name_and_a_version() {
        assert_eq!(distribution("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"), "debian12");
    }
}
