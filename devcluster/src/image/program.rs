//! A program for an image: its bytes without debugging information, and the libraries that it is linked to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use elf::{ElfBytes, abi, endian::AnyEndian};

use crate::Error;

/// What goes into an image for one program.
#[derive(Debug)]
pub(crate) struct Program {
    /// Where it is in the image.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// As images name it.
    pub(crate) architecture: &'static str,
    /// The loader and the shared libraries, at the places where the loader looks for them; none for a static program.
    pub(crate) libraries: Vec<PathBuf>,
}

impl Program {
    pub(crate) fn read(binary: &Path) -> Result<Self, Error> {
        let name = binary.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| bad(binary, "its name is no text"))?;
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

/// The architecture, and the loader of a dynamically linked program.
fn headers(binary: &Path, bytes: &[u8]) -> Result<(&'static str, Option<PathBuf>), Error> {
    let failed = |error: elf::ParseError| bad(binary, format!("it is no Linux program: {error}"));
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(failed)?;
    let architecture = match file.ehdr.e_machine {
        abi::EM_X86_64 => "amd64",
        abi::EM_AARCH64 => "arm64",
        other => {
            return Err(bad(binary, format!("images are made for amd64 and arm64, not for machine {other}")));
        }
    };
    let segments = file.segments().ok_or_else(|| bad(binary, "it is no program but an object file"))?;
    let Some(header) = segments.iter().find(|segment| segment.p_type == abi::PT_INTERP) else {
        return Ok((architecture, None));
    };
    let path = file.segment_data(&header).map_err(failed)?;
    let path = String::from_utf8_lossy(path).trim_end_matches('\0').to_owned();
    Ok((architecture, Some(path.into())))
}

/// Asks the loader what it would load, as ldd does. It can say so only on a machine of its own kind.
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
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(bad(binary, format!("its libraries cannot be listed: {said}")));
    }
    let mut found =
        parse(&text).map_err(|missing| bad(binary, format!("it needs {missing}, which is not here")))?;
    found.push(loader.to_owned());
    found.sort();
    found.dedup();
    Ok(found)
}

/// The paths in such a list, or the name of a library that was not found.
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
    let folder = tempfile::tempdir().map_err(Error::io("make a folder in", &std::env::temp_dir()))?;
    let out = folder.path().join("stripped");
    let mut strip = Command::new("strip");
    let output = strip.arg("--strip-all").arg("-o").arg(&out).arg(binary).output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(bad(binary, format!("strip refuses it: {said}")));
    }
    fs::read(&out).map_err(Error::io("read", &out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_loader_lists() {
        let list = "\tlinux-vdso.so.1 (0x00007fd9)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x0000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x0000)\n";
        assert_eq!(parse(list), Ok(vec!["/lib/x86_64-linux-gnu/libm.so.6".into()]));
        assert_eq!(parse("\tlibz.so.9 => not found\n"), Err("libz.so.9".to_owned()));
    }
}
