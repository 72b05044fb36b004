//! The archive that container engines load: a layer, a configuration, and a manifest that names both. Its contents do
//! not depend on the time or the machine.

use std::{collections::BTreeMap, io, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::download::hex;

/// A file of the layer.
pub(crate) struct Entry {
    bytes: Vec<u8>,
    mode: u32,
}

impl Entry {
    pub(crate) fn program(bytes: Vec<u8>) -> Self {
        Self { bytes, mode: 0o755 }
    }

    pub(crate) fn data(bytes: Vec<u8>) -> Self {
        Self { bytes, mode: 0o644 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The configuration of an image.
pub(crate) struct Config<'a> {
    pub(crate) architecture: &'static str,
    pub(crate) user: &'a str,
    pub(crate) entrypoint: &'a [String],
    pub(crate) labels: &'a BTreeMap<String, String>,
}

/// An archive, and the id of the image in it.
pub(crate) struct Archive {
    pub(crate) id: String,
    pub(crate) bytes: Vec<u8>,
}

/// Creates the only layer: `files`, by their absolute paths, and their parent folders.
pub(crate) fn layer(files: &BTreeMap<String, Entry>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut made = Vec::new();
    for (path, file) in files {
        let path = Path::new(path.trim_start_matches('/'));
        let mut folders: Vec<_> =
            path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        folders.reverse();
        for folder in folders {
            if !made.iter().any(|done| done == folder) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                tar.append_data(&mut header, format!("{}/", folder.display()), io::empty())?;
                made.push(folder.to_owned());
            }
        }
        let mut header = header(tar::EntryType::Regular, file.mode, file.len());
        tar.append_data(&mut header, path, file.bytes.as_slice())?;
    }
    tar.into_inner()
}

/// Creates the archive of an image with a single layer.
pub(crate) fn image(config: &Config, tag: &str, layer: &[u8]) -> io::Result<Archive> {
    let config = json!({
        "architecture": config.architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "User": config.user, "Entrypoint": config.entrypoint, "Labels": config.labels },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "devcluster image" }],
    });
    let config = text(&config)?;
    let id = digest(&config);
    let manifest = json!([{ "Config": format!("{id}.json"), "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        (format!("{id}.json").as_str(), config.as_slice()),
        ("layer.tar", layer),
        ("manifest.json", &text(&manifest)?),
    ] {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        tar.append_data(&mut header, name, bytes)?;
    }
    Ok(Archive { id: format!("sha256:{id}"), bytes: tar.into_inner()? })
}

fn text(value: &Value) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Creates a header with root as the owner and the Unix epoch as the time, for reproducible archives.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
