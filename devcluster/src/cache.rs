//! The folder that caches downloaded and built binaries.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{Error, progress::Steps};

/// The cache folder: `$JOBEXEC_DEVCLUSTER_CACHE`, or else `$XDG_CACHE_HOME/jobexec-devcluster`, or else
/// `~/.cache/jobexec-devcluster`.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
}

impl Cache {
    /// Finds the folder, and creates it if necessary.
    pub fn open() -> Result<Self, Error> {
        Self::at(&locate(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))?)
    }

    pub(crate) fn at(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::io("create the folder", path))?;
        let path = path.canonicalize().map_err(Error::io("find", path))?;
        Ok(Self { path })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks a part of the cache and waits until no other process holds the lock. Dropping the returned file releases
    /// it.
    pub(crate) fn lock(&self, name: &str, steps: &mut Steps) -> Result<File, Error> {
        let path = self.path.join(format!("{name}.lock"));
        let open = File::options().create(true).append(true).open(&path);
        let file = open.map_err(Error::io("open", &path))?;
        let mut reported = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
                Err(TryLockError::WouldBlock) if reported => steps.tick()?,
                Err(TryLockError::WouldBlock) => {
                    steps.begin(format!("waiting for another process to install {name}"))?;
                    reported = true;
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn locate(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Error> {
    const NAME: &str = "jobexec-devcluster";
    var("JOBEXEC_DEVCLUSTER_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|cache| cache.join(NAME)))
        .or_else(|| var("HOME").map(|home| home.join(".cache").join(NAME)))
        .ok_or(Error::NoCache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_takes_precedence() {
        let all = [("JOBEXEC_DEVCLUSTER_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        let expected = ["/a", "/b/jobexec-devcluster", "/c/.cache/jobexec-devcluster"];
        for (index, expected) in expected.iter().enumerate() {
            let set = all.get(index..).unwrap_or_default();
            let var =
                |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
            assert_eq!(locate(var).ok(), Some(PathBuf::from(expected)));
        }
        assert!(matches!(locate(|_| None), Err(Error::NoCache)));
    }
}
