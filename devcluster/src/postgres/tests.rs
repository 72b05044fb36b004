//! Tests the choice of the server.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use super::*;
use crate::progress::{Cancel, Quiet};

fn server(folder: &Path, version: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for name in ["initdb", "postgres"] {
        let program = folder.join(name);
        fs::write(&program, format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n"))?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[test]
fn the_newest_usable_version_is_chosen() -> std::io::Result<()> {
    let versions = tempfile::tempdir()?;
    let path = tempfile::tempdir()?;
    let find = || installed(versions.path(), path.path().as_os_str());
    let bin = |version: &str| versions.path().join(version).join("bin");
    server(path.path(), "12.3")?;
    assert_eq!(find(), None, "too old");
    server(path.path(), "14.1")?;
    assert_eq!(find(), path.path().canonicalize().ok(), "from PATH");
    server(&bin("9.6"), "9.6")?;
    server(&bin("13"), "13.1")?;
    server(&bin("17"), "17.1")?;
    assert_eq!(find(), Some(bin("17")));
    fs::remove_file(bin("17").join("initdb"))?;
    assert_eq!(find(), Some(bin("13")), "17 lacks initdb");
    Ok(())
}

#[test]
fn the_error_explains_how_to_install_postgres() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let cache = Cache::at(&folder.path().join("cache"))?;
    let mut quiet = Quiet;
    let mut steps = Steps::new(&mut quiet, Cancel::default());
    let got = embedded::get(&cache, "http://127.0.0.1:1", &mut steps).map_err(no_postgres);
    let text = got.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("apt-get install postgresql"), "{text}");
    assert!(text.contains("cannot download http://127.0.0.1:1"), "{text}");
    assert!(
        !fs::read_dir(cache.path())?.flatten().any(|entry| entry.path().is_dir()),
        "an incomplete folder"
    );
    Ok(())
}
