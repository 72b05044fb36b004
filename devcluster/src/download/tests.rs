//! Tests downloads from a faulty server.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    thread,
};

use super::*;
use crate::binaries::NAMES;
use crate::progress::{Cancel, Quiet};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The behavior of the server for files. Checksums are always correct.
#[derive(Clone, Copy)]
enum Behavior {
    Whole,
    CutShort,
    Tampered,
}

const CONTENT: &str = "#!/bin/sh\necho a program\n";

/// Starts a server on loopback that serves all binaries. It ends with the test process.
fn serve(behavior: Behavior) -> std::io::Result<Release> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let base = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines: Vec<_> = BufReader::new(&stream)
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
            let _ = respond(&mut stream, path, behavior);
        }
    });
    Ok(Release { kubernetes: base.clone(), etcd: base })
}

fn respond(stream: &mut impl Write, path: &str, behavior: Behavior) -> std::io::Result<()> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let packed = etcd_archive()?;
    let (body, sums) = match name {
        "SHA256SUMS" => {
            let arch = go_arch().unwrap_or_default();
            (format!("{}  etcd-{ETCD}-linux-{arch}.tar.gz\n", sha256(&packed)).into_bytes(), true)
        }
        name if name.ends_with(".sha256") => (sha256(CONTENT.as_bytes()).into_bytes(), true),
        name if name.ends_with(".tar.gz") => (packed, false),
        _ => (CONTENT.as_bytes().to_vec(), false),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    match behavior {
        Behavior::CutShort if !sums => stream.write_all(body.get(..body.len() / 2).unwrap_or_default()),
        Behavior::Tampered if !sums => stream.write_all(&vec![b'x'; body.len()]),
        _ => stream.write_all(&body),
    }
}

fn etcd_archive() -> std::io::Result<Vec<u8>> {
    let arch = go_arch().unwrap_or_default();
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(CONTENT.len()).unwrap_or_default());
    archive.append_data(&mut header, format!("etcd-{ETCD}-linux-{arch}/etcd"), CONTENT.as_bytes())?;
    archive.into_inner()?.finish()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn attempt(behavior: Behavior, folder: &Path) -> Result<(), Error> {
    let release = serve(behavior).map_err(Error::io("serve", folder))?;
    let mut quiet = Quiet;
    kubernetes(&release, Extent::ControlPlane, folder, &mut Steps::new(&mut quiet, Cancel::default()))
}

fn names_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

#[test]
fn complete_files_become_programs() -> Outcome {
    let folder = tempfile::tempdir()?;
    attempt(Behavior::Whole, folder.path())?;
    assert_eq!(names_in(folder.path())?, NAMES);
    for name in NAMES {
        let path = folder.path().join(name);
        assert_eq!(fs::read_to_string(&path)?, CONTENT, "{name}");
        assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o755, "{name}");
    }
    Ok(())
}

#[test]
fn an_interrupted_download_leaves_nothing() -> Outcome {
    let folder = tempfile::tempdir()?;
    let result = attempt(Behavior::CutShort, folder.path());
    assert!(matches!(result, Err(Error::Download { .. })), "{result:?}");
    assert_eq!(names_in(folder.path())?, [""; 0]);
    Ok(())
}

#[test]
fn a_wrong_checksum_is_rejected() -> Outcome {
    let folder = tempfile::tempdir()?;
    let result = attempt(Behavior::Tampered, folder.path());
    assert!(matches!(result, Err(Error::Checksum { .. })), "{result:?}");
    assert_eq!(names_in(folder.path())?, [""; 0]);
    Ok(())
}

#[test]
fn incomplete_files_of_a_killed_process_are_removed() -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join(".part-abc"), "half")?;
    fs::create_dir_all(folder.path().join(".part-def/bin"))?;
    fs::write(folder.path().join("etcd"), "whole")?;
    remove_parts(folder.path());
    assert_eq!(names_in(folder.path())?, ["etcd"]);
    Ok(())
}
