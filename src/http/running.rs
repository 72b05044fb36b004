//! `GET /api/system/executions/running`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::auth::Caller;
use super::duration_schema::DurationSchema;
use super::executions::{self, Filter, Page};
use super::extract::Query;
use super::openapi::Problems;
use super::problem::Problem;
use super::stores::StoreName;
use crate::api::Duration;

/// The parameters of the request.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// Only this job.
    #[param(example = "21")]
    job: Option<String>,
    /// Only executions that started at least this long ago, for example `1h30m`.
    #[param(value_type = Option<DurationSchema>, inline)]
    older_than: Option<Duration>,
    /// Only stale executions.
    stale: Option<bool>,
    /// The maximum number of executions.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next` of the previous page.
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

impl From<Params> for executions::Params {
    fn from(params: Params) -> Self {
        let which = if params.stale.unwrap_or_default() { Filter::Stale } else { Filter::Running };
        Self {
            store: params.store,
            job: params.job,
            older_than: params.older_than,
            which: Some(which),
            limit: params.limit,
            cursor: params.cursor,
        }
    }
}

/// Lists running executions, the longest running first.
///
/// Requires the right to list jobexecutions in the namespace of the store, or, without `store`, in the namespaces of
/// all stores.
#[utoipa::path(
    get, path = "/api/system/executions/running", tag = "system", params(Params),
    responses(
        Problems,
        (status = 200, description = "A page of executions.", body = Page, links(
            ("next" = (operation_id = "running", parameters(("cursor" = "$response.body#/next")))))),
    ),
)]
pub(super) async fn running(
    caller: Caller,
    state: State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Json<Page>, Problem> {
    executions::executions(caller, state, Query(params.into())).await
}
