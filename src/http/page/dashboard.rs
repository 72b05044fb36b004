//! Collects the contents of the dashboard. Parts that are unavailable are replaced by their errors.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;

use crate::db::samples::Point;
use crate::http::health::{self, Health};
use crate::http::problem::Problem;
use crate::http::stores::{Store, StoreName};
use crate::http::{audit, executions, trends};

/// The maximum numbers of executions and of actions.
pub(super) const EXECUTIONS: u32 = 50;
pub(super) const EVENTS: u32 = 20;

/// The period of the plot, and the length of its steps.
const PERIOD: TimeDelta = TimeDelta::hours(24);
const STEP: TimeDelta = TimeDelta::minutes(5);

/// The contents of the dashboard.
pub(super) struct Dashboard {
    /// The time of the data.
    pub(super) now: DateTime<Utc>,
    /// The health of all stores together.
    pub(super) health: Health,
    /// The health of each store.
    pub(super) stores: Vec<(StoreName, Health)>,
    /// The selected store.
    pub(super) selected: Option<StoreName>,
    /// The stores that the user may clean up.
    pub(super) cleanable: Vec<StoreName>,
    pub(super) running: Result<executions::Page, Problem>,
    pub(super) events: Result<audit::Page, Problem>,
    /// The counts of the last 24 hours, the oldest first. Points without samples are missing.
    pub(super) points: Vec<Point>,
    /// The length of a step.
    pub(super) step: TimeDelta,
}

/// Collects the contents.
pub(super) async fn gather(
    stores: Vec<Store>,
    cleanable: BTreeSet<StoreName>,
    selected: Option<StoreName>,
) -> Dashboard {
    let now = Utc::now();
    let (executions, recent) = (executions::Params::at_most(EXECUTIONS), audit::Params::at_most(EVENTS));
    let (running, events, points) = tokio::join!(
        executions::page(&stores, &executions),
        audit::page(&stores, &recent),
        join_all(stores.iter().map(points)),
    );
    let store_health = |store: &Store| (store.name.clone(), health::store_health(store, now));
    Dashboard {
        now,
        health: health::total_health(&stores, now),
        cleanable: stores
            .iter()
            .map(|store| store.name.clone())
            .filter(|name| cleanable.contains(name))
            .collect(),
        stores: stores.iter().map(store_health).collect(),
        selected,
        running,
        events,
        points: trends::total(points),
        step: STEP,
    }
}

/// Returns the points of one store, or none if they are unavailable.
async fn points(store: &Store) -> Vec<Point> {
    trends::points(store, PERIOD, STEP).await.unwrap_or_else(|error| {
        tracing::debug!(store = %store.name, %error, "cannot read the counts over time");
        Vec::new()
    })
}
