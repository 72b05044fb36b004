//! `jobexec operator`: runs the operator.

use std::path::PathBuf;

use clap::value_parser;
use kube::core::Selector;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CliError, remote};
use crate::api::{Duration, InvalidDuration};
use crate::http::listen::Listen;
use crate::http::metrics::Exposure;
use crate::http::{self, auth, tls};
use crate::kubernetes::scope::Namespaces;
use crate::kubernetes::{Budgets, Scope, selector};
use crate::net::{AddressPolicy, Dialer};
use crate::reconcilers;
use crate::secrets::describe;
use crate::sharding;
use crate::telemetry::{self, LogFormat};

/// The options of `jobexec operator`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The namespaces to watch, separated by commas; empty: all namespaces.
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACES", default_value = "")]
    namespaces: Namespaces,
    /// Manage only stores with matching labels, in the syntax of kubectl: key=value, key!=value, key in (a,b),
    /// key notin (a,b), key, !key, separated by commas; empty: all. Other operators can manage the rest.
    #[arg(long, env = "STORE_SELECTOR", value_name = "SELECTOR", default_value = "", value_parser = selector::parse)]
    store_selector: Selector,
    /// The namespace of the Leases by which several replicas share the stores; without it, this replica runs alone and
    /// manages all of them.
    #[arg(long, env = "LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = optional_namespace)]
    lease_namespace: Option<String>,
    /// The name of the installation: all its replicas share it, and no other installation uses it.
    #[arg(long, env = "LEASE_GROUP", value_name = "NAME", default_value = "jobexec-operator", value_parser = label_value)]
    lease_group: String,
    /// How long other replicas wait for a replica that stops renewing its Lease, 3s to 60s. A replica renews five times
    /// per period, and exits if it cannot renew for three fifths of it.
    #[arg(long, env = "LEASE_DURATION", value_name = "DURATION", default_value = "10s", value_parser = lease_duration)]
    lease_duration: Duration,
    /// The unique name of this replica; by default the host name.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Addresses that stores, webhooks and mail servers may use although they are loopback, link-local, multicast or a cloud's
    /// metadata service; all others are allowed. Networks such as 127.0.0.0/8, addresses and host names, separated by commas.
    #[arg(long, env = "ALLOW_ADDRESSES", value_name = "ADDRESSES", default_value = "")]
    allow_addresses: AddressPolicy,
    /// The format of log lines.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(flatten)]
    serve: ServerArgs,
}

/// Memory limits for the objects of one namespace. The youngest objects above a limit are refused with a condition.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_field_names, reason = "they are the names of the options")]
struct MemoryArgs {
    /// Memory limit for the stores of one namespace, in MiB; a store takes about 12 KiB.
    #[arg(long, env = "STORE_BUDGET", value_name = "MIB", default_value_t = 8, value_parser = value_parser!(u32).range(1..=65_536))]
    store_budget: u32,
    /// Memory limit for the policies of one namespace, in MiB; a policy takes about 3 KiB, and half a KiB for each job and
    /// type that it names.
    #[arg(long, env = "POLICY_BUDGET", value_name = "MIB", default_value_t = 8, value_parser = value_parser!(u32).range(1..=65_536))]
    policy_budget: u32,
    /// Memory limit for the `JobExecution` objects of one namespace, in MiB; an object takes about 5 KiB.
    #[arg(long, env = "EXECUTION_BUDGET", value_name = "MIB", default_value_t = 32, value_parser = value_parser!(u32).range(1..=65_536))]
    execution_budget: u32,
}

impl From<MemoryArgs> for Budgets {
    fn from(memory: MemoryArgs) -> Self {
        Self::of_mib(memory.store_budget, memory.policy_budget, memory.execution_budget)
    }
}

/// The options of the servers.
#[derive(Debug, clap::Args)]
struct ServerArgs {
    /// Address and port of the HTTPS API (port 0: any), or off.
    #[arg(long, env = "HTTPS_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    https_address: Listen,
    /// The certificate of the HTTPS API, a PEM file such as tls.crt of a mounted Secret; reloaded when it changes.
    /// Without it, the operator creates a self-signed one at each start.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// The audience of tokens that the API accepts, separated by commas; by default that of the API server.
    #[arg(long, env = "TOKEN_AUDIENCE", value_name = "AUDIENCE", value_delimiter = ',')]
    token_audience: Vec<String>,
    /// How long to cache the permissions of an API caller, also while Kubernetes is unreachable.
    #[arg(long, env = "AUTH_CACHE_TTL", value_name = "DURATION", default_value = "1m")]
    auth_cache_ttl: Duration,
    /// Address and port of /livez and /readyz, without TLS (port 0: any), or off.
    #[arg(long, env = "PROBE_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    probe_address: Listen,
    /// Who can read /metrics.
    #[arg(long, env = "METRICS", value_name = "WHO", default_value = "authenticated")]
    metrics: Exposure,
    /// Time limit of an API request, at least 1s.
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = request_timeout)]
    request_timeout: Duration,
    /// How many API requests are processed at the same time; more are refused. Must be less than --max-connections to have
    /// an effect.
    #[arg(long, env = "MAX_REQUESTS", value_name = "NUMBER", default_value_t = 100, value_parser = value_parser!(u16).range(1..))]
    max_requests: u16,
    /// How many concurrent API requests one caller may have; by default a quarter of --max-requests, at least 4.
    #[arg(long, env = "MAX_REQUESTS_PER_CALLER", value_name = "NUMBER", value_parser = value_parser!(u16).range(1..))]
    max_requests_per_caller: Option<u16>,
    /// How many connections the API accepts. Above this, it closes an idle connection, or makes the new one wait if none is idle.
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = 128, value_parser = value_parser!(u16).range(1..))]
    max_connections: u16,
}

