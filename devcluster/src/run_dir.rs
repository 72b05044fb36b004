//! The folder of a running cluster: data, certificates, logs. It is removed with the cluster. The next start removes
//! the folders of killed processes.

use std::{
    env,
    fs::{self, DirBuilder, File, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error,
    cache::Cache,
    cleanup,
    unprivileged_user::{self, UnprivilegedUser},
};

/// The prefix of locked folders.
const PREFIX: &str = "jobexec-devcluster-";
/// The prefix of new folders that are not locked yet, so that the clean-up of another process does not remove them.
const UNLOCKED_PREFIX: &str = "jobexec-devcluster.new-";

#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Held while the cluster lives. The kernel releases it when this process ends for any reason.
    _lock: File,
}

impl RunDir {
    /// Creates a folder, after removing those whose process is gone.
    pub(crate) fn create(cache: &Cache, user: Option<&UnprivilegedUser>) -> Result<Self, Error> {
        let parent = parent(cache, user)?;
        fs::create_dir_all(&parent).map_err(Error::io("create the folder", &parent))?;
        sweep(&parent);
        Self::create_in(&parent)
    }

    fn create_in(parent: &Path) -> Result<Self, Error> {
        // The user that runs Postgres can enter the folder, but cannot list it.
        let permissions = Permissions::from_mode(if unprivileged_user::is_root() { 0o711 } else { 0o700 });
        let unlocked = tempfile::Builder::new()
            .prefix(UNLOCKED_PREFIX)
            .permissions(permissions)
            .tempdir_in(parent)
            .map_err(Error::io("create a folder in", parent))?;
        let lock = File::open(unlocked.path()).map_err(Error::io("open", unlocked.path()))?;
        lock.lock().map_err(Error::io("lock", unlocked.path()))?;
        let name = unlocked.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let path = parent.join(name.replacen(UNLOCKED_PREFIX, PREFIX, 1));
        fs::rename(unlocked.path(), &path).map_err(Error::io("rename", unlocked.path()))?;
        // The folder has a new name, so there is nothing to remove under the old one.
        let _ = unlocked.keep();
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a folder inside, with access only for its owner.
    pub(crate) fn sub(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("create the folder", &path))?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // A process of Postgres can still write its last file.
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

/// Returns the parent folder of all clusters of this user.
pub(crate) fn parent(cache: &Cache, user: Option<&UnprivilegedUser>) -> Result<PathBuf, Error> {
    user.map_or_else(|| Ok(cache.path().join("run")), open_to_all)
}

/// Returns a folder for temporary files that all users can enter, because the user that runs Postgres cannot enter the
/// home folder of root.
fn open_to_all(user: &UnprivilegedUser) -> Result<PathBuf, Error> {
    let open = |path: &Path| {
        path.ancestors().all(|path| fs::metadata(path).is_ok_and(|found| found.mode() & 0o001 != 0))
    };
    [env::temp_dir(), "/tmp".into(), "/var/tmp".into()]
        .into_iter()
        .find(|path| path.is_absolute() && open(path))
        .ok_or_else(|| Error::NoOpenFolder(user.name.clone()))
}

/// Removes the folders of dead processes in `parent`. Ignores errors, so that they do not prevent a start.
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
        cleanup::end_servers(path);
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_processes_are_removed() -> Result<(), Box<dyn std::error::Error>> {
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
