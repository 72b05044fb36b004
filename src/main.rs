//! The binary `jobexec`: passes the command line to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    jobexec_operator::cli::main(std::env::args_os())
}
