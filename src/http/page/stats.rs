//! The execution statistics, on a page of their own: to ask for them reads all that ended lately, too much for each refresh.

use chrono::TimeDelta;
use serde::Deserialize;

use super::visitor::Visitor;
use crate::api::Duration;
use crate::db::stats::Question;
use crate::http::app::App;
use crate::http::period;
use crate::http::problem::Problem;
use crate::http::stats::{self, Table};
use crate::http::stores::StoreName;

/// How many lines are shown at the most.
pub(super) const LINES: u32 = 100;

/// Of which stores, and how far back.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// Only of this store; empty: of all.
    #[serde(default)]
    store: String,
    /// Of what ended within so long; empty: as the API has it.
    #[serde(default)]
    since: String,
}

/// What is shown.
pub(super) struct Stats {
    /// The store that was chosen.
    pub(super) only: Option<StoreName>,
    /// How many stores were asked.
    pub(super) stores: usize,
    /// Of what ended within so long.
    pub(super) since: TimeDelta,
    pub(super) table: Result<Table, Problem>,
    /// Whether there are more lines than are shown.
    pub(super) more: bool,
}

/// Asks the stores that the visitor may see. What cannot be had of them is told in its place.
pub(super) async fn gather(app: &App, visitor: &Visitor, wanted: &Wanted) -> Result<Stats, Problem> {
    let since = (!wanted.since.is_empty()).then(|| wanted.since.parse::<Duration>()).transpose();
    let since = since.map_err(|error| Problem::InvalidParameter(format!("since: {error}")))?;
    let since = period::since(since.as_ref())?;
    let (stores, _) = app.offered_to(&visitor.caller).await?;
    let (stores, only) = super::chosen(stores, &wanted.store)?;
    let question = Question { since, types: Vec::new(), limit: LINES + 1 };
    let mut table = stats::table(&stores, &question).await;
    let mut more = false;
    if let Ok(table) = &mut table {
        let shown = usize::try_from(LINES).unwrap_or(usize::MAX);
        more = table.stats.len() > shown;
        table.stats.truncate(shown);
    }
    Ok(Stats { only, stores: stores.len(), since, table, more })
}
