//! `jobexec operator`

use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CliError;
use crate::controllers;
use crate::telemetry::{self, LogFormat};

/// How to run the operator.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The namespace whose objects to watch; all namespaces without it.
    #[arg(long, env = "WATCH_NAMESPACE")]
    namespace: Option<String>,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Runs until SIGTERM or SIGINT, then lets what is under way end.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    telemetry::init(args.log_format);
    let config = Config::infer().await.map_err(|error| CliError::Cluster(error.to_string()))?;
    let client = Client::try_from(config).map_err(|error| CliError::Cluster(error.to_string()))?;
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("asked to stop");
        signalled.cancel();
    });
    let namespace = args.namespace.filter(|namespace| !namespace.is_empty());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = namespace.as_deref().unwrap_or("(all)"),
        "starting"
    );
    controllers::run(client, namespace, stop).await;
    tracing::info!("stopped");
    Ok(())
}
