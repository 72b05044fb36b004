//! Builds programs from source if no release can be downloaded. Needs only a Go toolchain and its module proxy.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Error,
    binaries::{self, Extent, KUBERNETES, Version},
    cache::Cache,
    process::{Launch, Spawner},
    progress::Steps,
};

/// The minimum version of Go, which downloads the version named in `go.mod` by itself.
const MINIMUM: Version = Version { major: 1, minor: 21 };

/// A Go module with pinned dependencies, some of which are programs.
pub(crate) struct Module {
    /// The name of the build folder in the cache. Must be unique, because the lock of the caller covers only this
    /// module.
    pub(crate) name: &'static str,
    pub(crate) go_mod: &'static str,
    pub(crate) go_sum: &'static str,
}

const KUBERNETES_MODULE: Module = Module {
    name: "build",
    go_mod: include_str!("../kubernetes/go.mod"),
    go_sum: include_str!("../kubernetes/go.sum"),
};

/// A program of a module.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: String,
    /// The flags of the linker, for example the version that the program reports.
    pub(crate) ldflags: String,
}

/// Builds the Kubernetes programs that are missing in `folder`. The caller must hold the lock of the cache.
pub(crate) fn kubernetes(
    cache: &Cache,
    extent: Extent,
    folder: &Path,
    path: &OsStr,
    steps: &mut Steps,
) -> Result<(), Error> {
    let package = |name: &str| match name {
        "etcd" => "go.etcd.io/etcd/server/v3".to_owned(),
        name => format!("k8s.io/kubernetes/cmd/{name}"),
    };
    let program = |name| Program { name, package: package(name), ldflags: version_flags() };
    let programs: Vec<_> = extent.names().map(program).collect();
    build(&KUBERNETES_MODULE, &programs, cache, folder, path, steps)
}

/// Builds the `programs` that are missing in `folder`. The caller must hold the lock of the cache.
pub(crate) fn build(
    module: &Module,
    programs: &[Program],
    cache: &Cache,
    folder: &Path,
    path: &OsStr,
    steps: &mut Steps,
) -> Result<(), Error> {
    let go = toolchain(path).ok_or(Error::NoGo)?;
    let work = Work::create(cache, module)?;
    let spawner = Spawner::start()?;
    let missing: Vec<_> = programs.iter().filter(|program| !folder.join(program.name).exists()).collect();
    for (index, program) in missing.iter().enumerate() {
        let (name, count) = (program.name, missing.len());
        steps.begin(format!(
            "building {name} with Go, {} of {count}; the first build takes some minutes",
            index + 1
        ))?;
        let part = work.path.join(name);
        work.launch(&go, program, &part).start(&spawner)?.success(steps)?;
        let path = folder.join(name);
        fs::rename(&part, &path).map_err(Error::io("write", &path))?;
    }
    let _ = fs::remove_dir_all(&work.path);
    Ok(())
}

/// Finds Go on `path`, if it is new enough.
fn toolchain(path: &OsStr) -> Option<PathBuf> {
    binaries::on_path(path, "go").filter(|go| {
        let output = Command::new(go).arg("version").stdin(Stdio::null()).output();
        let version = output.ok().and_then(|output| Version::parse(&String::from_utf8_lossy(&output.stdout)));
        version.is_some_and(|version| version >= MINIMUM)
    })
}

/// The build folder: the pinned module, temporary files, and incomplete binaries.
struct Work {
    path: PathBuf,
}

impl Work {
    fn create(cache: &Cache, module: &Module) -> Result<Self, Error> {
        let path = cache.path().join(module.name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
        let temporary = path.join("tmp");
        fs::create_dir_all(&temporary).map_err(Error::io("create the folder", &temporary))?;
        for (name, text) in [("go.mod", module.go_mod), ("go.sum", module.go_sum)] {
            let file = path.join(name);
            fs::write(&file, text).map_err(Error::io("write", &file))?;
        }
        Ok(Self { path })
    }

    fn launch(&self, go: &Path, program: &Program, part: &Path) -> Launch {
        let mut launch = Launch::server(program.name, go, &self.path, &self.path);
        launch.keep_env = true;
        launch.env = vec![
            ("CGO_ENABLED", "0".into()),
            ("GO111MODULE", "on".into()),
            ("GOFLAGS", "-mod=readonly".into()),
            ("GOTMPDIR", self.path.join("tmp").into_os_string()),
            ("GOWORK", "off".into()),
        ];
        launch
            .args(["build", "-buildvcs=false", "-trimpath", "-ldflags", &program.ldflags, "-o"])
            .args([part.as_os_str().to_owned(), OsString::from(&program.package)])
    }
}

/// Returns the linker flags that set the version that the programs report, as official release builds do.
fn version_flags() -> String {
    let mut flags = vec!["-s -w".to_owned()];
    let mut numbers = KUBERNETES.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [("gitVersion", KUBERNETES), ("gitMajor", major), ("gitMinor", minor)] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    flags.join(" ")
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn an_old_go_is_ignored() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let go = folder.path().join("go");
        for (version, accepted) in [("go1.20.14", false), ("go1.21.0", true)] {
            fs::write(&go, format!("#!/bin/sh\necho go version {version} linux/amd64\n"))?;
            fs::set_permissions(&go, Permissions::from_mode(0o755))?;
            assert_eq!(toolchain(folder.path().as_os_str()).is_some(), accepted, "{version}");
        }
        Ok(())
    }
}
