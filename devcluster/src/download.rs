//! Files from the internet, used only when they are whole and their checksum is right.

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

/// Where a release is published.
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
    /// Where nobody listens.
    pub(crate) fn nowhere() -> Self {
        Self { kubernetes: "http://127.0.0.1:1".into(), etcd: "http://127.0.0.1:1".into() }
    }
}

/// Downloads the binaries that are missing in `folder`. The caller holds the lock of the cache.
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

/// A program that is whole gets its name.
pub(crate) fn finish(part: NamedTempFile, path: &Path) -> Result<(), Error> {
    fs::set_permissions(part.path(), fs::Permissions::from_mode(0o755)).map_err(Error::io("write", path))?;
    part.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}

/// The architecture as Go names it.
pub(crate) fn go_arch() -> Result<&'static str, Error> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Error::UnsupportedArch(other)),
    }
}

/// A client that gives up soon where the network is closed, so that the next source is tried.
pub(crate) fn client() -> Agent {
    const SOON: Option<Duration> = Some(Duration::from_secs(5));
    const STALLED: Option<Duration> = Some(Duration::from_secs(30));
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_resolve(SOON)
        .timeout_connect(SOON)
        .timeout_recv_response(STALLED)
        .timeout_per_read(STALLED)
        .build();
    config.new_agent()
}

/// What is not whole yet begins with this.
pub(crate) const PART: &str = ".part-";

/// A file beside the final ones that vanishes unless it is renamed.
pub(crate) fn part_in(folder: &Path) -> Result<NamedTempFile, Error> {
    let part = tempfile::Builder::new().prefix(PART).tempfile_in(folder);
    part.map_err(Error::io("make a file in", folder))
}

/// Removes what a killed process had begun. The caller holds the lock of this part of the cache.
pub(crate) fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PART.as_bytes()) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Writes what `url` has to `file`, if that is what was published.
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

/// The checksum of `name` in a list as sha256sum writes it.
pub(crate) fn listed(sums: &str, name: &str) -> String {
    let of = |line: &str| {
        let (sum, file) = line.split_once(char::is_whitespace)?;
        (file.trim() == name).then(|| sum.to_owned())
    };
    sums.lines().find_map(of).unwrap_or_else(|| "none in the list".to_owned())
}

/// Writes what an archive has under the name `entry` to `into`.
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
