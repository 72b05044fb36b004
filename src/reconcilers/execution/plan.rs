//! Decide: compares the objects that the rows of a store require with those that exist. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::api::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::names;
use super::object::Object;
use super::status::{self, RowState};
use crate::api::conditions::{ConditionType, find};
use crate::api::execution::StoreRef;
use crate::api::{ExecutionStore, JobExecution, JobExecutionSpec, JobExecutionStatus, Phase};
use crate::db::execution::{Execution, Executions};
use crate::db::mapping::IdType;

/// The longest id that an object can hold, in characters.
const ID_LIMIT: usize = 253;

/// One step of a plan.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Create an object, then set its status.
    Create {
        /// The object.
        object: Box<JobExecution>,
        /// Its status.
        status: Box<JobExecutionStatus>,
    },
    /// Bring an object in line with its row.
    Update {
        /// The current object.
        object: Object,
        /// The status to write.
        status: Option<Box<JobExecutionStatus>>,
        /// The labels to write.
        labels: Option<BTreeMap<String, String>>,
    },
    /// Delete an object that the operator created.
    Delete(Object),
}

/// The steps for a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The steps, in any order.
    pub(super) steps: Vec<Step>,
    /// The number of objects after all steps.
    pub(super) objects: i64,
    /// The number of these that belong to running rows.
    pub(super) running: i64,
}

/// The input of a plan.
pub(super) struct PlanInput<'a> {
    /// The store.
    pub(super) store: &'a ExecutionStore,
    /// The type of its ids.
    pub(super) id_type: IdType,
    /// The rows.
    pub(super) found: &'a Executions,
    /// Its objects.
    pub(super) objects: &'a [Object],
    /// Names that are taken by objects for other rows.
    pub(super) taken: &'a BTreeSet<String>,
    /// True if the namespace has no room for more objects.
    pub(super) full: bool,
    /// The results of requests to cancel executions, by id.
    pub(super) unable: &'a BTreeMap<String, (&'static str, String)>,
    /// The operator's time, for conditions.
    pub(super) now: DateTime<Utc>,
}

/// Reports whether the operator created the object: for this store, or for one of the same name that is being deleted. A
/// copy of such an object under another name belongs to the user.
pub(super) fn is_operator_owned(object: &JobExecution) -> bool {
    let (store, id, name) = (&object.spec.store_ref.name, &object.spec.execution_id, object.name_any());
    let owned = object.owner_references().iter().any(|owner| {
        owner.controller == Some(true)
            && owner.kind == ExecutionStore::kind(&())
            && owner.api_version == ExecutionStore::api_version(&())
            && owner.name == *store
    });
    owned && (name == names::name(store, IdType::Integer, id) || name == names::hashed(store, id))
}

/// Plans the steps for a store whose rows can be read.
pub(super) fn plan(view: &PlanInput<'_>) -> Plan {
    let rows: BTreeMap<&str, &Execution> = view.found.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let room = RetentionPolicy::of(view);
    let mut plan = Plan::default();
    let mut objects: Vec<_> = view.objects.iter().collect();
    // Of several objects for a row, those of users come first, then older ones.
    objects.sort_by_cached_key(|object| {
        (is_operator_owned(object), object.creation_timestamp(), object.name_any())
    });
    let (mut seen, mut leaving) = (BTreeSet::new(), BTreeSet::new());
    for object in objects {
        let id = view.id_type.canonical(&object.spec.execution_id);
        let row = id.as_deref().and_then(|id| rows.get(id).copied());
        if object.metadata.deletion_timestamp.is_some() {
            // A finalizer of somebody else holds it: nothing more can be done.
            plan.objects += 1;
            leaving.extend(id);
            continue;
        }
        let first = id.as_deref().is_none_or(|id| !seen.contains(id));
        if is_operator_owned(object) && !room.keeps(view, object, row, first) {
            plan.steps.push(Step::Delete(object.clone()));
            // An object that needs the same name is created after this one is gone.
            leaving.extend(id);
            continue;
        }
        plan.objects += 1;
        plan.running += i64::from(first && row.is_some_and(|row| row.phase == Phase::Running));
        let sight = match (&id, row) {
            (None, _) => RowState::InvalidId(view.id_type),
            (Some(id), None) => RowState::RowNotFound(view.unable.get(id)),
            (Some(id), Some(row)) => RowState::Row(row, view.unable.get(id)),
        };
        plan.steps.extend(update(object, &sight, view.now));
        seen.extend(id);
    }
    let names: BTreeSet<String> = view.objects.iter().map(|object| object.name_any()).collect();
    for id in room.wanted.iter().filter(|id| !seen.contains(**id) && !leaving.contains(**id)) {
        let Some(row) = rows.get(id).filter(|_| !view.full) else { continue };
        if row.id.is_empty() || row.id.chars().count() > ID_LIMIT {
            continue;
        }
        let Some(step) = create(view, row, &names) else { continue };
        plan.objects += 1;
        plan.running += i64::from(row.phase == Phase::Running);
        plan.steps.push(step);
    }
    plan
}

