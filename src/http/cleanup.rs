//! `POST /api/system/cleanup/stale-executions`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::auth::Caller;
use super::cleaner::{self, Order};
use super::documented::{Busy, Problems};
use super::extract::{Body, Query};
use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, some};
use crate::db::cleanup as done;

/// The most hours that a person can mean.
const MAX_HOURS: f64 = 399_996.0;

/// What to clean up. Each field may be in the query or in the body, not in both.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CleanUp)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// What has run for so many hours or longer is failed. It takes the place of the store's default: what a policy, an
    /// extension or `AlertOnly` governs is skipped. Without it what is stale by the policies is ended.
    #[param(minimum = 0, exclusive_minimum = 0, maximum = 399_996, example = 1)]
    #[schema(minimum = 0, exclusive_minimum = 0, maximum = 399_996, example = 1)]
    pub(super) max_hours: Option<f64>,
    /// Change nothing, only tell what would be done.
    pub(super) dry_run: Option<bool>,
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    pub(super) store: Option<StoreName>,
    /// With `max_hours`: those too that a policy, an extension or `AlertOnly` governs.
    pub(super) include_governed: Option<bool>,
}

/// What a clean-up came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CleanUpReport)]
pub(super) struct Report {
    /// Whether nothing was changed.
    pub(super) dry_run: bool,
    /// How many executions were ended or, in a dry run, would be.
    pub(super) cleaned: u64,
    /// How many were left as they are, although they are stale or have run for so long.
    pub(super) skipped: u64,
    /// The same in a sentence.
    pub(super) message: String,
    /// The first 1,000 of each store, each with what was done and why, or why not.
    pub(super) executions: Vec<Row>,
    /// How many more there are than `executions` tells of.
    pub(super) omitted: u64,
    /// The stores that could not be cleaned up, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// An execution that was ended or, in a dry run, would be; or one that is not, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CleanedExecution)]
pub(super) struct Row {
    /// The store: `namespace/name`.
    pub(super) store: String,
    /// The row's id.
    pub(super) id: String,
    /// Its job.
    pub(super) job_id: Option<String>,
    /// Its number within the job.
    pub(super) execution_number: Option<i64>,
    /// When it started.
    pub(super) started_at: Option<DateTime<Utc>>,
    /// How long it has run, in seconds.
    pub(super) runtime_seconds: Option<f64>,
    /// When it should have ended.
    pub(super) deadline: Option<DateTime<Utc>>,
    /// When it was ended, by the database's clock; null in a dry run.
    pub(super) completed_at: Option<DateTime<Utc>>,
    /// What was or would be done: `Failed` or `Cancelled`; null: nothing.
    pub(super) action: Option<&'static str>,
    /// Why: evidence such as `DeadlineExceeded`, or `ManualCleanup` where the caller decided.
    pub(super) reason: Option<String>,
    /// The object that says so, or `HttpApi`.
    pub(super) source: Option<String>,
    /// Why nothing is done about it.
    pub(super) skipped: Option<Skipped>,
}

/// Why a row is left as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Skipped {
    /// In one word, for example `Governed`, `Extended`, `AlertOnly`, `Locked`, `Late`, `Refused`.
    pub(super) reason: &'static str,
    /// For a person.
    pub(super) message: String,
}

/// Fails what is stale, or what has run for longer than given.
///
/// By the policies it is what a sweep of the operator does; the breaker does not apply. One at a time for each store. It
/// goes on when the client hangs up. Each execution that is ended is recorded with the name of the caller. Takes the right
/// to create executionstores/cleanup in the namespace of the store; without a store for all stores.
#[utoipa::path(
    post, path = "/api/system/cleanup/stale-executions", tag = "system", params(Wanted),
    request_body(content = Option<Wanted>, description = "Instead of the query."),
    responses(Problems, Busy, (status = 200, description = "What was done, or would be.", body = Report)),
)]
pub(super) async fn cleanup(
    caller: Caller,
    State(app): State<Arc<App>>,
    Query(query): Query<Wanted>,
    Body(body): Body<Wanted>,
) -> Result<Json<Report>, Problem> {
    let wanted = query.with(body.unwrap_or_default())?;
    let stores = app.cleaned_by(&caller, wanted.store.clone()).await?;
    let order = wanted.order(&caller)?;
    Ok(Json(clean(&app, &stores, &order).await?))
}

