//! Decide: which objects a store's rows lead to, compared with those that are there. Pure.

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

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Make an object, then give it a status.
    Create {
        /// The object.
        object: Box<JobExecution>,
        /// Its status.
        status: Box<JobExecutionStatus>,
    },
    /// Bring an object in line with its row.
    Update {
        /// The object as it is.
        object: Object,
        /// The status to write.
        status: Option<Box<JobExecutionStatus>>,
        /// The labels to write.
        labels: Option<BTreeMap<String, String>>,
    },
    /// Delete an object that the operator made.
    Delete(Object),
}

/// What to do.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The steps, in no order that matters.
    pub(super) steps: Vec<Step>,
    /// How many objects there are when all are done.
    pub(super) objects: i64,
    /// How many of them are of running rows.
    pub(super) running: i64,
}

/// What a plan is made of.
pub(super) struct PlanInput<'a> {
    /// The store.
    pub(super) store: &'a ExecutionStore,
    /// The type of its ids.
    pub(super) id_type: IdType,
    /// The rows.
    pub(super) found: &'a Executions,
    /// Its objects.
    pub(super) objects: &'a [Object],
    /// Names that others have taken for other rows.
    pub(super) taken: &'a BTreeSet<String>,
    /// Whether the namespace can have no more objects.
    pub(super) full: bool,
    /// What became of the wish to cancel an execution, by its id.
    pub(super) unable: &'a BTreeMap<String, (&'static str, String)>,
    /// The operator's time, for conditions.
    pub(super) now: DateTime<Utc>,
}

/// Whether the operator made the object: for this store, or for one of the same name that is being deleted. A copy of
/// one under another name is a person's.
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

/// What there is to do for a store whose rows can be seen.
pub(super) fn plan(view: &PlanInput<'_>) -> Plan {
    let rows: BTreeMap<&str, &Execution> = view.found.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let room = RetentionPolicy::of(view);
    let mut plan = Plan::default();
    let mut objects: Vec<_> = view.objects.iter().collect();
    // Of several objects for a row those of people come first, then the older ones.
    objects.sort_by_cached_key(|object| {
        (is_operator_owned(object), object.creation_timestamp(), object.name_any())
    });
    let (mut seen, mut leaving) = (BTreeSet::new(), BTreeSet::new());
    for object in objects {
        let id = view.id_type.canonical(&object.spec.execution_id);
        let row = id.as_deref().and_then(|id| rows.get(id).copied());
        if object.metadata.deletion_timestamp.is_some() {
            // Somebody else's finalizer holds it: there is nothing more to do to it.
            plan.objects += 1;
            leaving.extend(id);
            continue;
        }
        let first = id.as_deref().is_none_or(|id| !seen.contains(id));
        if is_operator_owned(object) && !room.keeps(view, object, row, first) {
            plan.steps.push(Step::Delete(object.clone()));
            // One that is to have the same name is made when this one is gone.
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

/// What there is to do for an object: nothing where it says what is to be said.
pub(super) fn update(object: &Object, sight: &RowState<'_>, now: DateTime<Utc>) -> Option<Step> {
    let before = object.status.as_ref();
    let status =
        Some(status::judge(object, sight, now)).filter(|status| before != Some(status)).map(Box::new);
    let store = &object.spec.store_ref.name;
    let labels = match sight {
        RowState::Row(row, _) => Some(names::labels(store, Some(row))),
        RowState::RowNotFound(_) => Some(names::labels(store, None)),
        RowState::InvalidId(_) | RowState::StoreNotFound | RowState::StoreNotReady => None,
    };
    let labels = labels.filter(|labels| !names::are_set(labels, object.labels()));
    (status.is_some() || labels.is_some()).then(|| Step::Update { object: object.clone(), status, labels })
}

/// An object for a row, unless objects for other rows have every name that it could have.
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
        // True would take a right on the store's finalizers in clusters that check it.
        block_owner_deletion: None,
    };
    object.metadata = ObjectMeta {
        name: Some(name),
        namespace: view.store.namespace(),
        labels: Some(names::labels(&store, Some(row))),
        owner_references: Some(vec![owner]),
        // As the API server will set it.
        generation: Some(1),
        ..ObjectMeta::default()
    };
    let status = status::judge(&object, &RowState::Row(row, None), view.now);
    Some(Step::Create { object: Box::new(object), status: Box::new(status) })
}

/// Which rows are to have an object.
struct RetentionPolicy<'a> {
    enabled: bool,
    /// Those that are to get one if they have none.
    wanted: BTreeSet<&'a str>,
    /// Those that are paused and whose object may stay.
    paused: BTreeSet<&'a str>,
    /// Those that have ended and whose object may stay.
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

    /// Whether an object that the operator made may stay. `first`: there is no other for its row.
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
            // It may come back, as after a restore, and what was asked of it must count then.
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
            // What was asked of an execution that has ended is not asked of another one with the same id.
            Phase::Running => !(had_ended && asks) && (asks || self.wanted.contains(id)),
            Phase::Paused => !(had_ended && asks) && (asks || self.paused.contains(id)),
            Phase::Scheduled | Phase::Ignored | Phase::Unmapped => asks && !had_ended,
            Phase::Completed | Phase::Failed | Phase::Cancelled => {
                self.enabled && self.finished.contains(id) && !outlived(object, row, view)
            }
        }
    }
}

/// Whether a row ended longer ago than `ttl`. An end that nobody knows or that is still to come has not.
fn expired(row: &Execution, view: &PlanInput<'_>, ttl: TimeDelta) -> bool {
    row.completed_at.is_some_and(|end| end + ttl <= view.found.now)
}

/// The same where the end says nothing: by when the object was told of it.
fn outlived(object: &JobExecution, row: &Execution, view: &PlanInput<'_>) -> bool {
    if row.completed_at.is_some_and(|end| end <= view.found.now) {
        return false;
    }
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, ConditionType::Finished)
        .filter(|c| c.status == "True")
        .is_some_and(|told| !is_recent(told, view))
}

/// Whether a condition has not been as it is for longer than objects of what has ended stay.
fn is_recent(condition: &Condition, view: &PlanInput<'_>) -> bool {
    let since = DateTime::from_timestamp(condition.last_transition_time.0.as_second(), 0);
    since.is_none_or(|since| since + view.store.spec.execution_objects.finished_ttl.to_chrono() > view.now)
}

#[cfg(test)]
mod tests;
