//! The page of execution statistics. It is separate from the dashboard because its query reads all recently ended
//! rows, which is too expensive for each refresh.

use chrono::TimeDelta;
use serde::Deserialize;

use super::browser_session::BrowserSession;
use crate::api::Duration;
use crate::db::stats::Question;
use crate::http::app::App;
use crate::http::problem::Problem;
use crate::http::stats::{self, Table};
use crate::http::stores::StoreName;
use crate::http::time_range;

/// The maximum number of rows.
pub(super) const MAX_ROWS: u32 = 100;

/// The parameters of the page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Params {
    /// Only this store; empty for all stores.
    #[serde(default)]
    store: String,
    /// Only executions that ended within this time; empty for the default of the API.
    #[serde(default)]
    since: String,
}

/// The contents of the page.
pub(super) struct Stats {
    /// The selected store.
    pub(super) selected: Option<StoreName>,
    /// The number of stores.
    pub(super) stores: usize,
    /// The length of the period.
    pub(super) since: TimeDelta,
    pub(super) table: Result<Table, Problem>,
    /// Whether rows were left out.
    pub(super) more: bool,
}

/// Collects the statistics of the stores that the user may see. The errors of single stores are part of the result.
pub(super) async fn gather(app: &App, session: &BrowserSession, params: &Params) -> Result<Stats, Problem> {
    let since = (!params.since.is_empty()).then(|| params.since.parse::<Duration>()).transpose();
    let since = since.map_err(|error| Problem::InvalidParameter(format!("since: {error}")))?;
    let since = time_range::parse_since(since.as_ref())?;
    let (stores, _) = app.stores_visible_to(&session.caller).await?;
    let (stores, selected) = super::select_store(stores, &params.store)?;
    let question = Question { since, types: Vec::new(), limit: MAX_ROWS + 1 };
    let mut table = stats::table(&stores, &question).await;
    let mut more = false;
    if let Ok(table) = &mut table {
        let shown = usize::try_from(MAX_ROWS).unwrap_or(usize::MAX);
        more = table.stats.len() > shown;
        table.stats.truncate(shown);
    }
    Ok(Stats { selected, stores: stores.len(), since, table, more })
}
