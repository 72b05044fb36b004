//! The binary `jobexec`: hands the command line to one function.

use std::process::ExitCode;

fn main() -> ExitCode {
    jobexec_operator::cli::main(std::env::args_os())
}
