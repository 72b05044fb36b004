//! Logs: structured, to standard error. Lines logged during a reconciliation or a sweep are inside a span that names the
//! object, but never an execution, so that spans are of bounded size and number.

mod escape;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The filter unless `RUST_LOG` is set. sqlx would log slow statements with their text, and notices of servers; the relay
/// drops notices in any case.
const DEFAULT_FILTER: &str = "info,sqlx=error,sqlx::postgres::notice=off,kube_runtime=warn";

/// Creates the span of one reconciliation.
pub fn reconcile(controller: &'static str, namespace: Option<&str>, name: &str) -> Span {
    tracing::info_span!("reconcile", controller, object = %format_args!("{}/{name}", namespace.unwrap_or_default()))
}

/// Creates the span of one sweep, inside that of a reconciliation.
pub fn sweep(id: uuid::Uuid, trigger: impl std::fmt::Display) -> Span {
    tracing::info_span!("sweep", sweep = %id, %trigger)
}

/// Returns the upper limit of logging, whatever `RUST_LOG` says. At trace level, libraries log what they send and receive:
/// headers with tokens, logins, whole messages. At warn level, the Kubernetes client logs a response that it cannot parse, which
/// may be a Secret; its errors are returned to the operator, which logs them.
fn ceiling() -> Targets {
    Targets::new()
        .with_default(LevelFilter::DEBUG)
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::TRACE)
        .with_target("kube_client::client", LevelFilter::OFF)
        .with_target("kube_client::config", LevelFilter::INFO)
}

/// Starts logging; a second call has no effect.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = fmt::layer().with_target(false).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(ceiling()).with(filter);
    let started = match format {
        LogFormat::Text => {
            registry.with(lines.fmt_fields(escape::fields()).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            registry.with(lines.with_writer(|| escape::Json(std::io::stderr()))).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging has already started");
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_never_log_what_they_send_or_receive() {
        let ceiling = ceiling();
        let allows = |target: &str, level: Level| ceiling.would_enable(target, &level);
        assert!(allows("jobexec_operator::reconcilers::store", Level::TRACE));
        for library in
            ["hyper", "reqwest::connect", "rustls::client", "sqlx::query", "lettre", "h2", "tower", "log"]
        {
            assert!(allows(library, Level::DEBUG) && !allows(library, Level::TRACE), "{library}");
        }
        // At warn level it logs the whole response that it cannot parse.
        assert!(
            !allows("kube_client::client", Level::WARN)
                && !allows("kube_client::client::builder", Level::ERROR)
        );
    }
}
