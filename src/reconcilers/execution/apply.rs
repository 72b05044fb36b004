//! Apply: executes a plan, several objects at a time, and remembers the answers of the API server until the watch has
//! delivered them too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::names;
use super::news::news;
use super::object::Object;
use super::plan::{Step, is_operator_owned};
use crate::api::labels::LABELS;
use crate::api::{JobExecution, JobExecutionStatus};
use crate::kubernetes::error::{ReconcileError, bounded};
use crate::kubernetes::events::publish;
use crate::kubernetes::guarded::Cached as _;
use crate::kubernetes::managers::{FIELD_MANAGER, OBJECTS_MANAGER};
use crate::kubernetes::queue::StoreKey as Key;
use crate::runtime::cluster::Cluster;

/// The most objects of a store that are written at the same time.
const CONCURRENCY: usize = 8;

/// The number of steps that are taken even if other work is urgent.
const AT_LEAST: usize = 256;

/// The number of refusals in a row after which the remaining steps are skipped: a permission is missing, or an admission
/// policy interferes.
const REFUSALS: usize = 16;

/// The result of writing an object.
#[derive(Clone, Debug)]
pub(super) enum Written {
    /// The object as the API server returned it.
    Put(Object),
    /// The object with this UID is gone.
    Gone(Option<String>),
}

/// The result of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The results, by the name of the object.
    pub(super) written: BTreeMap<String, Written>,
    /// Names that are taken by objects for other rows.
    pub(super) taken: BTreeSet<String>,
    /// The first error.
    pub(super) error: Option<ReconcileError>,
    /// The number of errors.
    pub(super) failures: usize,
    /// True if all steps were tried.
    pub(super) complete: bool,
}

/// Executes the plan. It breaks off when the operator is asked to stop, when another replica manages the store, and when
/// `urgent` is set because other work must not wait.
pub(super) async fn apply(cluster: &Cluster, key: &Key, steps: Vec<Step>, urgent: &AtomicBool) -> Applied {
    let writer = Writer {
        cluster,
        api: Api::namespaced(cluster.client.clone(), &key.namespace),
        refused: AtomicBool::new(false),
        away: AtomicBool::new(false),
        refusals: AtomicUsize::new(0),
    };
    let mut given = 0;
    let mut goes_on = || {
        given += 1;
        // Each pass makes some progress, however urgent other work is.
        let interrupted = given > AT_LEAST && urgent.load(Ordering::Acquire);
        let refusals = writer.refusals.load(Ordering::Relaxed);
        let useless = writer.away.load(Ordering::Relaxed) || refusals >= REFUSALS;
        let ours = !cluster.stop.is_cancelled() && cluster.owns(&key.namespace, &key.store);
        ours && !interrupted && !useless
    };
    let of = steps.len();
    let mut done = 0;
    let mut applied = Applied::default();
    let mut outcomes = stream::iter(steps)
        .take_while(|_| std::future::ready(goes_on()))
        .map(|step| writer.step(step))
        .buffer_unordered(CONCURRENCY);
    while let Some(outcome) = outcomes.next().await {
        done += 1;
        match outcome {
            Ok(Outcome::Written(name, written)) => {
                applied.written.insert(name, written);
            }
            Ok(Outcome::Taken(name)) => {
                applied.taken.insert(name);
            }
            Ok(Outcome::Skipped) => {}
            Err(error) => {
                applied.failures += 1;
                applied.error.get_or_insert(error);
            }
        }
    }
    applied.complete = done == of;
    applied
}

enum Outcome {
    Written(String, Written),
    Taken(String),
    Skipped,
}

struct Writer<'a> {
    cluster: &'a Cluster,
    api: Api<JobExecution>,
    /// True once a new object was refused: a missing permission or quota affects all of them.
    refused: AtomicBool,
    /// True once the API server did not answer: not every object should wait for the timeout.
    away: AtomicBool,
    /// The number of refusals in a row.
    refusals: AtomicUsize,
}

