//! `jobexec operator`

use std::path::PathBuf;

use clap::value_parser;
use kube::core::Selector;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CliError, remote};
use crate::api::{Duration, InvalidDuration};
use crate::controllers::scope::Namespaces;
use crate::controllers::{self, Budgets, Scope, membership, selector};
use crate::http::listen::Listen;
use crate::http::metrics::Exposure;
use crate::http::{self, auth, tls};
use crate::net::{AddressPolicy, Dialer};
use crate::secrets::describe;
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
    /// The namespace of the Leases by which several replicas share the stores between them; without it this one is alone, and
    /// looks after all of them.
    #[arg(long, env = "LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = a_namespace)]
    lease_namespace: Option<String>,
    /// The name of the installation: its replicas have it in common, and no other one's.
    #[arg(long, env = "LEASE_GROUP", value_name = "NAME", default_value = "jobexec-operator", value_parser = a_label)]
    lease_group: String,
    /// How long others wait for a replica that renews its Lease no more, 3s to 60s. It is renewed five times as often, and a
    /// replica that cannot ends after three fifths of it.
    #[arg(long, env = "LEASE_DURATION", value_name = "DURATION", default_value = "10s", value_parser = a_lease)]
    lease_duration: Duration,
    /// The name of this replica, which no other one has; the name of the host without it.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    #[command(flatten)]
    memory: Memory,
    /// Where stores, webhooks and mail may lead beside all addresses that are not loopback, link-local, multicast or of a cloud's
    /// metadata service: networks such as 127.0.0.0/8, addresses, and names of hosts, with commas between them.
    #[arg(long, env = "ALLOW_ADDRESSES", value_name = "ADDRESSES", default_value = "")]
    allow_addresses: AddressPolicy,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(flatten)]
    serve: Serve,
}

/// How much memory the objects of one namespace may take. Those that exceed it, the youngest, are refused with a condition.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_field_names, reason = "they are the names of the options")]
struct Memory {
    /// How much memory the stores of one namespace may take, in MiB: some 12 KiB each.
    #[arg(long, env = "STORE_BUDGET", value_name = "MIB", default_value_t = 8, value_parser = value_parser!(u32).range(1..=65_536))]
    store_budget: u32,
    /// How much memory the policies of one namespace may take, in MiB: some 3 KiB each, and half a KiB for each job and
    /// type that they name.
    #[arg(long, env = "POLICY_BUDGET", value_name = "MIB", default_value_t = 8, value_parser = value_parser!(u32).range(1..=65_536))]
    policy_budget: u32,
    /// How much memory the objects of executions of one namespace may take, in MiB: some 5 KiB each.
    #[arg(long, env = "EXECUTION_BUDGET", value_name = "MIB", default_value_t = 32, value_parser = value_parser!(u32).range(1..=65_536))]
    execution_budget: u32,
}

impl From<Memory> for Budgets {
    fn from(memory: Memory) -> Self {
        Self::of_mib(memory.store_budget, memory.policy_budget, memory.execution_budget)
    }
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
    /// How many requests to the API one caller may have under way; a quarter of --max-requests, at least 4, without it.
    #[arg(long, env = "MAX_REQUESTS_PER_CALLER", value_name = "NUMBER", value_parser = value_parser!(u16).range(1..))]
    max_requests_per_caller: Option<u16>,
    /// How many connections the API accepts. For a further one an idle one is closed; where none is idle it waits.
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

/// Others see whole seconds.
fn a_lease(text: &str) -> Result<Duration, String> {
    let duration: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    let length = duration.get();
    if !(3..=60).contains(&length.as_secs()) || length.subsec_nanos() != 0 || length.as_secs_f64() > 60.0 {
        return Err(format!("{text} is not from 3s to 60s in whole seconds"));
    }
    Ok(duration)
}

/// A namespace, or nothing.
fn a_namespace(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { remote::namespace(text) }
}

/// What a label may have as its value, and an object as the beginning of its name.
fn a_label(text: &str) -> Result<String, String> {
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
    /// Where this replica meets others, and under which name; `None`: it is alone.
    fn lease(&self) -> Result<Option<membership::Options>, CliError> {
        let Some(namespace) = self.lease_namespace.clone().filter(|namespace| !namespace.is_empty()) else {
            return Ok(None);
        };
        let given = self.identity.clone().filter(|identity| !identity.is_empty());
        let identity = given.or_else(|| whoami::hostname().ok()).ok_or_else(|| {
            let missing = "the name of this host is not known: name this replica with --identity (POD_NAME)";
            CliError::Usage(missing.to_owned())
        })?;
        let (group, duration) = (self.lease_group.clone(), self.lease_duration.get());
        let scope = membership::scope(&format!("{} {}", self.namespaces, self.store_selector));
        Ok(Some(membership::Options { namespace, group, scope, identity, duration }))
    }
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
                requests_per_caller: serve.max_requests_per_caller.map(usize::from),
                connections: serve.max_connections.into(),
            },
        }
    }
}

/// Runs until SIGTERM or SIGINT, then lets what is under way end.
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
        tracing::info!("asked to stop");
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
    let beside = |context| http::serve(context, options, serving);
    let outcome = Box::pin(controllers::run(client, scope, budgets, lease, dialer, stop, beside)).await;
    outcome.inspect_err(|error| tracing::error!(%error, "this replica ends"))?;
    tracing::info!("stopped");
    Ok(())
}
