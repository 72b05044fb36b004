//! Observe: what the page shows of some stores. What cannot be had is told in its place, the rest is shown.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;

use crate::db::samples::Point;
use crate::http::health::{self, Health};
use crate::http::problem::Problem;
use crate::http::stores::{Store, StoreName};
use crate::http::{executions, history, trends};

/// How many executions are shown, and how many events.
pub(super) const EXECUTIONS: u32 = 50;
pub(super) const EVENTS: u32 = 20;

/// How far back the plot goes, and how much a point of it stands for.
const PERIOD: TimeDelta = TimeDelta::hours(24);
const STEP: TimeDelta = TimeDelta::minutes(5);

/// What is shown.
pub(super) struct Board {
    /// The moment.
    pub(super) now: DateTime<Utc>,
    /// The health of all stores together.
    pub(super) health: Health,
    /// The health of each.
    pub(super) stores: Vec<(StoreName, Health)>,
    /// The one that was chosen.
    pub(super) only: Option<StoreName>,
    /// Those of them that may be cleaned up.
    pub(super) cleaned: Vec<StoreName>,
    pub(super) running: Result<executions::Page, Problem>,
    pub(super) events: Result<history::Page, Problem>,
    /// The last day, the oldest first. Points that are missing were not sampled.
    pub(super) points: Vec<Point>,
    /// How much one of them stands for.
    pub(super) step: TimeDelta,
}

/// Gathers it.
pub(super) async fn gather(
    stores: Vec<Store>,
    cleaned: BTreeSet<StoreName>,
    only: Option<StoreName>,
) -> Board {
    let now = Utc::now();
    let (executions, recent) = (executions::Wanted::at_most(EXECUTIONS), history::Wanted::at_most(EVENTS));
    let (running, events, points) = tokio::join!(
        executions::page(&stores, &executions),
        history::page(&stores, &recent),
        join_all(stores.iter().map(points)),
    );
    let one = |store: &Store| (store.name.clone(), health::one(store, now));
    Board {
        now,
        health: health::sum(&stores, now),
        cleaned: stores
            .iter()
            .map(|store| store.name.clone())
            .filter(|name| cleaned.contains(name))
            .collect(),
        stores: stores.iter().map(one).collect(),
        only,
        running,
        events,
        points: trends::total(points),
        step: STEP,
    }
}

/// The last day of one store; nothing where that is not known.
async fn points(store: &Store) -> Vec<Point> {
    trends::points(store, PERIOD, STEP).await.unwrap_or_else(|error| {
        tracing::debug!(store = %store.name, %error, "there is no health over time");
        Vec::new()
    })
}
