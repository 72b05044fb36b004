//! The state that `up`, its background process and `down` share: two files in the cache.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use devcluster::{Cache, Cluster, Error};
use rustix::process::Pid;

/// The background cluster of this cache.
pub(crate) struct State {
    /// The file that the background process locks. It contains the process id.
    lock: PathBuf,
    /// The file with commands for a shell. It exists when the cluster is ready.
    exports: PathBuf,
    pub(crate) log: PathBuf,
}

impl State {
    pub(crate) fn open() -> Result<Self, Error> {
        let cache = Cache::open()?;
        let path = |name| cache.path().join(name);
        Ok(Self { lock: path("up.lock"), exports: path("up.env"), log: path("up.log") })
    }

    /// Makes this process the background process of this cache until the returned file is dropped. Returns `None` if
    /// another process already is.
    pub(crate) fn try_own(&self) -> Result<Option<File>, Error> {
        let Some(mut lock) = self.try_lock()? else { return Ok(None) };
        // A killed background process leaves the file behind.
        self.remove();
        let written = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        written.map_err(io_error("write", &self.lock))?;
        Ok(Some(lock))
    }

    fn try_lock(&self) -> Result<Option<File>, Error> {
        let open = File::options().create(true).append(true).open(&self.lock);
        let file = open.map_err(io_error("open", &self.lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &self.lock)(source)),
        }
    }

    /// Reports whether a background process exists, starting or ready.
    pub(crate) fn is_owned(&self) -> Result<bool, Error> {
        Ok(self.try_lock()?.is_none())
    }

    /// Returns the id of the background process, if it is alive.
    pub(crate) fn owner(&self) -> Result<Option<Pid>, Error> {
        if !self.is_owned()? {
            return Ok(None);
        }
        let text = fs::read_to_string(&self.lock).map_err(io_error("read", &self.lock))?;
        Ok(text.parse().ok().and_then(Pid::from_raw))
    }

    /// Returns the commands for a shell, if a cluster is ready.
    pub(crate) fn exports(&self) -> Result<Option<String>, Error> {
        if !self.is_owned()? {
            return Ok(None);
        }
        match fs::read_to_string(&self.exports) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(io_error("read", &self.exports)),
        }
    }

    pub(crate) fn write(&self, cluster: &Cluster) -> Result<(), Error> {
        let failed = io_error("write", &self.exports);
        let folder = self.exports.parent().unwrap_or(&self.exports);
        // Only the owner can read a temporary file, and this one contains the password.
        let write = || {
            let mut part = tempfile::NamedTempFile::new_in(folder)?;
            part.write_all(lines(cluster).as_bytes())?;
            part.persist(&self.exports).map_err(|error| error.error)
        };
        write().map(drop).map_err(failed)
    }

    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.exports);
    }
}

/// Returns the commands for a shell. They prepend to the PATH of that shell, which can differ from the one of this
/// process.
fn lines(cluster: &Cluster) -> String {
    let line = |(name, value): (&str, std::ffi::OsString)| match name {
        "PATH" => format!("export PATH={}:\"$PATH\"\n", quote(&cluster.bin().to_string_lossy())),
        name => format!("export {name}={}\n", quote(&value.to_string_lossy())),
    };
    cluster.env().into_iter().map(line).collect()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoted_text_survives_a_shell() -> std::io::Result<()> {
        let text = r#"it's $HOME "and" \more"#;
        let script = format!("printf %s {}", quote(text));
        let output = std::process::Command::new("sh").args(["-c", &script]).output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        Ok(())
    }
}