impl Writer<'_> {
    async fn step(&self, step: Step) -> Result<Outcome, ReconcileError> {
        let outcome = self.write(step).await;
        match &outcome {
            Err(error) if error.refused() => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => self.away.store(true, Ordering::Relaxed),
            Ok(Outcome::Skipped) => {}
            Ok(_) => self.refusals.store(0, Ordering::Relaxed),
        }
        outcome
    }

    async fn write(&self, step: Step) -> Result<Outcome, ReconcileError> {
        match step {
            Step::Create { .. } if self.refused.load(Ordering::Relaxed) => Ok(Outcome::Skipped),
            Step::Create { object, status } => self.create(*object, &status).await,
            Step::Update { object, status, labels } => {
                self.update(object, status.as_deref(), labels.as_ref()).await
            }
            Step::Delete(object) => self.delete(&object).await,
        }
    }

    async fn create(
        &self,
        object: JobExecution,
        status: &JobExecutionStatus,
    ) -> Result<Outcome, ReconcileError> {
        let name = object.name_any();
        let params = PostParams { field_manager: Some(OBJECTS_MANAGER.to_owned()), ..PostParams::default() };
        let created = match bounded(self.api.create(&params, &object)).await {
            Ok(created) => created,
            Err(error) if error.code() == Some(409) => {
                // Somebody else was faster, or the watch lags behind.
                let Some(there) = bounded(self.api.get_opt(&name)).await? else {
                    return Ok(Outcome::Skipped);
                };
                let same = there.spec.store_ref == object.spec.store_ref
                    && there.spec.execution_id == object.spec.execution_id;
                return Ok(if same { put(there) } else { Outcome::Taken(name) });
            }
            Err(error) => {
                self.refused.fetch_or(error.code() == Some(403), Ordering::Relaxed);
                return Err(error);
            }
        };
        self.update(created.into(), Some(status), None).await
    }

    async fn update(
        &self,
        object: Object,
        status: Option<&JobExecutionStatus>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<Outcome, ReconcileError> {
        let mut latest = None;
        if let Some(status) = status {
            self.tell(&object, status).await?;
            let patch = Patch::Apply(patch(&object, json!({ "status": status })));
            let params = PatchParams::apply(FIELD_MANAGER).force();
            match bounded(self.api.patch_status(&object.name_any(), &params, &patch)).await {
                Err(error) if is_gone(&error) => return Ok(gone(&object)),
                written => latest = Some(self.cleared(written?, status).await?),
            }
        }
        if let Some(labels) = labels {
            let patch = Patch::Apply(patch(&object, json!({ "metadata": { "labels": labels } })));
            let params = PatchParams::apply(OBJECTS_MANAGER).force();
            match bounded(self.api.patch(&object.name_any(), &params, &patch)).await {
                Err(error) if is_gone(&error) => return Ok(gone(&object)),
                written => latest = Some(self.unlabelled(written?, labels).await?),
            }
        }
        Ok(latest.map_or(Outcome::Skipped, put))
    }

    /// Removes fields that somebody else has added to the status, which apply would leave.
    async fn cleared(
        &self,
        written: JobExecution,
        status: &JobExecutionStatus,
    ) -> Result<JobExecution, ReconcileError> {
        if written.status.as_ref() == Some(status) {
            return Ok(written);
        }
        let mut content = json!(written.status);
        if let (Some(content), Value::Object(status)) = (content.as_object_mut(), json!(status)) {
            content.values_mut().for_each(|field| *field = Value::Null);
            content.extend(status);
        }
        let patch = Patch::Merge(json!({ "metadata": { "uid": written.uid() }, "status": content }));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        bounded(self.api.patch_status(&written.name_any(), &params, &patch)).await
    }

    /// Does the same for labels.
    async fn unlabelled(
        &self,
        written: JobExecution,
        labels: &BTreeMap<String, String>,
    ) -> Result<JobExecution, ReconcileError> {
        if names::are_set(labels, written.labels()) {
            return Ok(written);
        }
        let content: BTreeMap<_, _> = LABELS.iter().map(|label| (label, labels.get(*label))).collect();
        let patch = Patch::Merge(json!({ "metadata": { "uid": written.uid(), "labels": content } }));
        let params =
            PatchParams { field_manager: Some(OBJECTS_MANAGER.to_owned()), ..PatchParams::default() };
        bounded(self.api.patch(&written.name_any(), &params, &patch)).await
    }

    /// Publishes the Events first: their names derive from their content, so that a crash in between does not duplicate
    /// them. The status that would suppress them is not written yet.
    async fn tell(&self, object: &JobExecution, status: &JobExecutionStatus) -> Result<(), ReconcileError> {
        let before = object.status.clone().unwrap_or_default();
        for news in news(&before, status, is_operator_owned(object)) {
            match publish(&self.cluster.client, &object.object_ref(&()), news).await {
                // The status holds the same information.
                Err(error) if error.refused() || error.code() == Some(429) => {
                    tracing::warn!(execution = object.name_any(), %error, "an Event could not be published");
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Deletes the object in the version that was read: if its spec asks for something since, it stays.
    async fn delete(&self, object: &JobExecution) -> Result<Outcome, ReconcileError> {
        let seen = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        let params = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
        match bounded(self.api.delete(&object.name_any(), &params)).await {
            Ok(_) => Ok(gone(object)),
            Err(error) if error.code() == Some(404) => Ok(gone(object)),
            // It has changed since: the next plan takes that into account.
            Err(error) if error.code() == Some(409) => Ok(Outcome::Skipped),
            Err(error) => Err(error),
        }
    }
}

/// Reports whether the object with this UID does not exist: applying to it is then a conflict.
fn is_gone(error: &ReconcileError) -> bool {
    matches!(error.code(), Some(404 | 409))
}

/// An object created again under the same name must not get what was meant for the old one.
fn patch(object: &JobExecution, mut content: Value) -> Value {
    content["apiVersion"] = JobExecution::api_version(&()).into();
    content["kind"] = JobExecution::kind(&()).into();
    content["metadata"]["uid"] = object.uid().into();
    content
}

fn put(mut object: JobExecution) -> Outcome {
    object.trim();
    Outcome::Written(object.name_any(), Written::Put(object.into()))
}

fn gone(object: &JobExecution) -> Outcome {
    Outcome::Written(object.name_any(), Written::Gone(object.uid()))
}
