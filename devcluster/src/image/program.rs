//! A program for an image: its bytes without debug information, and the libraries that it links.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use elf::{ElfBytes, abi, endian::AnyEndian};

use crate::Error;

/// The files of one program in an image.
#[derive(Debug)]
pub(crate) struct Program {
    /// The path of the program in the image.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// The architecture as named in images.
    pub(crate) architecture: &'static str,
    /// The paths of the loader and the shared libraries. Empty for a static program.
    pub(crate) libraries: Vec<PathBuf>,
}

impl Program {
    pub(crate) fn read(binary: &Path) -> Result<Self, Error> {
        let name = binary.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| bad(binary, "its name is not valid UTF-8"))?;
        let original = fs::read(binary).map_err(Error::io("read", binary))?;
        let (architecture, interpreter) = headers(binary, &original)?;
        let libraries = match interpreter {
            None => Vec::new(),
            Some(loader) => libraries(binary, &loader)?,
        };
        Ok(Self { path: format!("/{name}"), bytes: stripped(binary)?, architecture, libraries })
    }
}

fn bad(binary: &Path, reason: impl Into<String>) -> Error {
    Error::BadProgram { path: binary.to_owned(), reason: reason.into() }
}

/// Returns the architecture, and the loader of a dynamically linked program.
fn headers(binary: &Path, bytes: &[u8]) -> Result<(&'static str, Option<PathBuf>), Error> {
    let failed = |error: elf::ParseError| bad(binary, format!("it is not a Linux program: {error}"));
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(failed)?;
    let architecture = match file.ehdr.e_machine {
        abi::EM_X86_64 => "amd64",
        abi::EM_AARCH64 => "arm64",
        other => {
            return Err(bad(binary, format!("images support amd64 and arm64, not machine {other}")));
        }
    };
    let segments = file.segments().ok_or_else(|| bad(binary, "it is an object file, not a program"))?;
    let Some(header) = segments.iter().find(|segment| segment.p_type == abi::PT_INTERP) else {
        return Ok((architecture, None));
    };
    let path = file.segment_data(&header).map_err(failed)?;
    let path = String::from_utf8_lossy(path).trim_end_matches('\0').to_owned();
    Ok((architecture, Some(path.into())))
}

/// Returns the libraries that the loader lists for a program, as ldd does. The loader runs only on its own
/// architecture.
fn libraries(binary: &Path, loader: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut list = Command::new(loader);
    list.arg("--list")
        .arg(binary)
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null());
    let output = list.output().map_err(|source| {
        bad(
            binary,
            format!("its loader {} does not run here ({source}); link it statically", loader.display()),
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(bad(binary, format!("cannot list its libraries: {error}")));
    }
    let mut found =
        parse(&text).map_err(|missing| bad(binary, format!("it needs {missing}, which is not installed")))?;
    found.push(loader.to_owned());
    found.sort();
    found.dedup();
    Ok(found)
}

/// Parses a list of libraries to their paths, or to the name of a library that was not found.
fn parse(list: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in list.lines() {
        let Some((name, target)) = line.split_once(" => ") else { continue };
        match target.split_whitespace().next() {
            Some(path) if path.starts_with('/') => found.push(path.into()),
            _ => return Err(name.trim().to_owned()),
        }
    }
    Ok(found)
}

fn stripped(binary: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Spawn { program: "strip (apt-get install binutils)".into(), source };
    let folder = tempfile::tempdir().map_err(Error::io("create a folder in", &std::env::temp_dir()))?;
    let out = folder.path().join("stripped");
    let mut strip = Command::new("strip");
    let output = strip.arg("--strip-all").arg("-o").arg(&out).arg(binary).output().map_err(failed)?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(bad(binary, format!("strip failed: {error}")));
    }
    fs::read(&out).map_err(Error::io("read", &out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_lists_are_parsed() {
        let list = "\tlinux-vdso.so.1 (0x00007fd9)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x0000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x0000)\n";
        assert_eq!(parse(list), Ok(vec!["/lib/x86_64-linux-gnu/libm.so.6".into()]));
        assert_eq!(parse("\tlibz.so.9 => not found\n"), Err("libz.so.9".to_owned()));
    }
}
