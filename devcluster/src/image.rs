//! Builds container images without a container engine: a program and its dependencies, in the archive format of `docker
//! load`, `podman load`, `skopeo` and `ctr images import`. Builds are reproducible: the same input gives the same
//! bytes.

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

/// The path at which rustls and OpenSSL look for certificate authorities, on Debian and in most images.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The contents of an image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The path of the program. The image has it in its root folder under the same file name, as its entry point.
    pub binary: PathBuf,
    /// The name of the image, with a tag.
    pub tag: String,
    /// The user and group that run the program, in numbers, because Kubernetes can only verify that a numeric user is
    /// not root.
    pub user: String,
    /// The path of the certificate authorities that the program trusts, in PEM format. With `None`, the image has no
    /// certificate authorities.
    pub ca_bundle: Option<PathBuf>,
    /// The first arguments of the entry point.
    pub args: Vec<String>,
    /// The labels of the image.
    pub labels: BTreeMap<String, String>,
}

/// An image that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The digest of the image's configuration, which container engines use as the image id.
    pub id: String,
    /// The size of the archive, in bytes.
    pub size: u64,
    /// The path and size, in bytes, of each file in the image.
    pub files: Vec<(String, u64)>,
}

impl Image {
    /// Returns the path of this machine's certificate authorities, if they are in the location that Debian uses.
    pub fn default_ca_bundle() -> Option<PathBuf> {
        Some(PathBuf::from(CA_BUNDLE)).filter(|path| path.exists())
    }

    /// Writes the archive to `out` atomically.
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
        let image = archive::image(&config, &self.tag, &layer).map_err(Error::io("pack", &self.binary))?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut part = download::part_in(folder)?;
        part.write_all(&image.bytes).map_err(Error::io("write", out))?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(part.path(), readable).map_err(Error::io("write", out))?;
        part.persist(out).map_err(|error| Error::io("write", out)(error.error))?;
        let size = File::open(out).and_then(|file| file.metadata()).map_err(Error::io("read", out))?.len();
        let files = files.iter().map(|(path, file)| (path.clone(), file.len())).collect();
        Ok(Written { id: image.id, size, files })
    }

    /// Returns the files of the image by path, because their order in the archive must depend only on their paths.
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
