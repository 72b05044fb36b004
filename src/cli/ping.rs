//! `jobexec ping`: checks that an operator's API answers.

use std::path::PathBuf;

use url::Url;

use super::CliError;
use super::output;
use super::remote::{self, Options, api_url};

/// The options of `jobexec ping`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The command requests the health totals. A refusal counts as an answer too: it proves that the operator has authenticated
the caller through Kubernetes. So any token is enough, such as that of the ServiceAccount default.

Exit status: 0 the API answers, 2 it does not."
)]
pub(super) struct Args {
    /// The URL of the operator's API, for example `https://jobexec-operator.jobexec-system.svc:8443`.
    #[arg(long, env = "JOBEXEC_API_URL", value_name = "URL", value_parser = api_url)]
    api_url: Url,
    /// A file with the token to send. By default the variable `JOBEXEC_TOKEN`, then the token of the current kube context (in
    /// a Pod, that of its `ServiceAccount`).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file with the certificate authority of the API's certificate. By default the authorities of this system.
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// Do not check the API's certificate: anyone on the network path can then read the token.
    #[arg(long, conflicts_with = "certificate_authority")]
    insecure_skip_tls_verify: bool,
}

/// Calls the API and reports that it answered.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    let address = args.api_url.clone();
    let options =
        Options::at(args.api_url, args.token_file, args.certificate_authority, args.insecure_skip_tls_verify);
    remote::ping(options).await.map_err(|error| CliError::Unreachable(Box::new(error.into())))?;
    output::print(&format!("the operator at {address} answers\n"))
}
