//! `devcluster image`: writes a container image of one program, without a container engine.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Args;
use devcluster::{Error, Image, Stderr};

#[derive(Args)]
pub(crate) struct ImageArgs {
    /// The program to use as the entry point. The image holds it without debug information, and the libraries that it
    /// links
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// The archive to write, for `docker load`, `podman load`, `skopeo copy docker-archive:FILE` or `ctr images import`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The name of the image, with a tag
    #[arg(long, value_name = "NAME:TAG")]
    tag: String,
    /// The numeric user and group that run the program
    #[arg(long, value_name = "UID:GID", default_value = "65532:65532")]
    user: String,
    /// The certificate authorities that the program trusts, in PEM format [default: this machine's, if they are in the
    /// location that Debian uses]
    #[arg(long, value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// A label of the image; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn run(args: ImageArgs) -> Result<ExitCode, Error> {
    let image = Image {
        binary: args.binary,
        tag: args.tag,
        user: args.user,
        ca_bundle: args.ca_bundle.or_else(Image::default_ca_bundle),
        args: Vec::new(),
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let written = image.write(&args.out)?;
    let mut stderr = Stderr::new();
    for (path, size) in &written.files {
        stderr.print_line(&format!("{path}: {}", megabytes(*size)));
    }
    stderr.print_line(&format!(
        "{} is {}, {}, id {}",
        args.out.display(),
        image.tag,
        megabytes(written.size),
        written.id
    ));
    Ok(ExitCode::SUCCESS)
}

/// Formats a size in units of 10⁶ bytes, as registries do.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
