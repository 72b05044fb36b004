//! Downloads Postgres for machines without one: the embedded binaries that the zonky project publishes for Java tests.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use lzma_rust2::XzReader;

use crate::{Error, cache::Cache, download, progress::Steps};

const VERSION: &str = "18.6.0";
/// The URL of the public repository.
pub(crate) const REPOSITORY: &str = "https://repo1.maven.org/maven2/io/zonky/test/postgres";

/// A published archive: its names in the repository, and its pinned checksum.
struct Archive {
    arch: &'static str,
    file: &'static str,
    sha256: &'static str,
}

fn archive() -> Result<Archive, Error> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Archive {
            arch: "amd64",
            file: "postgres-linux-x86_64.txz",
            sha256: "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1",
        }),
        "aarch64" => Ok(Archive {
            arch: "arm64v8",
            file: "postgres-linux-arm_64.txz",
            sha256: "5f54e016723afa6213925a8acb939bac52944b1d348f65c7a20f0cd2928c31be",
        }),
        other => Err(Error::UnsupportedArch(other)),
    }
}

/// Returns the folder with `bin`, `lib` and `share`. Downloads it on first use.
pub(crate) fn get(cache: &Cache, repository: &str, steps: &mut Steps) -> Result<PathBuf, Error> {
    let name = format!("postgres-{VERSION}");
    let folder = cache.path().join(&name);
    if folder.exists() {
        return Ok(folder);
    }
    let _lock = cache.lock(&name, steps)?;
    if folder.exists() {
        return Ok(folder);
    }
    download::remove_parts(cache.path());
    steps.begin(format!("downloading Postgres {VERSION}"))?;
    let Archive { arch, file, sha256 } = archive()?;
    let artifact = format!("embedded-postgres-binaries-linux-{arch}");
    let url = format!("{repository}/{artifact}/{VERSION}/{artifact}-{VERSION}.jar");
    let mut jar = download::part_in(cache.path())?;
    download::verified(&download::client(), &url, sha256, &mut jar, steps)?;
    let prefix =
        tempfile::Builder::new().prefix(download::PART).permissions(open_to_all()).tempdir_in(cache.path());
    let part = prefix.map_err(Error::io("create a folder in", cache.path()))?;
    unpack(jar.path(), file, part.path()).map_err(Error::io("unpack", jar.path()))?;
    fs::rename(part.path(), &folder).map_err(Error::io("write", &folder))?;
    let _ = part.keep();
    Ok(folder)
}

fn open_to_all() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// Unpacks the jar, which is a zip file that contains a compressed tar file.
fn unpack(jar: &Path, file: &str, into: &Path) -> io::Result<()> {
    let mut jar = zip::ZipArchive::new(BufReader::new(File::open(jar)?))?;
    let packed = jar.by_name(file)?;
    tar::Archive::new(XzReader::new(packed, true)).unpack(into)
}

/// Recreates a folder elsewhere with hard links, or with copies if the file systems differ.
pub(crate) fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, open_to_all())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_tree(&from, &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