/// The step for an object; `None` if it is up to date.
pub(super) fn update(object: &Object, sight: &RowState<'_>, now: DateTime<Utc>) -> Option<Step> {
    let before = object.status.as_ref();
    let status =
        Some(status::compute(object, sight, now)).filter(|status| before != Some(status)).map(Box::new);
    let store = &object.spec.store_ref.name;
    let labels = match sight {
        RowState::Row(row, _) => Some(names::labels(store, Some(row))),
        RowState::RowNotFound(_) => Some(names::labels(store, None)),
        RowState::InvalidId(_) | RowState::StoreNotFound | RowState::StoreNotReady => None,
    };
    let labels = labels.filter(|labels| !names::are_set(labels, object.labels()));
    (status.is_some() || labels.is_some()).then(|| Step::Update { object: object.clone(), status, labels })
}

/// Creates the object for a row, unless objects for other rows have taken both of its names.
fn create(view: &PlanInput<'_>, row: &Execution, names: &BTreeSet<String>) -> Option<Step> {
    let store = view.store.name_any();
    let mut candidates =
        [names::name(&store, view.id_type, &row.id), names::hashed(&store, &row.id)].into_iter();
    let name = candidates.find(|name| !names.contains(name) && !view.taken.contains(name))?;
    let spec = JobExecutionSpec {
        store_ref: StoreRef { name: store.clone() },
        execution_id: row.id.clone(),
        timeout: None,
        extend_by: None,
        cancel: None,
        workload_ref: None,
    };
    let mut object = JobExecution::new(&name, spec);
    let owner = OwnerReference {
        api_version: ExecutionStore::api_version(&()).into_owned(),
        kind: ExecutionStore::kind(&()).into_owned(),
        name: store.clone(),
        uid: view.store.uid().unwrap_or_default(),
        controller: Some(true),
        // True would need permission for the store's finalizers in clusters that check it.
        block_owner_deletion: None,
    };
    object.metadata = ObjectMeta {
        name: Some(name),
        namespace: view.store.namespace(),
        labels: Some(names::labels(&store, Some(row))),
        owner_references: Some(vec![owner]),
        // The API server sets the same value.
        generation: Some(1),
        ..ObjectMeta::default()
    };
    let status = status::compute(&object, &RowState::Row(row, None), view.now);
    Some(Step::Create { object: Box::new(object), status: Box::new(status) })
}

/// The rows that should have an object.
struct RetentionPolicy<'a> {
    enabled: bool,
    /// Rows that get an object if they have none.
    wanted: BTreeSet<&'a str>,
    /// Paused rows whose object may stay.
    paused: BTreeSet<&'a str>,
    /// Ended rows whose object may stay.
    finished: BTreeSet<&'a str>,
}

