//! The figures that only people need: counted seldom, and never in the way of enforcement.

use std::time::Instant;

use kube::ResourceExt as _;

use super::look::Seen;
use super::memory::Memory;
use crate::api::ExecutionStore;
use crate::controllers::session::Session;
use crate::db::{DbError, observe};

/// Figures that read the whole table are taken so seldom that they keep the server busy for at most 5 % of the time.
const CENSUS_SHARE: u32 = 20;

/// The figures that enforcement does not need. Without indexes of their own they read the whole table; that they
/// cannot be taken is no reason to stop anything else.
pub(super) async fn figures(store: &ExecutionStore, session: &Session, memory: &mut Memory, seen: &mut Seen) {
    let (database, mapping) = (&session.database, &session.mapping);
    // A little less than the poll interval, so that each poll takes them.
    let census_every = store.spec.poll_interval.get().mul_f64(0.9).max(memory.census_took * CENSUS_SHARE);
    if seen.sweep.is_some() || memory.census.as_ref().is_none_or(|(at, _)| at.elapsed() >= census_every) {
        let begun = Instant::now();
        let census = database.within(observe::census(database, mapping)).await;
        memory.census_took = begun.elapsed();
        memory.census = Some((Instant::now(), or_told(store, census)));
    }
    let requested = seen.sweep.as_ref().is_some_and(|swept| swept.sweep.trigger == "Requested");
    let every = store.spec.sweep_interval.get();
    if requested || memory.contradictions.as_ref().is_none_or(|(at, _)| at.elapsed() >= every) {
        let found = database.within(observe::contradictions(database, mapping)).await;
        memory.contradictions = Some((Instant::now(), or_told(store, found)));
    }
    seen.census = memory.census.as_ref().and_then(|(_, census)| *census);
    seen.contradictions = memory.contradictions.as_ref().and_then(|(_, found)| found.clone());
}

fn or_told<T>(store: &ExecutionStore, figures: Result<T, DbError>) -> Option<T> {
    figures.map_err(|error| tracing::warn!(store = store.name_any(), %error, "figures of the table could not be taken")).ok()
}
