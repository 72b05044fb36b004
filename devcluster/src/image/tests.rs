use std::{collections::BTreeMap, error::Error, fs, io::Read, path::PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Image;
use crate::download::hex;

type Outcome = Result<(), Box<dyn Error>>;

fn image() -> Result<Image, Box<dyn Error>> {
    Ok(Image {
        // Any dynamically linked program.
        binary: std::env::current_exe()?,
        tag: "example/app:1".into(),
        user: "65532:65532".into(),
        ca_bundle: None,
        args: vec!["serve".into()],
        labels: BTreeMap::from([("org.opencontainers.image.title".into(), "app".into())]),
    })
}

fn unpacked(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        assert_eq!((entry.header().mtime()?, entry.header().uid()?), (0, 0));
        found.insert(entry.path()?.to_string_lossy().into_owned(), bytes);
    }
    Ok(found)
}

#[test]
fn the_manifest_names_contents_by_digest() -> Outcome {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("app.tar");
    let written = image()?.write(&out)?;
    let archive = unpacked(&fs::read(&out)?)?;
    let get = |name: &str| archive.get(name).ok_or_else(|| format!("no {name}"));

    let manifest: Value = serde_json::from_slice(get("manifest.json")?)?;
    assert_eq!(manifest[0]["RepoTags"][0], "example/app:1");
    let config = manifest[0]["Config"].as_str().unwrap_or_default();
    assert_eq!(format!("{}.json", written.id.trim_start_matches("sha256:")), config);
    let config: Value = serde_json::from_slice(get(config)?)?;
    let layer = get("layer.tar")?;
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(layer))));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][1], "serve");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "app");

    let files = unpacked(layer)?;
    let name = config["config"]["Entrypoint"][0].as_str().unwrap_or_default().trim_start_matches('/');
    assert!(files.contains_key(name), "{:?}", files.keys());
    assert!(files.keys().any(|path| path.contains("/libc.so")), "{:?}", files.keys());
    Ok(())
}

#[test]
fn the_same_input_gives_the_same_bytes() -> Outcome {
    let folder = tempfile::tempdir()?;
    let [first, second] = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
    image()?.write(&first)?;
    image()?.write(&second)?;
    assert!(fs::read(first)? == fs::read(second)?);
    Ok(())
}

#[test]
fn the_error_explains_why_a_file_is_not_a_program() -> Outcome {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("run.sh");
    fs::write(&script, "#!/bin/sh\n")?;
    let error_of = |binary: PathBuf| -> Result<String, Box<dyn Error>> {
        let image = Image { binary, ..image()? };
        Ok(image
            .write(&folder.path().join("out.tar"))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default())
    };
    assert!(error_of(script.clone())?.contains("run.sh: it is not a Linux program"), "{}", error_of(script)?);
    assert!(error_of("/nonexistent/app".into())?.contains("cannot read /nonexistent/app"));
    assert!(!folder.path().join("out.tar").exists());
    Ok(())
}
