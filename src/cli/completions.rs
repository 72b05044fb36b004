//! `jobexec completions`: prints a shell completion script.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, CliError, output};

/// The options of `jobexec completions`.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec completions bash > /etc/bash_completion.d/jobexec
  jobexec completions zsh > \"${fpath[1]}/_jobexec\"
  jobexec completions fish > ~/.config/fish/completions/jobexec.fish")]
pub(super) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Supported,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub(super) fn run(args: Args) -> Result<(), CliError> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    // The generator panics if it cannot write, so write to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "jobexec", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
