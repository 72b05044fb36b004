//! The parameters of a clean-up, and their validation.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Duration;
use crate::db::staleness::Suspicion;
use crate::http::auth::Caller;
use crate::http::cleanup_service::{CleanupRequest, MAX_REPORTED};
use crate::http::duration_schema::DurationSchema;
use crate::http::problem::Problem;
use crate::http::stores::StoreName;

/// The maximum of `max_hours`: what [`Duration`] can hold.
const MAX_HOURS: f64 = 399_996.0;

/// The maximum number of ids: as many as a report lists, so that each is reported.
pub(crate) const MAX_IDS: usize = MAX_REPORTED;

/// The executions to clean up. Each parameter may be in the query or in the body, but not in both; `ids` only in the
/// body.
#[derive(Debug, Default, Deserialize, Serialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CleanUp)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// Fails executions that have run for this many hours or longer. This replaces the store's default timeout;
    /// executions that a policy, an extension or `AlertOnly` governs are skipped. Without a threshold or ids,
    /// executions that are stale by the policies are ended.
    #[param(minimum = 0, exclusive_minimum = 0, maximum = 399_996, example = 1)]
    #[schema(minimum = 0, exclusive_minimum = 0, maximum = 399_996, example = 1)]
    pub(crate) max_hours: Option<f64>,
    /// The same threshold as a duration, for example `1h30m`.
    #[param(value_type = Option<DurationSchema>, inline)]
    #[schema(value_type = Option<DurationSchema>, inline)]
    pub(crate) older_than: Option<Duration>,
    /// The executions of one store to end, whatever their age; with a threshold, only those of them that are older.
    #[param(ignore)]
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) ids: Option<Vec<String>>,
    /// Change nothing, and report what a clean-up would do.
    pub(crate) dry_run: Option<bool>,
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    pub(crate) store: Option<StoreName>,
    /// With a threshold or `ids`, also end executions that a policy, an extension or `AlertOnly` governs.
    pub(crate) include_governed: Option<bool>,
    /// Only end executions that are suspected for this reason: `JobFinished`, `WorkloadRecreated`. Cannot be combined
    /// with a threshold or `ids`.
    #[param(value_type = Option<String>, pattern = "^(JobFinished|WorkloadRecreated)$", example = "JobFinished")]
    #[schema(value_type = Option<String>, pattern = "^(JobFinished|WorkloadRecreated)$", example = "JobFinished")]
    pub(crate) reason: Option<Suspicion>,
}

impl Params {
    /// Merges the query with the body.
    ///
    /// Fails if both set the same parameter.
    pub(super) fn with(self, body: Self) -> Result<Self, Problem> {
        fn either<T>(name: &str, a: Option<T>, b: Option<T>) -> Result<Option<T>, Problem> {
            match (a, b) {
                (Some(_), Some(_)) => Err(Problem::InvalidParameter(format!(
                    "{name} is both in the query and in the body: set it in one of them"
                ))),
                (a, b) => Ok(a.or(b)),
            }
        }
        Ok(Self {
            max_hours: either("max_hours", self.max_hours, body.max_hours)?,
            older_than: either("older_than", self.older_than, body.older_than)?,
            ids: either("ids", self.ids, body.ids)?,
            dry_run: either("dry_run", self.dry_run, body.dry_run)?,
            store: either("store", self.store, body.store)?,
            include_governed: either("include_governed", self.include_governed, body.include_governed)?,
            reason: either("reason", self.reason, body.reason)?,
        })
    }

    pub(in crate::http) fn to_request(&self, Caller(user): &Caller) -> Result<CleanupRequest, Problem> {
        let older_than = self.threshold()?;
        let ids = self.ids()?;
        let include_governed = self.include_governed.unwrap_or_default();
        if include_governed && older_than.is_none() && ids.is_empty() {
            return Err(Problem::InvalidParameter(
                "include_governed requires max_hours, older_than or ids: without them, the policies decide which executions are ended"
                    .to_owned(),
            ));
        }
        if self.reason.is_some() && (older_than.is_some() || !ids.is_empty()) {
            return Err(Problem::InvalidParameter(
                "reason selects all executions that are suspected for it: leave out max_hours, older_than and ids"
                    .to_owned(),
            ));
        }
        Ok(CleanupRequest {
            older_than,
            ids,
            include_governed,
            suspicion: self.reason,
            dry_run: self.dry_run.unwrap_or_default(),
            actor: user.name.clone(),
        })
    }

    /// Returns the minimum age of executions to end, if there is one.
    fn threshold(&self) -> Result<Option<TimeDelta>, Problem> {
        let invalid = |why: &str| Err(Problem::InvalidParameter(why.to_owned()));
        match (self.max_hours, &self.older_than) {
            (Some(_), Some(_)) => invalid("max_hours and older_than have the same meaning: set one of them"),
            (None, Some(age)) if age.get().is_zero() => invalid("older_than must be longer than 0"),
            (None, Some(age)) => Ok(Some(age.to_chrono())),
            (max_hours, None) => max_hours.map(hours).transpose(),
        }
    }

    /// Returns the distinct ids, in their order. An empty list is an error, since leaving out `ids` means all
    /// executions.
    fn ids(&self) -> Result<Vec<String>, Problem> {
        let Some(given) = &self.ids else { return Ok(Vec::new()) };
        let invalid = |why: String| Err(Problem::InvalidParameter(why));
        if given.is_empty() || given.len() > MAX_IDS {
            return invalid(format!("ids must have 1 to {MAX_IDS} entries: add some, or leave it out"));
        }
        if self.store.is_none() {
            return invalid("ids requires a store: set store=NAMESPACE/NAME".to_owned());
        }
        let mut seen = BTreeSet::new();
        Ok(given.iter().filter(|id| seen.insert(*id)).cloned().collect())
    }
}

/// Converts hours, which may be fractional.
fn hours(hours: f64) -> Result<TimeDelta, Problem> {
    // This is also false for NaN.
    if hours > 0.0 && hours <= MAX_HOURS {
        let length = std::time::Duration::from_secs_f64(hours * 3_600.0);
        return Ok(TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX));
    }
    Err(Problem::InvalidParameter(format!(
        "max_hours must be more than 0 and at most {MAX_HOURS}, for example 0.5"
    )))
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
        let hours = |max_hours| Params { max_hours, ..Params::default() };
        assert_eq!(hours(Some(1.0)).with(Params::default()).unwrap().max_hours, Some(1.0));
        assert_eq!(hours(None).with(hours(Some(2.0))).unwrap().max_hours, Some(2.0));
        assert!(hours(Some(1.0)).with(hours(Some(1.0))).is_err());
    }
}
