//! `GET /api/system/trends`

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::duration_schema::DurationSchema;
use super::extract::Query;
use super::openapi::Problems;
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, for_each_store};
use super::time_range;
use crate::api::Duration;
use crate::db::Ledger;
use crate::db::samples::{self, Point};

/// The maximum number of points if the request has no step.
const DEFAULT_POINTS: i32 = 288;

/// The counts of executions over time.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Trends)]
pub(crate) struct Series {
    /// The length of a step, in seconds.
    step_seconds: i64,
    /// The end of the period, by the operator's clock.
    pub(crate) now: DateTime<Utc>,
    /// The points, the oldest first. There is none for a step without samples.
    pub(crate) points: Vec<Sample>,
    /// The stores whose samples could not be read, and why.
    unavailable: Vec<Unavailable>,
}

/// The counts of one step, of all requested stores together.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Sample {
    /// The start of the step.
    at: DateTime<Utc>,
    /// The maximum number of running executions.
    running: i64,
    /// The maximum number of scheduled executions; null if they could not be counted.
    scheduled: Option<i64>,
    /// The maximum number of executions that had run for longer than expected.
    long_running: i64,
    /// The maximum number of executions that were running although they were stale.
    stale: i64,
    /// The number of executions that the operator or a user failed or cancelled.
    failed: i64,
}

/// The parameters of the request.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// The length of the period: at most 30d, by default 24h.
    #[param(value_type = Option<DurationSchema>, inline)]
    since: Option<Duration>,
    /// The length of a step: at least 1m, and long enough for at most 1500 points. By default, whole minutes for at
    /// most 288 points.
    #[param(value_type = Option<DurationSchema>, inline)]
    step: Option<Duration>,
}

/// Returns the counts of running, scheduled, long-running and stale executions over time, and how many were ended.
///
/// Requires the right to list jobexecutions in the namespace of the store, or, without `store`, in the namespaces of
/// all stores.
#[utoipa::path(
    get, path = "/api/system/trends", tag = "system", params(Params),
    responses(Problems, (status = 200, description = "The points.", body = Series)),
)]
pub(super) async fn trends(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Json<Series>, Problem> {
    let since = time_range::parse_since(params.since.as_ref())?;
    let step = samples::step(since, params.step.as_ref().map(Duration::to_chrono), DEFAULT_POINTS);
    let step = step.map_err(|error| Problem::InvalidParameter(error.to_string()))?;
    let stores = app.readable_stores(&caller, params.store).await?;
    let now = Utc::now();
    let (parts, unavailable) = for_each_store(&stores, |store| points(store, since, step)).await?;
    let points = total(parts).into_iter().map(Sample::from).collect();
    Ok(Json(Series { step_seconds: step.num_seconds(), now, points, unavailable }))
}

/// Returns the points of one store.
pub(super) async fn points(store: &Store, since: TimeDelta, step: TimeDelta) -> Result<Vec<Point>, Problem> {
    let open = store.open().await?;
    let Ledger::Tables { store_id, .. } = open.session.ledger else {
        return Err(Problem::NothingRecorded(store.name.to_string()));
    };
    let database = &open.session.database;
    let _permit = open.read_permit().await?;
    let points = database.within(samples::since(database, store_id, since, step)).await;
    points.map_err(|error| open.failed(error))
}

/// Adds up the points of several stores.
pub(super) fn total(stores: Vec<Vec<Point>>) -> Vec<Point> {
    let mut sums: BTreeMap<DateTime<Utc>, Point> = BTreeMap::new();
    for point in stores.into_iter().flatten() {
        let add = |sum: &mut Point| *sum = sum.plus(point);
        sums.entry(point.at).and_modify(add).or_insert(point);
    }
    sums.into_values().collect()
}

impl From<Point> for Sample {
    fn from(Point { at, running, scheduled, long_running, stale, failed }: Point) -> Self {
        Self { at, running, scheduled, long_running, stale, failed }
    }
}

impl From<Sample> for Point {
    fn from(Sample { at, running, scheduled, long_running, stale, failed }: Sample) -> Self {
        Self { at, running, scheduled, long_running, stale, failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_unknown_if_one_store_could_not_count() {
        let point = |scheduled| Point { running: 2, scheduled, ..Point::default() };
        let sum = |a, b| total(vec![vec![point(a)], vec![point(b)]])[0];
        assert_eq!((sum(Some(1), Some(2)).scheduled, sum(Some(1), Some(2)).running), (Some(3), 4));
        assert_eq!(sum(Some(1), None).scheduled, None);
    }
}
