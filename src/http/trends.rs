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
use super::documented::Problems;
use super::extract::Query;
use super::period;
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, each};
use crate::api::Duration;
use crate::db::Ledger;
use crate::db::samples::{self, Point};

/// Into how many points a period is divided unless the caller says otherwise.
const USUAL: i32 = 288;

/// Health over time.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Trends)]
pub(crate) struct Series {
    /// For how many seconds a point stands.
    step_seconds: i64,
    /// The moment from which it looks back, by the operator's clock.
    pub(crate) now: DateTime<Utc>,
    /// The oldest first. There is none for a time in which nothing was sampled.
    pub(crate) points: Vec<Sample>,
    /// The stores whose samples could not be read, and why.
    unavailable: Vec<Unavailable>,
}

/// What one step was like, of all stores that were asked for together.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Sample {
    /// When it begins.
    at: DateTime<Utc>,
    /// The most executions that ran.
    running: i64,
    /// The most that waited; null: that could not be counted.
    scheduled: Option<i64>,
    /// The most that ran for longer than is expected of them.
    long_running: i64,
    /// The most that ran although they were stale.
    stale: i64,
    /// How many were failed or cancelled by the operator or a person.
    failed: i64,
}

/// Of what, how far back and how finely.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only of this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    store: Option<StoreName>,
    /// How far back: at most 720h; 24h unless it is said.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "24h")]
    since: Option<Duration>,
    /// How much a point stands for: at least 1m, and so much that there are at most 1500; unless it is said, whole
    /// minutes that make at most 288.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "5m")]
    step: Option<Duration>,
}

/// Health over time: what ran, waited, ran for long and was stale, and how many executions were ended.
///
/// Takes the right to list jobexecutions in the namespace of the store; without a store in the namespaces of all stores.
#[utoipa::path(
    get, path = "/api/system/trends", tag = "system", params(Wanted),
    responses(Problems, (status = 200, description = "The points.", body = Series)),
)]
pub(super) async fn trends(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Series>, Problem> {
    let since = period::since(wanted.since.as_ref())?;
    let step = samples::step(since, wanted.step.as_ref().map(Duration::to_chrono), USUAL);
    let step = step.map_err(|error| Problem::InvalidParameter(error.to_string()))?;
    let stores = app.seen_by(&caller, wanted.store).await?;
    let now = Utc::now();
    let (parts, unavailable) = each(&stores, |store| points(store, since, step)).await?;
    let points = total(parts).into_iter().map(Sample::from).collect();
    Ok(Json(Series { step_seconds: step.num_seconds(), now, points, unavailable }))
}

/// The points of one store.
pub(super) async fn points(store: &Store, since: TimeDelta, step: TimeDelta) -> Result<Vec<Point>, Problem> {
    let open = store.open().await?;
    let Ledger::Tables { store_id, .. } = open.session.ledger else {
        return Err(Problem::NothingRecorded(store.name.to_string()));
    };
    let database = &open.session.database;
    let _reading = open.turn().await?;
    let points = database.within(samples::since(database, store_id, since, step)).await;
    points.map_err(|error| open.failed(error))
}

/// The stores together.
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
    fn what_one_store_could_not_count_is_not_known_of_all() {
        let point = |scheduled| Point { running: 2, scheduled, ..Point::default() };
        let sum = |a, b| total(vec![vec![point(a)], vec![point(b)]])[0];
        assert_eq!((sum(Some(1), Some(2)).scheduled, sum(Some(1), Some(2)).running), (Some(3), 4));
        assert_eq!(sum(Some(1), None).scheduled, None);
    }
}
