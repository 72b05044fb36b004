//! The HTTPS API of the real binary, over real TLS, with the decisions of a real API server.

mod access;
mod case;
mod fuzz;
mod health;
mod input;
mod limits;
mod pages;
mod ready;
mod tls;
mod trends;

use serde_json::Value;

/// The paths that the tests use most.
pub(crate) const HEALTH: &str = "/api/system/health";
const EXECUTIONS: &str = "/api/system/executions";
pub(crate) const RUNNING: &str = "/api/system/executions/running";
pub(crate) const CLEANUP: &str = "/api/system/cleanup/stale-executions";
const HISTORY: &str = "/api/system/history";
const TRENDS: &str = "/api/system/trends";
const STATS: &str = "/api/system/stats";

/// The four counts of the case: running, scheduled, long-running, recent.
fn figures(health: &Value) -> [i64; 4] {
    ["running_executions", "scheduled_executions", "long_running_executions", "recent_executions_24h"]
        .map(|name| health["metrics"][name].as_i64().unwrap_or_else(|| panic!("no {name} in {health:#}")))
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<&str> {
    page["executions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}
