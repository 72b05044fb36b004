//! Container images without a container engine: a program and what it needs, as the archive that `docker load`,
//! `podman load`, `skopeo` and `ctr images import` read. The same input gives the same bytes.

mod archive;
mod program;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Error, download};

pub(crate) use program::Program;

/// Where programs that are linked to rustls or OpenSSL look for authorities, on Debian and in most images.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Image {
    /// The program, which gets to the root folder under its own name and is the entry point.
    pub binary: PathBuf,
    /// The name that the image is loaded under, with a tag.
    pub tag: String,
    /// Who the program runs as: numbers, as Kubernetes can tell only of those that they are not root.
    pub user: String,
    /// The authorities that the program trusts, as PEM; none: an image that trusts nobody.
    pub ca_bundle: Option<PathBuf>,
    /// Arguments that the entry point always gets.
    pub args: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The digest of the image's configuration, which engines call the image's id.
    pub id: String,
    /// The size of the archive, in bytes.
    pub size: u64,
    /// Each file of the image with its size in bytes.
    pub files: Vec<(String, u64)>,
}

impl Image {
    /// This machine's authorities, if it has them where Debian does.
    pub fn default_ca_bundle() -> Option<PathBuf> {
        Some(PathBuf::from(CA_BUNDLE)).filter(|path| path.exists())
    }

    /// Writes the archive to `out`, which is whole or not there.
    pub fn write(&self, out: &Path) -> Result<Written, Error> {
        let program = Program::read(&self.binary)?;
        let files = self.files(&program)?;
        let layer = archive::layer(&files).map_err(Error::io("pack", &self.binary))?;
        let entrypoint: Vec<_> =
            [program.path.clone()].into_iter().chain(self.args.iter().cloned()).collect();
        let config = archive::Config {
            architecture: program.architecture,
            user: &self.user,
            entrypoint: &entrypoint,
            labels: &self.labels,
        };
        let whole = archive::image(&config, &self.tag, &layer).map_err(Error::io("pack", &self.binary))?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut part = download::part_in(folder)?;
        part.write_all(&whole.bytes).map_err(Error::io("write", out))?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(part.path(), readable).map_err(Error::io("write", out))?;
        part.persist(out).map_err(|error| Error::io("write", out)(error.error))?;
        let size = File::open(out).and_then(|file| file.metadata()).map_err(Error::io("read", out))?.len();
        let files = files.iter().map(|(path, file)| (path.clone(), file.len())).collect();
        Ok(Written { id: whole.id, size, files })
    }

    /// By path, as the order in the archive must not depend on anything else.
    fn files(&self, program: &Program) -> Result<BTreeMap<String, archive::Entry>, Error> {
        let mut files = BTreeMap::new();
        files.insert(program.path.clone(), archive::Entry::program(program.bytes.clone()));
        for library in &program.libraries {
            let bytes = fs::read(library).map_err(Error::io("read", library))?;
            files.insert(library.to_string_lossy().into_owned(), archive::Entry::program(bytes));
        }
        if let Some(bundle) = &self.ca_bundle {
            let bytes = fs::read(bundle).map_err(Error::io("read", bundle))?;
            files.insert(CA_BUNDLE.to_owned(), archive::Entry::data(bytes));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests;
