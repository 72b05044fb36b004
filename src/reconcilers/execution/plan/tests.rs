//! The objects that rows lead to, without any server.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use super::*;
use crate::api::Limit;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_754_670_115, 0).unwrap()
}

fn store(limit: i32) -> ExecutionStore {
    let object = json!({
        "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore",
        "metadata": {"name": "jobs", "namespace": "n", "uid": "u"},
        "spec": {"connection": {"secretRef": {"name": "db"}}, "executionObjects": {"limit": limit, "finishedTTL": "1h"}},
    });
    serde_json::from_value(object).unwrap()
}

fn row(id: i64, phase: Phase, hours: i64) -> Execution {
    let started_at = now() - TimeDelta::hours(hours);
    Execution {
        id: id.to_string(),
        phase,
        status: format!("{phase:?}").to_lowercase(),
        job_id: Some("1".to_owned()),
        job_type: None,
        number: Some(id),
        started_at: Some(started_at),
        completed_at: phase.finished().then(|| now() - TimeDelta::minutes(10 * id)),
        timeout: Limit::After(TimeDelta::hours(24)),
        source: "ExecutionStore/jobs".to_owned(),
        extend_source: None,
        deadline: Some(started_at + TimeDelta::hours(24)),
        long_running: false,
        warn_source: "ExecutionStore/jobs".to_owned(),
        reason: None,
        ended_by: None,
        actor: None,
        note: None,
        stale: false,
        picked: true,
    }
}

fn planned(store: &ExecutionStore, rows: &[Execution], objects: &[Object]) -> Vec<Step> {
    let found = Executions { now: now(), rows: rows.to_vec() };
    let (taken, unable) = (BTreeSet::new(), BTreeMap::new());
    let view = PlanInput {
        store,
        id_type: IdType::Integer,
        found: &found,
        objects,
        taken: &taken,
        full: false,
        unable: &unable,
        now: now(),
    };
    plan(&view).steps
}

/// The steps in short form: `+name`, `~name` and `-name`.
fn steps(store: &ExecutionStore, rows: &[Execution], objects: &[Object]) -> Vec<String> {
    let mut steps: Vec<String> = planned(store, rows, objects)
        .iter()
        .map(|step| match step {
            Step::Create { object, .. } => format!("+{}", object.name_any()),
            Step::Update { object, .. } => format!("~{}", object.name_any()),
            Step::Delete(object) => format!("-{}", object.name_any()),
        })
        .collect();
    steps.sort();
    steps
}

/// The objects that exist once these rows have been synced.
fn synced(store: &ExecutionStore, rows: &[Execution]) -> Vec<Object> {
    let made = |step| match step {
        Step::Create { mut object, status } => {
            object.status = Some(*status);
            Some(Object::from(*object))
        }
        Step::Update { .. } | Step::Delete(_) => None,
    };
    planned(store, rows, &[]).into_iter().filter_map(made).collect()
}

fn changed(object: &Object, change: impl FnOnce(&mut JobExecution)) -> Object {
    let mut object: JobExecution = (**object).clone();
    change(&mut object);
    object.into()
}

#[test]
fn a_synced_object_is_left_as_it_is() {
    let store = store(10);
    let rows = [row(1, Phase::Running, 2), row(2, Phase::Running, 1), row(3, Phase::Failed, 3)];
    let objects = synced(&store, &rows);
    assert_eq!(objects.len(), 3);
    assert!(steps(&store, &rows, &objects).is_empty());
}

#[test]
fn the_stale_come_first_and_then_the_longest_running() {
    let mut stale = row(4, Phase::Running, 1);
    stale.stale = true;
    let rows = [row(1, Phase::Running, 3), row(2, Phase::Running, 4), row(3, Phase::Running, 2), stale];
    assert_eq!(steps(&store(2), &rows, &[]), ["+jobs-2", "+jobs-4"]);
    let all = synced(&store(10), &rows);
    assert_eq!(steps(&store(2), &rows, &all), ["-jobs-1", "-jobs-3"]);
    let asked: Vec<_> = all.iter().map(|o| changed(o, |o| o.spec.timeout = "1h".parse().ok())).collect();
    assert!(steps(&store(2), &rows, &asked).iter().all(|step| !step.starts_with('-')), "people ask of them");
}

#[test]
fn objects_go_some_time_after_the_end_and_with_their_row() {
    let store = store(10);
    let running = [row(1, Phase::Running, 2), row(7, Phase::Running, 2)];
    let objects = synced(&store, &running);
    // 10 and 70 minutes ago.
    let ended = [row(1, Phase::Completed, 2), row(7, Phase::Completed, 2)];
    assert_eq!(steps(&store, &ended, &objects), ["-jobs-7", "~jobs-1"]);
    assert_eq!(steps(&store, &running[..1], &objects), ["-jobs-7"]);
    assert_eq!(steps(&store, &[row(1, Phase::Scheduled, 2)], &objects[..1]), ["-jobs-1"]);
}

#[test]
fn what_was_asked_of_an_execution_is_not_asked_of_the_next_one_with_its_id() {
    let store = store(10);
    let ended = synced(&store, &[row(1, Phase::Completed, 2)]);
    let again = [row(1, Phase::Running, 0)];
    assert_eq!(steps(&store, &again, &ended), ["~jobs-1"]);
    let asked = changed(&ended[0], |object| object.spec.cancel = Some(true));
    assert_eq!(steps(&store, &again, &[asked]), ["-jobs-1"], "made anew when it is gone");
}

#[test]
fn an_object_of_a_person_is_used_and_stays() {
    let store = store(10);
    let rows = [row(1, Phase::Running, 2)];
    let made = synced(&store, &rows);
    let theirs = changed(&made[0], |object| {
        object.metadata.name = Some("mine".to_owned());
        object.metadata.owner_references = None;
    });
    assert!(steps(&store, &rows, std::slice::from_ref(&theirs)).is_empty());
    let both = [made[0].clone(), theirs.clone()];
    assert_eq!(steps(&store, &rows, &both), ["-jobs-1"]);
    assert_eq!(steps(&store, &[], &[theirs]), ["~mine"], "its row is gone");
}

#[test]
fn what_somebody_elses_finalizer_holds_is_left_alone() {
    let store = store(10);
    let rows = [row(1, Phase::Running, 2)];
    let deleted = Time(Timestamp::from_second(now().timestamp()).unwrap());
    let held = synced(&store, &rows).remove(0);
    let held = changed(&held, |object| object.metadata.deletion_timestamp = Some(deleted));
    assert!(steps(&store, &[], std::slice::from_ref(&held)).is_empty());
    assert!(steps(&store, &rows, &[held]).is_empty());
}
