//! Downloads files, and uses them only if they are complete and their checksums match.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use crate::{
    Error,
    binaries::{ETCD, Extent, KUBERNETES},
    progress::Steps,
};

/// The base URLs of a release.
pub(crate) struct Release {
    kubernetes: String,
    etcd: String,
}

impl Release {
    pub(crate) fn official() -> Self {
        Self {
            kubernetes: format!("https://dl.k8s.io/release/{KUBERNETES}"),
            etcd: format!("https://github.com/etcd-io/etcd/releases/download/{ETCD}"),
        }
    }
}

#[cfg(test)]
impl Release {
    /// Returns URLs at which no server listens.
    pub(crate) fn nowhere() -> Self {
        Self { kubernetes: "http://127.0.0.1:1".into(), etcd: "http://127.0.0.1:1".into() }
    }
}

/// Downloads the binaries that are missing in `folder`. The caller must hold the lock of the cache.
pub(crate) fn kubernetes(
    release: &Release,
    extent: Extent,
    folder: &Path,
    steps: &mut Steps,
) -> Result<(), Error> {
    let arch = go_arch()?;
    let client = client();
    let missing: Vec<_> = extent.names().filter(|name| !folder.join(name).exists()).collect();
    for (index, name) in missing.iter().enumerate() {
        steps.begin(format!("downloading {name}, {} of {}", index + 1, missing.len()))?;
        let mut part = part_in(folder)?;
        if *name == "etcd" {
            let archive = format!("etcd-{ETCD}-linux-{arch}");
            let sums = text(&client, &format!("{}/SHA256SUMS", release.etcd))?;
            let url = format!("{}/{archive}.tar.gz", release.etcd);
            let mut packed = part_in(folder)?;
            verified(&client, &url, &listed(&sums, &format!("{archive}.tar.gz")), &mut packed, steps)?;
            unpack(&packed, &format!("{archive}/etcd"), &mut part)?;
        } else {
            let url = format!("{}/bin/linux/{arch}/{name}", release.kubernetes);
            let sum = text(&client, &format!("{url}.sha256"))?;
            verified(&client, &url, sum.trim(), &mut part, steps)?;
        }
        finish(part, &folder.join(name))?;
    }
    Ok(())
}

/// Moves a complete program to its final path.
pub(crate) fn finish(part: NamedTempFile, path: &Path) -> Result<(), Error> {
    fs::set_permissions(part.path(), fs::Permissions::from_mode(0o755)).map_err(Error::io("write", path))?;
    part.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}

/// Returns the architecture as named by Go.
pub(crate) fn go_arch() -> Result<&'static str, Error> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Error::UnsupportedArch(other)),
    }
}

/// Creates a client with short timeouts, so that the caller soon tries the next source if the network is unreachable.
pub(crate) fn client() -> Agent {
    const CONNECT_TIMEOUT: Option<Duration> = Some(Duration::from_secs(5));
    const READ_TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_resolve(CONNECT_TIMEOUT)
        .timeout_connect(CONNECT_TIMEOUT)
        .timeout_recv_response(READ_TIMEOUT)
        .timeout_per_read(READ_TIMEOUT)
        .build();
    config.new_agent()
}

/// The prefix of incomplete files and folders.
pub(crate) const PART: &str = ".part-";

/// Creates a file in `folder` that is removed when dropped unless it is renamed.
pub(crate) fn part_in(folder: &Path) -> Result<NamedTempFile, Error> {
    let part = tempfile::Builder::new().prefix(PART).tempfile_in(folder);
    part.map_err(Error::io("create a file in", folder))
}

/// Removes incomplete files of killed processes. The caller must hold the lock of this part of the cache.
pub(crate) fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PART.as_bytes()) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Downloads `url` to `file`. Fails if the checksum is not `expected`, the published SHA-256 in hexadecimal.
pub(crate) fn verified(
    client: &Agent,
    url: &str,
    expected: &str,
    file: &mut NamedTempFile,
    steps: &mut Steps,
) -> Result<(), Error> {
    let failed = |reason: String| Error::Download { url: url.to_owned(), reason };
    let mut response = client.get(url).call().map_err(|error| failed(error.to_string()))?;
    let mut body = response.body_mut().as_reader();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = body.read(&mut buffer).map_err(|error| failed(error.to_string()))?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        hash.update(chunk);
        let written = file.write_all(chunk);
        written.map_err(Error::io("write", file.path()))?;
        steps.tick()?;
    }
    let actual = hex(&hash.finalize());
    if actual == expected {
        return Ok(());
    }
    Err(Error::Checksum { url: url.to_owned(), expected: expected.to_owned(), actual })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

pub(crate) fn text(client: &Agent, url: &str) -> Result<String, Error> {
    let failed = |error: ureq::Error| Error::Download { url: url.to_owned(), reason: error.to_string() };
    let mut response = client.get(url).call().map_err(failed)?;
    response.body_mut().read_to_string().map_err(failed)
}

/// Returns the checksum of `name` from a list in the format of sha256sum.
pub(crate) fn listed(sums: &str, name: &str) -> String {
    let of = |line: &str| {
        let (sum, file) = line.split_once(char::is_whitespace)?;
        (file.trim() == name).then(|| sum.to_owned())
    };
    sums.lines().find_map(of).unwrap_or_else(|| "a checksum in the published list, which has none".to_owned())
}

/// Extracts the file `entry` of an archive to `into`.
pub(crate) fn unpack(packed: &NamedTempFile, entry: &str, into: &mut NamedTempFile) -> Result<(), Error> {
    let failed = |error| Error::io("unpack", packed.path())(error);
    let file = fs::File::open(packed.path()).map_err(failed)?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    for found in archive.entries().map_err(failed)? {
        let mut found = found.map_err(failed)?;
        if found.path().map_err(failed)?.as_ref() == Path::new(entry) {
            std::io::copy(&mut found, into).map_err(failed)?;
            return Ok(());
        }
    }
    Err(failed(std::io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests;