impl<'a> RetentionPolicy<'a> {
    fn of(view: &PlanInput<'a>) -> Self {
        let sync = &view.store.spec.execution_objects;
        let limit = usize::try_from(sync.limit).unwrap_or_default();
        let mut running: Vec<&Execution> =
            view.found.rows.iter().filter(|row| row.picked && row.phase == Phase::Running).collect();
        running.sort_by_key(|row| (!row.stale, row.started_at.is_none(), row.started_at, &row.id));
        let ttl = sync.finished_ttl.to_chrono();
        let mut finished: Vec<&Execution> =
            view.found.rows.iter().filter(|row| row.phase.finished() && !expired(row, view, ttl)).collect();
        finished.sort_by_key(|row| (std::cmp::Reverse(row.completed_at), &row.id));
        let mut paused: Vec<&Execution> =
            view.found.rows.iter().filter(|row| row.phase == Phase::Paused).collect();
        paused.sort_by_key(|row| (row.started_at.is_none(), row.started_at, &row.id));
        running.truncate(limit);
        paused.truncate(limit);
        finished.truncate(limit);
        let ended = finished.iter().filter(|row| row.picked);
        Self {
            enabled: sync.enabled,
            wanted: running.iter().chain(ended).map(|row| row.id.as_str()).filter(|_| sync.enabled).collect(),
            paused: paused.iter().map(|row| row.id.as_str()).filter(|_| sync.enabled).collect(),
            finished: finished.iter().map(|row| row.id.as_str()).collect(),
        }
    }

    /// Reports whether an object that the operator created may stay. `first`: it is the first object of its row.
    fn keeps(
        &self,
        view: &PlanInput<'_>,
        object: &JobExecution,
        row: Option<&Execution>,
        first: bool,
    ) -> bool {
        let asks = object.spec.asks();
        let before = object.status.as_ref();
        let told = |type_, status| {
            let conditions = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
            find(conditions, type_).filter(|condition| condition.status == status)
        };
        let had_ended = before.and_then(|before| before.phase).is_some_and(Phase::finished)
            && told(ConditionType::Finished, "True").is_some();
        let Some(row) = row else {
            // The row may come back, as after a restore, and what the object asks for must apply then.
            return first
                && asks
                && !had_ended
                && told(ConditionType::Bound, "False").is_none_or(|c| is_recent(c, view));
        };
        let id = row.id.as_str();
        if !first && !asks {
            return false;
        }
        match row.phase {
            // A request for an execution that has ended does not apply to another one with the same id.
            Phase::Running => !(had_ended && asks) && (asks || self.wanted.contains(id)),
            Phase::Paused => !(had_ended && asks) && (asks || self.paused.contains(id)),
            Phase::Scheduled | Phase::Ignored | Phase::Unmapped => asks && !had_ended,
            Phase::Completed | Phase::Failed | Phase::Cancelled => {
                self.enabled && self.finished.contains(id) && !outlived(object, row, view)
            }
        }
    }
}

/// Reports whether a row ended longer than `ttl` ago. An unknown end, or one in the future, does not count.
fn expired(row: &Execution, view: &PlanInput<'_>, ttl: TimeDelta) -> bool {
    row.completed_at.is_some_and(|end| end + ttl <= view.found.now)
}

/// Reports the same if the row has no usable end, from the time when the object recorded the end.
fn outlived(object: &JobExecution, row: &Execution, view: &PlanInput<'_>) -> bool {
    if row.completed_at.is_some_and(|end| end <= view.found.now) {
        return false;
    }
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, ConditionType::Finished)
        .filter(|c| c.status == "True")
        .is_some_and(|told| !is_recent(told, view))
}

/// Reports whether a condition changed less than `finishedTTL` ago.
fn is_recent(condition: &Condition, view: &PlanInput<'_>) -> bool {
    let since = DateTime::from_timestamp(condition.last_transition_time.0.as_second(), 0);
    since.is_none_or(|since| since + view.store.spec.execution_objects.finished_ttl.to_chrono() > view.now)
}

#[cfg(test)]
mod tests;