/// Parses a duration of at least 1s: no request to Kubernetes or a database is answered in less.
fn request_timeout(text: &str) -> Result<Duration, String> {
    let duration: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if duration.get() < std::time::Duration::from_secs(1) {
        return Err(format!("{text} is too short: write 1s or more"));
    }
    Ok(duration)
}

/// Parses the duration of a Lease, which is stored in whole seconds.
fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    let length = duration.get();
    if !(3..=60).contains(&length.as_secs()) || length.subsec_nanos() != 0 || length.as_secs_f64() > 60.0 {
        return Err(format!("{text} is not from 3s to 60s in whole seconds"));
    }
    Ok(duration)
}

/// Parses a namespace, or an empty text.
fn optional_namespace(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { remote::namespace(text) }
}

/// Parses a name that fits a label value and the beginning of an object name.
fn label_value(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    if text.len() > 52
        || !text.bytes().all(plain)
        || !ends(bytes.first().copied())
        || !ends(bytes.last().copied())
    {
        return Err("write at most 52 lower-case letters, digits and -, with a letter or digit at both ends"
            .to_owned());
    }
    Ok(text.to_owned())
}

impl Args {
    /// Returns the Lease settings of this replica; `None` if it runs alone.
    fn lease(&self) -> Result<Option<sharding::Options>, CliError> {
        let Some(namespace) = self.lease_namespace.clone().filter(|namespace| !namespace.is_empty()) else {
            return Ok(None);
        };
        let given = self.identity.clone().filter(|identity| !identity.is_empty());
        let identity = given.or_else(|| whoami::hostname().ok()).ok_or_else(|| {
            let missing =
                "cannot determine the name of this host: name this replica with --identity (POD_NAME)";
            CliError::Usage(missing.to_owned())
        })?;
        let (group, duration) = (self.lease_group.clone(), self.lease_duration.get());
        let scope = sharding::scope(&format!("{} {}", self.namespaces, self.store_selector));
        Ok(Some(sharding::Options { namespace, group, scope, identity, duration }))
    }
}

impl From<ServerArgs> for http::Options {
    fn from(serve: ServerArgs) -> Self {
        let files = serve.tls_cert_file.zip(serve.tls_key_file);
        Self {
            https: serve.https_address,
            certificate: files.map_or(tls::Source::SelfSigned, |(certificate, key)| tls::Source::Files {
                certificate,
                key,
            }),
            auth: auth::Options {
                audiences: serve.token_audience.into_iter().filter(|audience| !audience.is_empty()).collect(),
                cache_ttl: serve.auth_cache_ttl.get(),
            },
            probes: serve.probe_address,
            metrics: serve.metrics,
            limits: http::Limits {
                request: serve.request_timeout.get(),
                requests: serve.max_requests.into(),
                requests_per_caller: serve.max_requests_per_caller.map(usize::from),
                connections: serve.max_connections.into(),
            },
        }
    }
}

/// Runs until SIGTERM or SIGINT, then shuts down gracefully.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    telemetry::init(args.log_format);
    let config = Config::infer().await.map_err(|error| CliError::Cluster(describe(&error)))?;
    let client = Client::try_from(config).map_err(|error| CliError::Cluster(describe(&error)))?;
    let stop = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("received a signal to stop");
        signalled.cancel();
    });
    let lease = args.lease()?;
    let scope = Scope { namespaces: args.namespaces, stores: args.store_selector };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = %scope.namespaces,
        store_selector = %scope.stores,
        allow_addresses = %args.allow_addresses,
        "starting"
    );
    let budgets = Budgets::from(args.memory);
    let dialer = Dialer::new(args.allow_addresses);
    let (options, serving) = (http::Options::from(args.serve), stop.clone());
    let serve_http = |context| http::serve(context, options, serving);
    let outcome = Box::pin(reconcilers::run(client, scope, budgets, lease, dialer, stop, serve_http)).await;
    outcome.inspect_err(|error| tracing::error!(%error, "this replica exits"))?;
    tracing::info!("stopped");
    Ok(())
}
