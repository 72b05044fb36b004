//! Runs a throwaway Postgres server.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ::postgres::{Config, NoTls, config::SslMode};
use rustix::process::Signal;

use crate::{
    Error,
    binaries::{executable, on_path, version_of},
    cache::Cache,
    control_plane::Site,
    embedded, pki, ports,
    process::{Launch, Process, Spawner},
    progress::Steps,
    run_dir::RunDir,
    unprivileged_user::UnprivilegedUser,
};

/// The minimum major version of a Postgres on the machine.
const MINIMUM: u32 = 13;

const LOOPBACK: &str = "127.0.0.1";

/// The settings appended to the configuration that initdb writes. Tests can still override them with `ALTER SYSTEM`.
const SETTINGS: &str = "
unix_socket_directories = ''
ssl = on
ssl_cert_file = '../server.crt'
ssl_key_file = '../server.key'
max_connections = 300
shared_buffers = 256MB
max_wal_size = 4GB
# A benchmark reads the commit time of rows.
track_commit_timestamp = on
track_activity_query_size = 32kB
# The data does not need to survive a crash of the machine.
fsync = off
full_page_writes = off
timezone = 'UTC'
log_timezone = 'UTC'
# Use files in the data folder, so that a killed server leaves nothing in /dev/shm.
dynamic_shared_memory_type = mmap
";

/// Finds the folder with `initdb` and `postgres`, or downloads Postgres.
pub(crate) fn find(cache: &Cache, run: &RunDir, steps: &mut Steps) -> Result<PathBuf, Error> {
    let chosen = env::var_os("JOBEXEC_DEVCLUSTER_POSTGRES").filter(|chosen| !chosen.is_empty());
    match chosen {
        None => {
            let installed =
                installed(Path::new("/usr/lib/postgresql"), &env::var_os("PATH").unwrap_or_default());
            installed.map_or_else(|| embedded(cache, run, steps), Ok)
        }
        Some(chosen) if chosen == "embedded" => embedded(cache, run, steps),
        Some(folder) => usable(Path::new(&folder)).ok_or_else(|| Error::BadPostgres(folder.into())),
    }
}

fn embedded(cache: &Cache, run: &RunDir, steps: &mut Steps) -> Result<PathBuf, Error> {
    let folder = embedded::get(cache, embedded::REPOSITORY, steps).map_err(no_postgres)?;
    if !crate::unprivileged_user::is_root() {
        return Ok(folder.join("bin"));
    }
    // The user that runs Postgres cannot read the cache of root.
    let linked = run.path().join("postgres-binaries");
    embedded::link_tree(&folder, &linked).map_err(Error::io("copy to", &linked))?;
    Ok(linked.join("bin"))
}

fn no_postgres(error: Error) -> Error {
    match error {
        Error::Cancelled => error,
        error => Error::NoPostgres(Box::new(error)),
    }
}

/// Finds the newest version that the distribution installed, or else the one on `path`.
fn installed(versions: &Path, path: &std::ffi::OsStr) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(versions)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    let newest = found.iter().rev().find_map(|(_, folder)| usable(folder));
    newest.or_else(|| {
        // PATH can have a link, but `initdb` is next to the real file.
        let server = on_path(path, "postgres")?.canonicalize().ok()?;
        usable(server.parent()?)
    })
}

/// Returns `folder`, if it has both programs and they run and are new enough.
fn usable(folder: &Path) -> Option<PathBuf> {
    let runs = |name| {
        let version = executable(folder, name).and_then(|program| version_of(&program));
        version.is_some_and(|version| version.major >= MINIMUM)
    };
    (runs("initdb") && runs("postgres")).then(|| folder.to_owned())
}

/// A server, which runs unless it was killed.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) url: String,
    pub(crate) port: u16,
    pub(crate) home: Home,
    launch: Launch,
    process: Option<Process>,
}

impl Postgres {
    /// Creates a database cluster and starts its server. `wrapper` is a command line that starts the server, or empty.
    pub(crate) fn start(
        site: &Site,
        bin: &Path,
        user: Option<&UnprivilegedUser>,
        wrapper: &[OsString],
        steps: &mut Steps,
    ) -> Result<Self, Error> {
        let home = Home::create(site, user)?;
        home.initdb(site, bin, steps)?;
        let mut launch = Launch::server("postgres", &bin.join("postgres"), &home.folder, site.logs);
        launch.user = user.cloned();
        wrapper.clone_into(&mut launch.wrapper);
        // SIGQUIT is an immediate shutdown. Unlike SIGKILL, it also ends the server's children and frees its shared
        // memory.
        launch.stop = Signal::QUIT;
        Self::serve(home, &launch, site.spawner, steps)
    }

    /// Starts a server on an initialized folder.
    fn serve(home: Home, launch: &Launch, spawner: &Arc<Spawner>, steps: &mut Steps) -> Result<Self, Error> {
        let (port, launch, process) = ports::with_port(|port| {
            let data = home.folder.join("data").into_os_string();
            let args: [OsString; 4] = ["-D".into(), data, "-p".into(), port.to_string().into()];
            let mut launch = launch.clone().args(args);
            launch.folder.clone_from(&home.folder);
            let process = home.started(&launch, port, spawner, steps)?;
            Ok((port, launch, process))
        })?;
        let url = format!("postgres://postgres:{}@127.0.0.1:{port}/postgres?sslmode=require", home.password);
        Ok(Self { url, port, home, launch, process: Some(process) })
    }

