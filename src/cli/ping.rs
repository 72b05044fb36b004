//! `jobexec ping`

use std::path::PathBuf;

use url::Url;

use super::CliError;
use super::output;
use super::remote::{self, Options, api_url};

/// Whom to ask, and who asks.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It asks for the totals of health. That somebody may not see them proves as much as the totals: the operator has asked
Kubernetes who that is and what he may. So whoever has a token can ask, such as the ServiceAccount default.

Exit status: 0 it answers, 2 it does not."
)]
pub(super) struct Args {
    /// Where the operator's API is, for example `https://jobexec-operator.jobexec-system.svc:8443`.
    #[arg(long, env = "JOBEXEC_API_URL", value_name = "URL", value_parser = api_url)]
    api_url: Url,
    /// A file with the token to be sent; without it the variable `JOBEXEC_TOKEN` counts, then the token of the current kube
    /// context, in a Pod that of its `ServiceAccount`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file with the authority that has signed the API's certificate; without it one of this system's authorities must
    /// have.
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// Do not check the API's certificate: whoever is on the way may read the token.
    #[arg(long, conflicts_with = "certificate_authority")]
    insecure_skip_tls_verify: bool,
}

/// Asks, and says that somebody answered.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let address = args.api_url.clone();
    let options =
        Options::at(args.api_url, args.token_file, args.certificate_authority, args.insecure_skip_tls_verify);
    remote::ping(options).await.map_err(|error| CliError::Unreachable(Box::new(error.into())))?;
    output::print(&format!("the operator at {address} answers\n"))
}
