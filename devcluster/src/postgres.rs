//! A throwaway Postgres server.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use ::postgres::{Config, NoTls, config::SslMode};
use rustix::process::Signal;

use crate::{
    Error,
    account::Account,
    binaries::{executable, on_path, version_of},
    cache::Cache,
    control_plane::Site,
    embedded, pki, ports,
    process::{Launch, Process},
    progress::Steps,
    run_dir::RunDir,
};

/// The oldest version that is accepted from the machine.
const MINIMUM: u32 = 13;

/// Appended to what initdb wrote, so that a test may still change any of it by `ALTER SYSTEM`.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
ssl = on
ssl_cert_file = '../server.crt'
ssl_key_file = '../server.key'
max_connections = 300
shared_buffers = 256MB
max_wal_size = 4GB
# For the benchmark that asks when a row was committed.
track_commit_timestamp = on
# Nothing here outlives the machine.
fsync = off
full_page_writes = off
timezone = 'UTC'
log_timezone = 'UTC'
# In files of the data folder, so that a killed server leaves nothing in /dev/shm.
dynamic_shared_memory_type = mmap
";

/// The folder with `initdb` and `postgres`.
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
    let folder = embedded::get(cache, embedded::REPOSITORY, steps).map_err(none)?;
    if !crate::account::is_root() {
        return Ok(folder.join("bin"));
    }
    // The cache of root is closed to Postgres' account.
    let linked = run.path().join("postgres-binaries");
    embedded::link_tree(&folder, &linked).map_err(Error::io("copy to", &linked))?;
    Ok(linked.join("bin"))
}

fn none(error: Error) -> Error {
    match error {
        Error::Cancelled => error,
        error => Error::NoPostgres(Box::new(error)),
    }
}

/// The newest of the distribution's versions, else the one on PATH.
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
        // Behind a link are the server's own files, beside it.
        let server = on_path(path, "postgres")?.canonicalize().ok()?;
        usable(server.parent()?)
    })
}

/// `folder`, if both programs in it run here and are new enough.
fn usable(folder: &Path) -> Option<PathBuf> {
    let runs = |name| {
        let version = executable(folder, name).and_then(|program| version_of(&program));
        version.is_some_and(|version| version.major >= MINIMUM)
    };
    (runs("initdb") && runs("postgres")).then(|| folder.to_owned())
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) url: String,
    _process: Process,
}

impl Postgres {
    /// Makes a database cluster and starts its server.
    pub(crate) fn start(
        site: &Site,
        bin: &Path,
        account: Option<&Account>,
        steps: &mut Steps,
    ) -> Result<Self, Error> {
        let home = Home::create(site, account)?;
        home.initdb(site, bin, steps)?;
        let mut launch = Launch::server("postgres", &bin.join("postgres"), &home.folder, site.logs);
        launch.account = account.cloned();
        // An immediate shutdown: it ends the server's own children and frees its shared memory, unlike SIGKILL.
        launch.stop = Signal::QUIT;
        ports::with_port(|port| {
            let data = home.folder.join("data").into_os_string();
            let args: [OsString; 4] = ["-D".into(), data, "-p".into(), port.to_string().into()];
            let mut process = launch.clone().args(args).start(site.spawner)?;
            let login = home.login(port);
            process.until(steps, || {
                login.connect(NoTls).and_then(|mut client| client.simple_query("")).is_ok()
            })?;
            let url =
                format!("postgres://postgres:{}@127.0.0.1:{port}/postgres?sslmode=require", home.password);
            Ok(Self { url, _process: process })
        })
    }
}

/// What Postgres' account owns.
struct Home<'a> {
    folder: PathBuf,
    account: Option<&'a Account>,
    password: String,
}

impl<'a> Home<'a> {
    fn create(site: &Site, account: Option<&'a Account>) -> Result<Self, Error> {
        let home = Self { folder: site.run.sub("postgres")?, account, password: random_password()? };
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
        self.account.map_or(Ok(()), |account| account.own(path))
    }

    fn initdb(&self, site: &Site, bin: &Path, steps: &mut Steps) -> Result<(), Error> {
        let mut launch = Launch::server("initdb", &bin.join("initdb"), &self.folder, site.logs);
        launch.account = self.account.cloned();
        // Killed together with its child, it would leave that one's shared memory behind.
        launch.stop = Signal::TERM;
        let data = self.folder.join("data");
        let options = ["--username=postgres", "--pwfile=password", "--encoding=UTF8", "--locale=C"];
        let launch =
            launch.args(options).args(["--auth=scram-sha-256", "--no-sync", "--pgdata"]).args([&data]);
        launch.start(site.spawner)?.success(steps)?;
        let conf = data.join("postgresql.conf");
        let append = File::options().append(true).open(&conf);
        append.and_then(|mut file| file.write_all(SETTINGS.as_bytes())).map_err(Error::io("write", &conf))?;
        let password = self.folder.join("password");
        fs::remove_file(&password).map_err(Error::io("remove", &password))
    }

    fn login(&self, port: u16) -> Config {
        let mut login = Config::new();
        login.host("127.0.0.1").port(port).user("postgres").password(&self.password).dbname("postgres");
        // Over loopback, to see whether it is there: no need for a second TLS stack.
        login.ssl_mode(SslMode::Disable).connect_timeout(Duration::from_secs(5));
        login
    }
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
