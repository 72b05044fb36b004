//! The binary `jobexec`: reads the command line and calls one function.

use std::process::ExitCode;

use clap::Parser as _;
use jobexec_operator::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
