//! The command line: the real binary, with exactly the permissions of the operator's role.

mod case;
mod cleanup;
mod input;
mod intent;
mod listing;
mod remote;
pub(crate) mod stats;
mod store;
mod terminal;
mod trends;

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::World;

/// The result of a run of the binary.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Returns its output, if it exited with this code.
    #[track_caller]
    fn ended(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        &self.out
    }

    /// The lines of its output, each with single spaces.
    #[track_caller]
    fn lines(&self, code: i32) -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.ended(code).lines().map(words).collect()
    }

    #[track_caller]
    fn json(&self, code: i32) -> Value {
        serde_json::from_str(self.ended(code)).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// The binary, ready to be run against the test's database.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
    command.args(args).env("DATABASE_URL", world.url("right/password")).env("TZ", "UTC").env("USER", "alice");
    command
}

/// Runs the binary.
fn jobexec(world: &World, args: &[&str]) -> Ran {
    Ran::of(command(world, args).output().unwrap())
}

/// Runs it on the default table, without any records of an operator.
fn on_table(world: &World, args: &[&str]) -> Ran {
    jobexec(world, &[args, &TABLE].concat())
}

/// The arguments that name that table.
const TABLE: [&str; 2] = ["--table", "public.job_executions"];

/// A field of each object.
fn values<'a>(rows: &'a Value, key: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap_or_default()).collect()
}
