//! The fields that are kept of each kind, and the memory that objects may take. All sizes are estimates, in bytes: twice
//! the size of an object as JSON, plus the memory of everything derived from it. docs/security.md and docs/performance.md
//! name these numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Resource as _;
use kube::api::ObjectMeta;

use crate::api::labels::LABELS;
use crate::api::{ADOPT, ExecutionPolicy, ExecutionStore, JobExecution, RESUME, SWEEP_REQUESTED};
use crate::kubernetes::field_owner;
use crate::kubernetes::guarded::{Cached, json_len};

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;

/// The number of objects in one response to a list. They are decoded together, each of up to 1.5 MiB before most of it is
/// dropped.
pub const PAGE: u32 = 10;

/// The number of `JobExecution` objects in one response.
pub const EXECUTION_PAGE: u32 = 20;

/// The time for which a controller's filter remembers a deleted object: anybody who creates and deletes objects fills
/// that memory.
pub const REMEMBERED: Duration = Duration::from_mins(5);

/// The memory of an object without its content.
pub const REFUSED_COST: u64 = KIB;

/// The memory that the objects of each kind may take in one namespace, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// The stores.
    pub stores: u64,
    /// The policies.
    pub policies: u64,
    /// The `JobExecution` objects.
    pub executions: u64,
}

impl Budgets {
    /// Returns budgets from sizes in MiB.
    pub fn of_mib(stores: u32, policies: u32, executions: u32) -> Self {
        let [stores, policies, executions] = [stores, policies, executions].map(|mib| u64::from(mib) * MIB);
        Self { stores, policies, executions }
    }
}

impl Cached for ExecutionStore {
    const OBJECT_LIMIT: u64 = 512 * KIB;
    const VARIABLE: &'static str = "STORE_BUDGET";

    fn trim(&mut self) {
        let mut annotations = self.metadata.annotations.take().unwrap_or_default();
        annotations.retain(|key, _| [ADOPT, RESUME, SWEEP_REQUESTED].contains(&key.as_str()));
        self.metadata = kept(&mut self.metadata);
        self.metadata.annotations = some(annotations);
    }

    /// Includes the session of the store and its state between two reconciles.
    fn cost(&self) -> u64 {
        8 * KIB + 2 * json_len(self)
    }
}

impl Cached for ExecutionPolicy {
    const OBJECT_LIMIT: u64 = 2 * MIB;
    const VARIABLE: &'static str = "POLICY_BUDGET";

    fn trim(&mut self) {
        self.metadata = kept(&mut self.metadata);
    }

    /// Includes the compiled rules: one for each job and type, which repeats the policy's name for each of its fields.
    fn cost(&self) -> u64 {
        let spec = &self.spec;
        let says = [
            spec.timeout.is_some() || spec.dynamic_timeout.is_some(),
            spec.grace_period.is_some(),
            spec.heartbeat_timeout.is_some(),
            spec.on_stale.is_some(),
            spec.warn_after.is_some(),
        ];
        let said = says.into_iter().filter(|says| *says).count() as u64;
        let name = self.metadata.name.as_ref().map_or(0, String::len) as u64;
        let rules = (spec.selector.job_ids.len() + spec.selector.job_types.len()) as u64;
        KIB + 2 * json_len(self) + rules * (384 + said * (32 + name))
    }
}

impl Cached for JobExecution {
    const OBJECT_LIMIT: u64 = 64 * KIB;
    const VARIABLE: &'static str = "EXECUTION_BUDGET";

    fn trim(&mut self) {
        let mut labels = self.metadata.labels.take().unwrap_or_default();
        labels.retain(|key, _| LABELS.contains(&key.as_str()));
        let mut owners = self.metadata.owner_references.take().unwrap_or_default();
        let (kind, version) = (ExecutionStore::kind(&()), ExecutionStore::api_version(&()));
        owners.retain(|owner| owner.kind == kind && owner.api_version == version);
        let owner = field_owner::trimmed_field_owner(self);
        let deleted = self.metadata.deletion_timestamp.clone();
        self.metadata = kept(&mut self.metadata);
        self.metadata.labels = some(labels);
        self.metadata.owner_references = (!owners.is_empty()).then_some(owners);
        self.metadata.managed_fields = owner;
        self.metadata.deletion_timestamp = deleted;
    }

    fn cost(&self) -> u64 {
        KIB + 2 * json_len(self)
    }
}

fn some(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

/// The metadata that is kept of every object.
fn kept(meta: &mut ObjectMeta) -> ObjectMeta {
    let meta = std::mem::take(meta);
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp,
        ..ObjectMeta::default()
    }
}
