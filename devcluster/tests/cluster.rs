//! Tests real clusters: the environment of their commands, and their clean-up.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use devcluster::{Cluster, Options, Quiet};
use postgres::{Config, NoTls, config::SslMode, error::SqlState};
use rustix::process::{Pid, Signal, kill_process};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_devcluster");

#[test]
fn a_command_gets_a_cluster_for_itself() -> Outcome {
    // The trap shows that `exec` forwarded the signal, and the exit status that the command ended `exec`.
    let script = r#"
        trap 'kill $!; exit 7' TERM
        [ "$DEVCLUSTER" = 1 ] && [ "$(kubectl auth whoami -o jsonpath='{.status.userInfo.groups[0]}')" = system:masters ] &&
            "$0" sql 'SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user' &&
            kubectl get serviceaccount default -o name && echo "$KUBECONFIG $DATABASE_URL"
        sleep 60 & wait"#;
    let mut exec = Running::start(&["exec", "--", "sh", "-c", script, PROGRAM])?;
    let output = exec.lines_until(|line| line.contains("postgres://"))?;
    assert!(output.iter().any(|line| line.trim() == "t"), "not a superuser: {output:?}");
    assert!(output.iter().any(|line| line == "serviceaccount/default"), "{output:?}");
    let (kubeconfig, url) = output.last().and_then(|line| line.split_once(' ')).ok_or("no URL")?;
    let folder = Path::new(kubeconfig).parent().ok_or("no folder")?.to_owned();
    assert!(processes_of(&folder).len() > 5, "{:?}", processes_of(&folder));
    server_requires_tls_and_password(url)?;

    exec.signal(Signal::TERM)?;
    assert_eq!(exec.child.wait()?.code(), Some(7));
    assert_eq!(processes_of(&folder), [""; 0]);
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn postgres_alone_needs_no_kubernetes() -> Outcome {
    let script = r#"[ "$DEVCLUSTER" = 1 ] && ! [ -e "$KUBECONFIG" ] && echo "$KUBECONFIG $DATABASE_URL"; sleep 600; true"#;
    let mut exec = Running::start(&["exec", "--postgres", "--", "sh", "-c", script])?;
    let output = exec.lines_until(|line| line.contains("postgres://"))?;
    let (kubeconfig, url) = output.last().and_then(|line| line.split_once(' ')).ok_or("no URL")?;
    let folder = Path::new(kubeconfig).parent().ok_or("no folder")?.to_owned();
    server_requires_tls_and_password(url)?;
    let processes = processes_of(&folder);
    assert!(processes.iter().any(|process| process.contains("sleep 600")), "{processes:?}");
    assert!(!processes.iter().any(|process| process.contains("kube-apiserver")), "{processes:?}");
    exec.signal(Signal::KILL)?;
    is_gone(&folder)
}

#[test]
fn a_node_that_cannot_run_has_its_own_exit_status() -> Outcome {
    // Drops the capability that creating namespaces requires. Users other than root do not have it.
    let drop: &[&str] =
        if rustix::process::geteuid().is_root() { &["--bounding-set=-sys_admin"] } else { &[] };
    let output =
        Command::new("setpriv").args(drop).args([PROGRAM, "exec", "--node", "--", "true"]).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(
        stderr.starts_with("devcluster: cannot run a node here: ") && stderr.lines().count() == 1,
        "{stderr}"
    );
    Ok(())
}

#[test]
fn clusters_are_independent() -> Outcome {
    // The thread that starts the cluster ends at once, as the setup of a test can.
    let own = thread::spawn(|| Cluster::start(&Options::default(), &mut Quiet))
        .join()
        .map_err(|_| "panicked")??;
    let background = Background::new(&own)?;
    let (victim, exports) = thread::scope(|scope| {
        let up = scope.spawn(|| background.run("up"));
        let mut victim = Running::start(&["exec", "--", "sh", "-c", "echo $KUBECONFIG; sleep 600; true"])?;
        let output = victim.lines_until(|line| line.ends_with("/kubeconfig"))?;
        let folder =
            output.last().and_then(|path| Path::new(path).parent()).map(Path::to_owned).ok_or("no folder")?;
        let up = up.join().map_err(|_| "panicked")??;
        Ok::<_, Box<dyn Error + Send + Sync>>(((victim, folder), up))
    })?;
    let (mut victim, victim_folder) = victim;

    assert!(processes_of(&victim_folder).iter().any(|process| process.contains("sleep 600")));
    victim.signal(Signal::KILL)?;
    is_gone(&victim_folder)?;

    background.check(&exports)?;
    let kubectl = Command::new("kubectl").args(["create", "namespace", "beside"]).envs(own.env()).output()?;
    assert!(kubectl.status.success(), "{kubectl:?}");
    server_requires_tls_and_password(own.database_url())?;
    let folder = own.folder().to_owned();
    drop(own);
    assert_eq!(processes_of(&folder), [""; 0]);
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn the_error_of_a_failed_server_has_its_log() -> Outcome {
    let options = Options { apiserver_args: vec!["--no-such-flag".into()], ..Options::default() };
    let error = Cluster::start(&options, &mut Quiet).err().ok_or("the cluster started")?;
    let devcluster::Error::EndedEarly { name, log, tail, .. } = &error else { return Err(error.into()) };
    assert_eq!(name, "kube-apiserver");
    assert!(tail.contains("unknown flag: --no-such-flag"), "{tail}");
    assert!(fs::read_to_string(log)?.contains("unknown flag"), "the log was not kept");
    Ok(())
}

/// Runs `devcluster up` and `down` with a separate cache, so that they do not affect a running cluster.
struct Background {
    cache: tempfile::TempDir,
    path: String,
}

impl Background {
    /// Uses the binaries of `cluster`, so that they are not downloaded again.
    fn new(cluster: &Cluster) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let kubectl = cluster.bin().join("kubectl").canonicalize()?;
        let folder = kubectl.parent().ok_or("no folder")?.display();
        let path = format!("{folder}:{}", std::env::var("PATH")?);
        Ok(Self { cache: tempfile::tempdir()?, path })
    }

    /// Runs a command. Its output ends when all background processes have closed the pipes.
    fn run(&self, command: &str) -> std::io::Result<Output> {
        let mut program = Command::new(PROGRAM);
        program.arg(command).env("JOBEXEC_DEVCLUSTER_CACHE", self.cache.path()).env("PATH", &self.path);
        program.output()
    }

    fn check(&self, up: &Output) -> Outcome {
        assert!(up.status.success(), "{up:?}");
        let exports = String::from_utf8(up.stdout.clone())?;
        assert_eq!(self.run("up")?.stdout, up.stdout, "the cluster is already running");
        let script = r#"eval "$1"; kubectl get namespace default -o name; "$0" sql 'SELECT 6 * 7 AS answer'; echo "$KUBECONFIG""#;
        let used = Command::new("sh").args(["-c", script, PROGRAM, &exports]).output()?;
        let output = String::from_utf8(used.stdout)?;
        assert!(output.starts_with("namespace/default\n") && output.contains("42"), "{output}");
        let kubeconfig = PathBuf::from(output.lines().last().unwrap_or_default());
        let folder = kubeconfig.parent().ok_or("no folder")?;

        assert!(self.run("down")?.status.success());
        assert_eq!(processes_of(folder), [""; 0]);
        assert!(!folder.exists());
        assert!(String::from_utf8(self.run("down")?.stderr)?.contains("no cluster is running"));
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.run("down");
    }
}

/// A running `devcluster` whose standard output the test reads. Dropping it kills the process.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(args: &[&str]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut child =
            Command::new(PROGRAM).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, lines })
    }

    fn lines_until(
        &mut self,
        last: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        let mut output = Vec::new();
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            output.push(line.trim_end().to_owned());
            if last(line.trim_end()) {
                return Ok(output);
            }
            line.clear();
        }
        Err(format!("it ended after the output {output:?}").into())
    }

    fn signal(&mut self, signal: Signal) -> Outcome {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server_requires_tls_and_password(url: &str) -> Outcome {
    assert!(url.ends_with("?sslmode=require"), "{url}");
    let mut config = Config::from_str(url)?;
    let port = config.get_ports().first().copied().ok_or("no port")?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // The SSLRequest message of the protocol: its length and its code.
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, *b"S", "TLS is off");
    let refused = config.password("wrong").ssl_mode(SslMode::Disable).connect(NoTls).err();
    assert_eq!(refused.and_then(|error| error.code().cloned()), Some(SqlState::INVALID_PASSWORD));
    Ok(())
}

/// Waits until all processes and files of a cluster are gone. Fails after a minute.
fn is_gone(folder: &Path) -> Outcome {
    let begin = Instant::now();
    while folder.exists() || !processes_of(folder).is_empty() {
        let left = || format!("left of {}: {:?}", folder.display(), processes_of(folder));
        if begin.elapsed() > Duration::from_mins(1) {
            return Err(left().into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns all processes that work in a folder, or have its path in their arguments or environment.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_string_lossy();
    let mentions =
        |path: PathBuf| fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&*name));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|process| process.file_name().is_some_and(|pid| pid.to_string_lossy().parse::<u32>().is_ok()))
        .filter(|process| {
            let inside = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
            inside || mentions(process.join("cmdline")) || mentions(process.join("environ"))
        })
        .map(|process| {
            String::from_utf8_lossy(&fs::read(process.join("cmdline")).unwrap_or_default()).replace('\0', " ")
        })
        .collect()
}
