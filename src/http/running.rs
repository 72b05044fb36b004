//! `GET /api/system/executions/running`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::auth::Caller;
use super::documented::Problems;
use super::executions::{self, Page, Which};
use super::extract::Query;
use super::problem::Problem;
use super::stores::StoreName;
use crate::api::Duration;

/// Which of the executions that run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Only of this job.
    #[param(example = "21")]
    job: Option<String>,
    /// Only those that began so long ago or longer, for example `1h30m`.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "1h")]
    older_than: Option<Duration>,
    /// Only those that are stale.
    stale: Option<bool>,
    /// How many at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

impl From<Wanted> for executions::Wanted {
    fn from(wanted: Wanted) -> Self {
        let which = if wanted.stale.unwrap_or_default() { Which::Stale } else { Which::Running };
        Self {
            store: wanted.store,
            job: wanted.job,
            older_than: wanted.older_than,
            which: Some(which),
            limit: wanted.limit,
            cursor: wanted.cursor,
        }
    }
}

/// The executions that run, the longest first.
///
/// Takes the right to list jobexecutions in the namespace of the store; without a store in the namespaces of all stores.
#[utoipa::path(
    get, path = "/api/system/executions/running", tag = "system", params(Wanted),
    responses(
        Problems,
        (status = 200, description = "A page of them.", body = Page, links(
            ("next" = (operation_id = "running", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn running(
    caller: Caller,
    state: State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page>, Problem> {
    executions::executions(caller, state, Query(wanted.into())).await
}
