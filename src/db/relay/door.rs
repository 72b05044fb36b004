//! The Unix socket that sqlx connects to. Only this process can use it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::memory::Memory;
use super::pump;
use super::upstream::Endpoint;

/// The pause after a failure to accept a connection, for example because the process has too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) struct Door {
    listener: UnixListener,
    folder: Folder,
}

impl Door {
    /// Opens a socket at the path that sqlx builds from a folder and the server's port. Its name cannot be guessed.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let folder = Folder::new()?;
        let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{port}")))?;
        Ok(Self { listener, folder })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Relays every connection, and never returns. Each connection is one of the tasks `connections`, and `cut` ends all of them.
    pub(super) async fn serve(
        self,
        endpoint: Arc<Endpoint>,
        memory: Arc<Memory>,
        connections: TaskTracker,
        cut: CancellationToken,
    ) {
        loop {
            match self.listener.accept().await {
                Ok((client, _)) if is_own(&client) => {
                    connections.spawn(pump::run(client, endpoint.clone(), memory.clone(), cut.clone()));
                }
                Ok(_) => {
                    tracing::warn!("another process connected to a socket of this one, and was turned away");
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection within the operator cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Reports whether the peer is this process. On systems that do not report the peer, the folder's permissions keep other users out.
fn is_own(client: &UnixStream) -> bool {
    match client.peer_cred().map(|peer| peer.pid()) {
        Ok(Some(pid)) => u32::try_from(pid).is_ok_and(|pid| pid == std::process::id()),
        Ok(None) => !cfg!(target_os = "linux"),
        Err(_) => false,
    }
}

/// A folder for a socket. On Linux it is only the beginning of a name in the abstract namespace: there is no file and nothing to
/// clean up, and a read-only root file system is enough.
struct Folder(PathBuf);

#[cfg(target_os = "linux")]
impl Folder {
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    fn new() -> io::Result<Self> {
        Ok(Self(PathBuf::from(format!("\0jobexec-{}", Uuid::new_v4().simple()))))
    }
}

#[cfg(not(target_os = "linux"))]
impl Folder {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        // Paths of sockets are short: at most 104 bytes on macOS.
        let name = &Uuid::new_v4().simple().to_string()[..16];
        let path = std::env::temp_dir().join(format!("jobexec-{name}"));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

#[cfg(not(target_os = "linux"))]
impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "the folder of a socket could not be removed");
        }
    }
}

impl Folder {
    fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_process_is_let_in_and_another_one_is_not() {
        let door = Door::open(5432).unwrap();
        let path = door.folder().join(".s.PGSQL.5432");
        let own = UnixStream::connect(&path).await.unwrap();
        assert!(is_own(&door.listener.accept().await.unwrap().0));
        drop(own);
        let program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(bytes.fromhex(sys.argv[1])); s.recv(1)";
        let hex: String = path.to_str().unwrap().bytes().map(|byte| format!("{byte:02x}")).collect();
        let Ok(mut other) = std::process::Command::new("python3").args(["-c", program, &hex]).spawn() else {
            eprintln!("NOT TESTED: another process is turned away (python3 is not there)");
            return;
        };
        assert!(!is_own(&door.listener.accept().await.unwrap().0));
        other.wait().unwrap();
    }
}
