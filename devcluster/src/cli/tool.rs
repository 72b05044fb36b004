//! `devcluster tool`: prints the path of a program that a cluster itself does not need.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::ValueEnum;
use devcluster::{Error, Stderr};

/// An additional program.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// The package manager Helm, version 4 or newer
    Helm,
}

pub(crate) fn run(name: Name) -> Result<ExitCode, Error> {
    let path = match name {
        Name::Helm => devcluster::helm(&mut Stderr::new())?,
    };
    let printed = writeln!(io::stdout(), "{}", path.display());
    printed.map_err(|source| Error::Spawn { program: "stdout".into(), source })?;
    Ok(ExitCode::SUCCESS)
}
