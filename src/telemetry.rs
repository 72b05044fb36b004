//! Logs: structured, to standard error. What is logged while an object is reconciled or a table swept is within a span that
//! names it, and never an execution: a span is of bounded size, and there are few of them.

mod escape;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing::Span;
use tracing_subscriber::EnvFilter;

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

/// Starts logging; a second call changes nothing.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.fmt_fields(escape::fields()).with_writer(std::io::stderr).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_writer(|| escape::Json(std::io::stderr())).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
