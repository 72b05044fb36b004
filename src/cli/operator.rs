//! `jobexec operator`

use std::path::PathBuf;

use clap::value_parser;
use kube::core::Selector;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::CliError;
use crate::api::{Duration, InvalidDuration};
use crate::controllers::scope::Namespaces;
use crate::controllers::{self, Scope, selector};
use crate::http::listen::Listen;
use crate::http::metrics::Exposure;
use crate::http::{self, auth, tls};
use crate::telemetry::{self, LogFormat};

/// How to run the operator.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The namespaces whose objects to watch, with commas between them; empty: all namespaces.
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACES", default_value = "")]
    namespaces: Namespaces,
    /// Which stores to take, by their labels, as kubectl writes it: key=value, key!=value, key in (a,b), key notin (a,b),
    /// key, !key, with commas between them; empty: all. The others are left to other operators.
    #[arg(long, env = "STORE_SELECTOR", value_name = "SELECTOR", default_value = "", value_parser = selector::parse)]
    store_selector: Selector,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(flatten)]
    serve: Serve,
}

/// What it serves.
#[derive(Debug, clap::Args)]
struct Serve {
    /// Where the HTTPS API is served: an address and a port (0: any), or off.
    #[arg(long, env = "HTTPS_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    https_address: Listen,
    /// The certificate of the HTTPS API, a PEM file such as tls.crt of a mounted Secret; read again when it changes.
    /// Without it the operator signs one itself at each start.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// For whom the tokens of the API's callers must have been made; the API server without it.
    #[arg(long, env = "TOKEN_AUDIENCE", value_name = "AUDIENCE", value_delimiter = ',')]
    token_audience: Vec<String>,
    /// How long what Kubernetes allowed a caller of the API is kept, and holds while Kubernetes cannot be asked.
    #[arg(long, env = "AUTH_CACHE_TTL", value_name = "DURATION", default_value = "1m")]
    auth_cache_ttl: Duration,
    /// Where /livez and /readyz are served, without TLS: an address and a port (0: any), or off.
    #[arg(long, env = "PROBE_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    probe_address: Listen,
    /// Who gets to see /metrics.
    #[arg(long, env = "METRICS", value_name = "WHO", default_value = "authenticated")]
    metrics: Exposure,
    /// How long a request to the API may take, at least 1s.
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = a_second_or_more)]
    request_timeout: Duration,
    /// How many requests to the API are worked on at the same time; further ones are refused. Fewer than --max-connections,
    /// or it has no effect.
    #[arg(long, env = "MAX_REQUESTS", value_name = "NUMBER", default_value_t = 100, value_parser = value_parser!(u16).range(1..))]
    max_requests: u16,
    /// How many connections each address accepts; further ones wait.
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = 128, value_parser = value_parser!(u16).range(1..))]
    max_connections: u16,
}

/// In less nothing that asks Kubernetes or a database is answered.
fn a_second_or_more(text: &str) -> Result<Duration, String> {
    let duration: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if duration.get() < std::time::Duration::from_secs(1) {
        return Err(format!("{text} is too short: write 1s or more"));
    }
    Ok(duration)
}

impl From<Serve> for http::Options {
    fn from(serve: Serve) -> Self {
        let files = serve.tls_cert_file.zip(serve.tls_key_file);
        Self {
            https: serve.https_address,
            certificate: files.map_or(tls::Source::SelfSigned, |(certificate, key)| tls::Source::Files {
                certificate,
                key,
            }),
            auth: auth::Options {
                audiences: serve.token_audience.into_iter().filter(|audience| !audience.is_empty()).collect(),
                keep: serve.auth_cache_ttl.get(),
            },
            probes: serve.probe_address,
            metrics: serve.metrics,
            limits: http::Limits {
                request: serve.request_timeout.get(),
                requests: serve.max_requests.into(),
                connections: serve.max_connections.into(),
            },
        }
    }
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
    let scope = Scope { namespaces: args.namespaces, stores: args.store_selector };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = %scope.namespaces,
        store_selector = %scope.stores,
        "starting"
    );
    let (options, serving) = (http::Options::from(args.serve), stop.clone());
    controllers::run(client, scope, stop, |context| http::serve(context, options, serving)).await;
    tracing::info!("stopped");
    Ok(())
}
