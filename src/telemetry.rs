//! Logs: structured, to standard error. What is logged while an object is reconciled or a table swept is within a span that
//! names it, and never an execution: a span is of bounded size, and there are few of them.

mod escape;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise. sqlx would log slow statements with their text, and what servers
/// think fit to say; the relay drops that in any case.
const DEFAULT_FILTER: &str = "info,sqlx=error,sqlx::postgres::notice=off,kube_runtime=warn";

/// The span of one reconcile.
pub fn reconcile(controller: &'static str, namespace: Option<&str>, name: &str) -> Span {
    tracing::info_span!("reconcile", controller, object = %format_args!("{}/{name}", namespace.unwrap_or_default()))
}

/// The span of one sweep, within that of a reconcile.
pub fn sweep(id: uuid::Uuid, trigger: &'static str) -> Span {
    tracing::info_span!("sweep", sweep = %id, trigger)
}

/// What may be logged at most, whatever `RUST_LOG` says. At trace, libraries log what they send and receive: headers with
/// tokens, logins, whole messages. The Kubernetes client logs an answer that it cannot read, which may be a Secret, at warn;
/// its errors come back to the operator, which tells them.
fn ceiling() -> Targets {
    Targets::new()
        .with_default(LevelFilter::DEBUG)
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::TRACE)
        .with_target("kube_client::client", LevelFilter::OFF)
        .with_target("kube_client::config", LevelFilter::INFO)
}

/// Starts logging; a second call changes nothing.
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
        tracing::debug!("logging was started before");
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
        assert!(allows("jobexec_operator::controllers::store", Level::TRACE));
        for library in
            ["hyper", "reqwest::connect", "rustls::client", "sqlx::query", "lettre", "h2", "tower", "log"]
        {
            assert!(allows(library, Level::DEBUG) && !allows(library, Level::TRACE), "{library}");
        }
        // It warns with the whole text of an answer that it cannot read.
        assert!(
            !allows("kube_client::client", Level::WARN)
                && !allows("kube_client::client::builder", Level::ERROR)
        );
    }
}