    /// Ends the server with `signal` and waits for its exit.
    pub(crate) fn end(&mut self, signal: Signal) {
        if let Some(process) = self.process.take() {
            process.end(signal);
        }
    }

    /// Restarts the server on the same port.
    pub(crate) fn restart(&mut self, spawner: &Arc<Spawner>, steps: &mut Steps) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            match self.home.started(&self.launch, self.port, spawner, steps) {
                // The children of a killed server are still exiting.
                Err(Error::EndedEarly { tail, .. })
                    if tail.contains("still in use") && begin.elapsed() < Duration::from_secs(10) =>
                {
                    thread::sleep(Duration::from_millis(25));
                }
                started => {
                    self.process = Some(started?);
                    return Ok(());
                }
            }
        }
    }

    /// Starts a standby of this server. Restarts this server, because it must not run while its files are copied.
    pub(crate) fn standby(
        &mut self,
        folder: &Path,
        spawner: &Arc<Spawner>,
        steps: &mut Steps,
    ) -> Result<Self, Error> {
        // SIGINT is a fast shutdown, which leaves consistent files.
        self.end(Signal::INT);
        let mut copy = Launch::server("cp", Path::new("cp"), &self.home.folder, &self.logs());
        copy = copy.args([OsString::from("-a"), self.home.folder.clone().into(), folder.into()]);
        copy.start(spawner)?.success(steps)?;
        self.restart(spawner, steps)?;
        let home = Home { folder: folder.to_owned(), ..self.home.clone() };
        let data = home.folder.join("data");
        let upstream = format!(
            "\nprimary_conninfo = 'host=127.0.0.1 port={} user=postgres password={}'\n",
            self.port, home.password
        );
        append(&data.join("postgresql.conf"), &upstream)?;
        let signal = data.join("standby.signal");
        File::create(&signal).map_err(Error::io("write", &signal))?;
        home.give(&signal)?;
        let mut launch = self.launch.clone();
        launch.args.clear();
        Self::serve(home, &launch, spawner, steps)
    }

    fn logs(&self) -> PathBuf {
        self.launch.log.parent().map(Path::to_owned).unwrap_or_default()
    }
}

/// The folder of a server, owned by the user that runs Postgres.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    user: Option<UnprivilegedUser>,
    password: String,
}

impl Home {
    fn create(site: &Site, user: Option<&UnprivilegedUser>) -> Result<Self, Error> {
        let folder = site.run.sub("postgres")?;
        let home = Self { folder, user: user.cloned(), password: random_password()? };
        home.give(&home.folder)?;
        let tls = &site.pki.postgres;
        for (name, text) in
            [("password", &home.password), ("server.crt", &tls.certificate), ("server.key", &tls.key)]
        {
            let path = home.folder.join(name);
            pki::write_private(&path, text)?;
            home.give(&path)?;
        }
        Ok(home)
    }

    fn give(&self, path: &Path) -> Result<(), Error> {
        self.user.as_ref().map_or(Ok(()), |user| user.own(path))
    }

    fn initdb(&self, site: &Site, bin: &Path, steps: &mut Steps) -> Result<(), Error> {
        let mut launch = Launch::server("initdb", &bin.join("initdb"), &self.folder, site.logs);
        launch.user.clone_from(&self.user);
        // If initdb and its child were killed together, the child's shared memory would remain.
        launch.stop = Signal::TERM;
        let data = self.folder.join("data");
        let options = ["--username=postgres", "--pwfile=password", "--encoding=UTF8", "--locale=C"];
        let launch =
            launch.args(options).args(["--auth=scram-sha-256", "--no-sync", "--pgdata"]).args([&data]);
        launch.start(site.spawner)?.success(steps)?;
        append(&data.join("postgresql.conf"), SETTINGS)?;
        let listen =
            site.address.map_or_else(|| LOOPBACK.to_owned(), |address| format!("{LOOPBACK}, {address}"));
        append(&data.join("postgresql.conf"), &format!("listen_addresses = '{listen}'\n"))?;
        if site.address.is_some() {
            // Pods connect from other addresses.
            append(&data.join("pg_hba.conf"), "host all all 0.0.0.0/0 scram-sha-256\n")?;
        }
        let password = self.folder.join("password");
        fs::remove_file(&password).map_err(Error::io("remove", &password))
    }

    /// Starts a server on this folder and waits until it accepts connections.
    fn started(
        &self,
        launch: &Launch,
        port: u16,
        spawner: &Arc<Spawner>,
        steps: &mut Steps,
    ) -> Result<Process, Error> {
        let mut process = launch.start(spawner)?;
        let login = self.login(port);
        process
            .until(steps, || login.connect(NoTls).and_then(|mut client| client.simple_query("")).is_ok())?;
        Ok(process)
    }

    fn login(&self, port: u16) -> Config {
        let mut login = Config::new();
        login.host("127.0.0.1").port(port).user("postgres").password(&self.password).dbname("postgres");
        // This connection only checks readiness over loopback, so it avoids a second TLS stack.
        login.ssl_mode(SslMode::Disable).connect_timeout(Duration::from_secs(5));
        login
    }
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    let file = File::options().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io("write", path))
}

fn random_password() -> Result<String, Error> {
    use std::io::Read;
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::io("read", path))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests;
