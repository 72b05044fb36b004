//! What a clean-up is asked for, and what of that makes sense.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::Duration;
use crate::db::judge::Suspicion;
use crate::http::auth::Caller;
use crate::http::cleaner::{Order, TOLD};
use crate::http::problem::Problem;
use crate::http::stores::StoreName;

/// The most hours that a person can mean.
const MAX_HOURS: f64 = 399_996.0;

/// The most ids at once: as many as an answer tells of, so that each is told of.
pub(crate) const IDS: usize = TOLD;

/// What to clean up. Each field may be in the query or in the body, not in both; `ids` are in the body only.
#[derive(Debug, Default, Deserialize, Serialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CleanUp)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// What has run for so many hours or longer is failed. It takes the place of the store's default: what a policy, an
    /// extension or `AlertOnly` governs is skipped. Without it what is stale by the policies is ended.
    #[param(minimum = 0, exclusive_minimum = 0, maximum = 399_996, example = 1)]
    #[schema(minimum = 0, exclusive_minimum = 0, maximum = 399_996, example = 1)]
    pub(crate) max_hours: Option<f64>,
    /// The same as a length of time, for example `1h30m`.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "1h")]
    #[schema(value_type = Option<String>, pattern = "^([0-9]{1,5}(h|m|s|ms)){1,4}$", example = "1h")]
    pub(crate) older_than: Option<Duration>,
    /// These executions of one store, whatever their age; with a threshold those of them that are older.
    #[param(ignore)]
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) ids: Option<Vec<String>>,
    /// Change nothing, only tell what would be done.
    pub(crate) dry_run: Option<bool>,
    /// Only this store: `namespace/name`.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example = "default/jobs")]
    pub(crate) store: Option<StoreName>,
    /// With a threshold or `ids`: those too that a policy, an extension or `AlertOnly` governs.
    pub(crate) include_governed: Option<bool>,
    /// What is suspected of this, and nothing else: `JobFinished`, `WorkloadRecreated`. Not together with a threshold or `ids`.
    #[param(value_type = Option<String>, pattern = "^(JobFinished|WorkloadRecreated)$", example = "JobFinished")]
    #[schema(value_type = Option<String>, pattern = "^(JobFinished|WorkloadRecreated)$", example = "JobFinished")]
    pub(crate) reason: Option<Suspicion>,
}

impl Wanted {
    /// Both together, as long as they do not speak of the same.
    pub(super) fn with(self, body: Self) -> Result<Self, Problem> {
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
            older_than: either("older_than", self.older_than, body.older_than)?,
            ids: either("ids", self.ids, body.ids)?,
            dry_run: either("dry_run", self.dry_run, body.dry_run)?,
            store: either("store", self.store, body.store)?,
            include_governed: either("include_governed", self.include_governed, body.include_governed)?,
            reason: either("reason", self.reason, body.reason)?,
        })
    }

    pub(in crate::http) fn order(&self, Caller(user): &Caller) -> Result<Order, Problem> {
        let older_than = self.threshold()?;
        let ids = self.ids()?;
        let include_governed = self.include_governed.unwrap_or_default();
        if include_governed && older_than.is_none() && ids.is_empty() {
            return Err(Problem::InvalidParameter(
                "include_governed needs max_hours, older_than or ids: without them the policies decide what is ended"
                    .to_owned(),
            ));
        }
        if self.reason.is_some() && (older_than.is_some() || !ids.is_empty()) {
            return Err(Problem::InvalidParameter(
                "reason is about all that are suspected of it: leave out max_hours, older_than and ids"
                    .to_owned(),
            ));
        }
        Ok(Order {
            older_than,
            ids,
            include_governed,
            suspicion: self.reason,
            dry_run: self.dry_run.unwrap_or_default(),
            actor: user.name.clone(),
        })
    }

    /// How long what is ended must have run.
    fn threshold(&self) -> Result<Option<TimeDelta>, Problem> {
        let invalid = |why: &str| Err(Problem::InvalidParameter(why.to_owned()));
        match (self.max_hours, &self.older_than) {
            (Some(_), Some(_)) => invalid("max_hours and older_than are the same: give one of them"),
            (None, Some(age)) if age.get().is_zero() => invalid("older_than must be longer than 0"),
            (None, Some(age)) => Ok(Some(age.to_chrono())),
            (max_hours, None) => max_hours.map(hours).transpose(),
        }
    }

    /// The ids as they were given, each once. None is not the same as no matter which.
    fn ids(&self) -> Result<Vec<String>, Problem> {
        let Some(given) = &self.ids else { return Ok(Vec::new()) };
        let invalid = |why: String| Err(Problem::InvalidParameter(why));
        if given.is_empty() || given.len() > IDS {
            return invalid(format!("ids must be from 1 to {IDS}: name some, or leave it out"));
        }
        if self.store.is_none() {
            return invalid("ids are those of one store: name it with store=NAMESPACE/NAME".to_owned());
        }
        let mut seen = BTreeSet::new();
        Ok(given.iter().filter(|id| seen.insert(*id)).cloned().collect())
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
