//! `devcluster up` and `devcluster down`.

use std::{
    env,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use devcluster::{Cluster, Error, Progress, Stderr};
use rustix::process::{Signal, kill_process};

use super::state::State;

pub(crate) fn up() -> Result<ExitCode, Error> {
    let state = State::open()?;
    let mut progress = Stderr::new();
    loop {
        if let Some(exports) = state.exports()? {
            return print(&exports);
        }
        if state.is_owned()? {
            progress.step("waiting for another `devcluster up`", Duration::ZERO);
            thread::sleep(Duration::from_millis(200));
        } else {
            start(&state, &mut progress)?;
        }
    }
}

fn print(exports: &str) -> Result<ExitCode, Error> {
    let mut stdout = io::stdout();
    let printed = stdout.write_all(exports.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|source| failed("stdout", source))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the background process and relays its progress until the cluster is ready.
fn start(state: &State, progress: &mut Stderr) -> Result<(), Error> {
    let mut child = spawn(state)?;
    let stdout = child.stdout.take().ok_or_else(|| failed("supervisor", io::ErrorKind::BrokenPipe.into()))?;
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    loop {
        line.clear();
        let count = lines.read_line(&mut line).map_err(|source| failed("supervisor", source))?;
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        match word {
            "step" => {
                let (millis, what) = rest.split_once(' ').unwrap_or(("0", rest));
                progress.step(what, Duration::from_millis(millis.parse().unwrap_or_default()));
            }
            "ready" => return acknowledge(&mut child),
            // Another `up` has started a background process.
            "busy" => return Ok(()),
            "error" => {
                let mut text = format!("{rest}\n");
                let _ = lines.read_to_string(&mut text);
                return Err(Error::Background(text.trim_end().to_owned()));
            }
            _ if count == 0 => {
                let text = format!("the background process exited; see its log {}", state.log.display());
                return Err(Error::Background(text));
            }
            _ => {}
        }
    }
}

/// Detaches the background process, which otherwise ends with this one.
fn acknowledge(child: &mut Child) -> Result<(), Error> {
    let mut stdin =
        child.stdin.take().ok_or_else(|| failed("supervisor", io::ErrorKind::BrokenPipe.into()))?;
    stdin.write_all(b"stay\n").map_err(|source| failed("supervisor", source))
}

fn spawn(state: &State) -> Result<Child, Error> {
    let program = env::current_exe().map_err(|source| failed("devcluster", source))?;
    let log = File::create(&state.log).map_err(|source| failed("devcluster", source))?;
    let mut command = Command::new(program);
    command.arg("supervise").current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    command.spawn().map_err(|source| failed("devcluster", source))
}

pub(crate) fn down() -> Result<ExitCode, Error> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let state = State::open()?;
    let Some(pid) = state.owner()? else {
        Stderr::new().print_line("no cluster is running");
        state.remove();
        Cluster::sweep()?;
        return Ok(ExitCode::SUCCESS);
    };
    // The process holds the lock, so the process id in the file is still valid.
    let _ = kill_process(pid, Signal::TERM);
    let begin = Instant::now();
    while state.is_owned()? {
        if begin.elapsed() > TIMEOUT {
            // The servers end with the process.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(20));
    }
    state.remove();
    Cluster::sweep()?;
    Ok(ExitCode::SUCCESS)
}

fn failed(program: &str, source: io::Error) -> Error {
    Error::Spawn { program: program.to_owned(), source }
}
