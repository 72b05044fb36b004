//! `PgBouncer` in transaction mode.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use super::{PATIENCE, World, machine};

/// A running `PgBouncer`; killed when dropped.
pub(crate) struct PgBouncer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts `program` in front of the server of `world`, for its role, with two connections to the server.
    pub(crate) fn start(program: &Path, world: &World) -> Self {
        let server: url::Url = world.superuser().parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Another user must read them; the password is that of a throwaway role.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("users"), format!("\"{}\" \"right/password\"\n", world.role))
            .unwrap();
        // Another process may take a free port first.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
                 default_pool_size = 2\nserver_tls_sslmode = require\n",
                server.port().unwrap(),
                folder.path().join("users").display(),
            );
            let path = folder.path().join("pgbouncer.ini");
            std::fs::write(&path, settings).unwrap();
            let mut child = machine::unprivileged()
                .arg(program)
                .arg(&path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Self { child, port, _folder: folder };
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert!(Instant::now() < deadline, "{} ends at once", program.display());
        }
    }

    /// `url` through the pooler. The connection is on loopback, so it goes without TLS.
    pub(crate) fn url(&self, url: &str) -> String {
        let mut url: url::Url = url.parse().unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.set_query(Some("sslmode=disable"));
        url.to_string()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
