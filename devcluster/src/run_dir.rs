//! The folder of one running cluster: data, certificates, logs. It goes when the cluster goes, and what a killed
//! process left behind goes at the next start.

use std::{
    env,
    fs::{self, DirBuilder, File, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error,
    account::{self, Account},
    cache::Cache,
    leftovers,
};

/// Folders in use begin with this …
const PREFIX: &str = "jobexec-devcluster-";
/// … and get that name only once they are locked, so that a sweep by another process never takes a new one.
const UNLOCKED_PREFIX: &str = "jobexec-devcluster.new-";

#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Held for as long as the cluster lives; the kernel lets go of it however this process ends.
    _lock: File,
}

impl RunDir {
    /// Makes a new folder, after sweeping those whose process is gone.
    pub(crate) fn create(cache: &Cache, account: Option<&Account>) -> Result<Self, Error> {
        let parent = parent(cache, account)?;
        fs::create_dir_all(&parent).map_err(Error::io("make the folder", &parent))?;
        sweep(&parent);
        Self::create_in(&parent)
    }

    fn create_in(parent: &Path) -> Result<Self, Error> {
        // Postgres' account enters by the x of others, but cannot look around.
        let permissions = Permissions::from_mode(if account::is_root() { 0o711 } else { 0o700 });
        let unlocked = tempfile::Builder::new()
            .prefix(UNLOCKED_PREFIX)
            .permissions(permissions)
            .tempdir_in(parent)
            .map_err(Error::io("make a folder in", parent))?;
        let lock = File::open(unlocked.path()).map_err(Error::io("open", unlocked.path()))?;
        lock.lock().map_err(Error::io("lock", unlocked.path()))?;
        let name = unlocked.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let path = parent.join(name.replacen(UNLOCKED_PREFIX, PREFIX, 1));
        fs::rename(unlocked.path(), &path).map_err(Error::io("rename", unlocked.path()))?;
        // Its name has changed: there is nothing left for it to remove.
        let _ = unlocked.keep();
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder inside, closed to everybody else.
    pub(crate) fn sub(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("make the folder", &path))?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // A process of Postgres may write its last file meanwhile.
        for _ in 0..20 {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => return,
            }
        }
    }
}

/// Where the folders of all clusters of this user are.
pub(crate) fn parent(cache: &Cache, account: Option<&Account>) -> Result<PathBuf, Error> {
    account.map_or_else(|| Ok(cache.path().join("run")), open_to_all)
}

/// Root's home is closed to Postgres' account, so its files go where everybody may enter.
fn open_to_all(account: &Account) -> Result<PathBuf, Error> {
    let open = |path: &Path| {
        path.ancestors().all(|path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0))
    };
    [env::temp_dir(), "/tmp".into(), "/var/tmp".into()]
        .into_iter()
        .find(|path| path.is_absolute() && open(path))
        .ok_or_else(|| Error::NoOpenFolder(account.name.clone()))
}

/// Removes what processes that no longer live left in `parent`. Not being able to is no reason not to start.
pub(crate) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            continue;
        }
        let old = || found.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 600));
        if name.starts_with(PREFIX) || (name.starts_with(UNLOCKED_PREFIX) && old()) {
            remove_if_dead(&path);
        }
    }
}

fn remove_if_dead(path: &Path) {
    let Ok(folder) = File::open(path) else { return };
    if folder.try_lock().is_ok() {
        leftovers::end_servers(path);
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_the_dead_and_leaves_the_living() -> Result<(), Box<dyn std::error::Error>> {
        let parent = tempfile::tempdir()?;
        let dead = parent.path().join("jobexec-devcluster-dead");
        let other = parent.path().join("something-else");
        fs::create_dir_all(dead.join("etcd"))?;
        fs::create_dir(&other)?;
        let alive = RunDir::create_in(parent.path())?;
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(other.exists());
        assert!(alive.path().exists());
        let path = alive.path().to_owned();
        assert!(path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
        drop(alive);
        assert!(!path.exists());
        Ok(())
    }
}
