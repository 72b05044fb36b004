//! Finds Helm on PATH, in the cache, by a download, or by a build, on request only.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Error,
    binaries::{self, Version},
    cache::Cache,
    download,
    gobuild::{self, Module, Program},
    progress::{Cancel, Progress, Steps},
};

/// The version of Helm to download or build. Must match `helm/go.mod`.
const HELM: &str = "v4.3.1";
/// The minimum version of a Helm on the machine.
const MINIMUM: Version = Version { major: 4, minor: 0 };
/// The base URL of official releases.
const OFFICIAL: &str = "https://get.helm.sh";

const MODULE: Module = Module {
    name: "build-helm",
    go_mod: include_str!("../helm/go.mod"),
    go_sum: include_str!("../helm/go.sum"),
};

/// Finds Helm on `PATH` or in the cache. Otherwise downloads it, or builds it, which takes some minutes.
pub fn helm(progress: &mut dyn Progress) -> Result<PathBuf, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(found) = binaries::on_path(&path, "helm").filter(|helm| new_enough(helm)) {
        return Ok(found);
    }
    let cache = Cache::open()?;
    let folder = cache.path().join(format!("helm-{HELM}"));
    if let Some(found) = binaries::executable(&folder, "helm") {
        return Ok(found);
    }
    get(&cache, &folder, OFFICIAL, &path, &mut Steps::new(progress, Cancel::default()))
}

/// Reports whether this Helm is new enough, by the output of `helm version`. Helm does not support `--version`.
fn new_enough(helm: &Path) -> bool {
    let output = Command::new(helm).args(["version", "--short"]).stdin(Stdio::null()).output();
    let version = output.ok().and_then(|output| Version::parse(&String::from_utf8_lossy(&output.stdout)));
    version.is_some_and(|version| version >= MINIMUM)
}

/// Downloads Helm, or builds it with the Go toolchain on `path`.
fn get(
    cache: &Cache,
    folder: &Path,
    release: &str,
    path: &OsStr,
    steps: &mut Steps,
) -> Result<PathBuf, Error> {
    let _lock = cache.lock(&format!("helm-{HELM}"), steps)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    download::remove_parts(folder);
    let target = folder.join("helm");
    if target.exists() {
        return Ok(target);
    }
    let download = match download(release, folder, &target, steps) {
        Ok(()) => return Ok(target),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => error,
    };
    steps.begin(format!("building Helm {HELM}, because the download failed: {download}"))?;
    let ldflags = format!("-s -w -X helm.sh/helm/v4/internal/version.version={HELM}");
    let program = Program { name: "helm", package: "helm.sh/helm/v4/cmd/helm".to_owned(), ldflags };
    match gobuild::build(&MODULE, &[program], cache, folder, path, steps) {
        Ok(()) => Ok(target),
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Err(build) => Err(Error::NoHelm {
            minimum: MINIMUM.to_string(),
            download: Box::new(download),
            build: Box::new(build),
        }),
    }
}

fn download(release: &str, folder: &Path, target: &Path, steps: &mut Steps) -> Result<(), Error> {
    let arch = download::go_arch()?;
    let client = download::client();
    steps.begin("downloading helm".to_owned())?;
    let archive = format!("helm-{HELM}-linux-{arch}.tar.gz");
    let url = format!("{release}/{archive}");
    let sums = download::text(&client, &format!("{url}.sha256sum"))?;
    let mut packed = download::part_in(folder)?;
    download::verified(&client, &url, &download::listed(&sums, &archive), &mut packed, steps)?;
    let mut part = download::part_in(folder)?;
    download::unpack(&packed, &format!("linux-{arch}/helm"), &mut part)?;
    download::finish(part, target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    #[test]
    fn the_pinned_versions_match() {
        assert!(MODULE.go_mod.contains(&format!("\thelm.sh/helm/v4 {HELM}")));
    }

    #[test]
    fn an_old_helm_is_ignored() -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        let helm = folder.path().join("helm");
        for (version, accepted) in [("v3.19.0+g3d8990f", false), ("v4.0.0", true), ("", false)] {
            std::fs::write(&helm, format!("#!/bin/sh\necho {version}\n"))?;
            std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755))?;
            assert_eq!(new_enough(&helm), accepted, "{version}");
        }
        Ok(())
    }

    #[test]
    fn the_error_names_each_source_that_failed() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(&folder.path().join("cache"))?;
        let mut quiet = Quiet;
        let mut steps = Steps::new(&mut quiet, Cancel::default());
        let target = cache.path().join("helm");
        let got = get(&cache, &target, "http://127.0.0.1:1", OsStr::new("/nonexistent"), &mut steps);
        let text = got.err().map(|error| error.to_string()).unwrap_or_default();
        for part in ["helm", "4.0 or newer", "cannot download", "https://go.dev/dl"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        Ok(())
    }
}