/// Cleans these stores up.
pub(super) async fn clean(app: &App, stores: &[Store], order: &Order) -> Result<Report, Problem> {
    // All turns before anything is done.
    let turns =
        stores.iter().map(|store| if order.dry_run { Ok(None) } else { app.turn(&store.name).map(Some) });
    let turns = turns.collect::<Result<Vec<_>, _>>()?;
    let outcomes = join_all(stores.iter().zip(turns).map(async |(store, turn)| {
        let open = store.open().await?;
        cleaner::run(app, open, store.handle.clone(), order.clone(), turn).await
    }));
    let outcomes = outcomes.await;
    let (told, mut unavailable) = some(stores.iter().zip(outcomes))?;
    let mut report = Report::none(order.dry_run);
    for (store, outcome) in told {
        report.cleaned += outcome.cleaned;
        report.skipped += outcome.skipped;
        report.omitted += outcome.omitted;
        report.executions.extend(outcome.rows.into_iter().map(|row| Row::of(&store, row)));
        // It did something before it failed.
        unavailable.extend(outcome.broken.map(|problem| Unavailable::new(&store, &problem)));
    }
    report.unavailable = unavailable;
    report.message = report.sentence();
    Ok(report)
}

impl Wanted {
    /// Both together, as long as they do not speak of the same.
    fn with(self, body: Self) -> Result<Self, Problem> {
        fn either<T>(name: &str, a: Option<T>, b: Option<T>) -> Result<Option<T>, Problem> {
            match (a, b) {
                (Some(_), Some(_)) => Err(Problem::InvalidParameter(format!(
                    "{name} is in the query and in the body: give it in one of them"
                ))),
                (a, b) => Ok(a.or(b)),
            }
        }
        Ok(Self {
            max_hours: either("max_hours", self.max_hours, body.max_hours)?,
            dry_run: either("dry_run", self.dry_run, body.dry_run)?,
            store: either("store", self.store, body.store)?,
            include_governed: either("include_governed", self.include_governed, body.include_governed)?,
        })
    }

    pub(super) fn order(&self, Caller(user): &Caller) -> Result<Order, Problem> {
        let older_than = self.max_hours.map(hours).transpose()?;
        let include_governed = self.include_governed.unwrap_or_default();
        if include_governed && older_than.is_none() {
            return Err(Problem::InvalidParameter(
                "include_governed needs max_hours: without it the policies decide what is ended".to_owned(),
            ));
        }
        Ok(Order {
            older_than,
            include_governed,
            dry_run: self.dry_run.unwrap_or_default(),
            actor: user.name.clone(),
        })
    }
}

/// A length in hours, which may be fractional.
fn hours(hours: f64) -> Result<TimeDelta, Problem> {
    // Also false for what is no number.
    if hours > 0.0 && hours <= MAX_HOURS {
        let length = std::time::Duration::from_secs_f64(hours * 3_600.0);
        return Ok(TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX));
    }
    Err(Problem::InvalidParameter(format!(
        "max_hours must be more than 0 and at most {MAX_HOURS}, for example 0.5"
    )))
}

impl Report {
    fn none(dry_run: bool) -> Self {
        Self {
            dry_run,
            cleaned: 0,
            skipped: 0,
            message: String::new(),
            executions: Vec::new(),
            omitted: 0,
            unavailable: Vec::new(),
        }
    }

    fn sentence(&self) -> String {
        let noun = if self.cleaned == 1 { "execution" } else { "executions" };
        let done = if self.dry_run { "Would clean up" } else { "Successfully cleaned up" };
        format!("{done} {} stale {noun}", self.cleaned)
    }
}

impl Row {
    fn of(store: &StoreName, row: done::Row) -> Self {
        Self {
            store: store.to_string(),
            id: row.id,
            job_id: row.job_id,
            execution_number: row.execution_number,
            started_at: row.started_at,
            runtime_seconds: row.runtime_seconds,
            deadline: row.deadline,
            completed_at: row.completed_at,
            action: row.action,
            reason: row.reason,
            source: row.source,
            skipped: row.skipped.map(|done::Skipped { reason, message }| Skipped { reason, message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_be_fractional_and_nothing_else() {
        assert_eq!(hours(0.5).unwrap(), TimeDelta::minutes(30));
        assert_eq!(hours(24.0).unwrap(), TimeDelta::hours(24));
        for bad in [0.0, -1.0, -0.0, f64::NAN, f64::INFINITY, 400_000.0] {
            assert!(hours(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_field_is_given_once() {
        let hours = |max_hours| Wanted { max_hours, ..Wanted::default() };
        assert_eq!(hours(Some(1.0)).with(Wanted::default()).unwrap().max_hours, Some(1.0));
        assert_eq!(hours(None).with(hours(Some(2.0))).unwrap().max_hours, Some(2.0));
        assert!(hours(Some(1.0)).with(hours(Some(1.0))).is_err());
    }
}
