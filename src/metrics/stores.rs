//! Metrics of the state of stores: names, help texts, and advice on alerts.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::page::Page;
use super::snapshot::StoreSnapshot;
use crate::api::conditions::{ConditionType, find};
use crate::api::store::{Metrics, ObjectsStatus, Violations};

/// The values of a condition's `status`, as kube-state-metrics writes them.
pub(super) const STATUSES: [&str; 3] = ["true", "false", "unknown"];

pub(super) type Labels<'a> = [(&'static str, &'a str); 2];
pub(super) type OneMore<'a> = [(&'static str, &'a str); 3];
pub(super) type TwoMore<'a> = [(&'static str, &'a str); 4];

impl StoreSnapshot {
    pub(super) fn labels(&self) -> Labels<'_> {
        [("namespace", &self.namespace), ("store", &self.name)]
    }

    pub(super) fn labels_and<'a>(&'a self, label: &'static str, value: &'a str) -> OneMore<'a> {
        let [namespace, store] = self.labels();
        [namespace, store, (label, value)]
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    /// Returns the counts of the table while it can be read: a gap is more honest than a stale line.
    fn counts(&self) -> Option<&Metrics> {
        let status = self.status.as_ref()?;
        let known = find(&status.conditions, ConditionType::Healthy)
            .is_some_and(|healthy| healthy.status != "Unknown");
        status.metrics.as_ref().filter(|_| known)
    }
}

/// Writes the metrics.
pub(super) fn write(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    counts(page, stores)?;
    retries(page, stores)?;
    conditions(page, stores)?;
    objects(page, stores)?;
    connections(page, stores)
}

fn counts(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    let mut count = |name: &str, help: &str, of: fn(&Metrics) -> Option<i64>| {
        let samples = stores.iter().filter_map(|store| Some((store.labels(), of(store.counts()?)?)));
        page.gauge(name, help, samples)
    };
    count(
        "jobexec_store_running_executions",
        "Running executions. Absent, like all counts of a table, while the table cannot be read.",
        |counts| Some(counts.running_executions),
    )?;
    count("jobexec_store_scheduled_executions", "Executions that wait to be started.", |counts| {
        Some(counts.scheduled_executions)
    })?;
    count(
        "jobexec_store_long_running_executions",
        "Executions that have run for longer than longRunning.after of their store, or warnAfter of their policy. Alert on the \
         condition Healthy, which takes longRunning.threshold into account.",
        |counts| Some(counts.long_running_executions),
    )?;
    count(
        "jobexec_store_stale_executions",
        "Running executions that are stale. If it stays above 0, alert, unless stale executions are kept (onStale: AlertOnly, \
         mode: Observe).",
        |counts| Some(counts.stale_executions),
    )?;
    count(
        "jobexec_store_recent_executions",
        "Executions that started within the last 24 hours.",
        |counts| Some(counts.recent_executions_24h),
    )?;
    count(
        "jobexec_store_oldest_running_start_timestamp_seconds",
        "Start of the longest-running execution; time() minus this is its runtime.",
        |counts| counts.oldest_running_started_at.as_ref().map(seconds),
    )?;
    count(
        "jobexec_store_figures_timestamp_seconds",
        "When these counts were taken, by the database's clock.",
        |counts| counts.timestamp.as_ref().map(seconds),
    )?;
    page.counter(
        "jobexec_store_refused_transitions",
        "Status changes refused by the transition trigger of the table, if it is installed. A rise means that workers finish \
         executions that were ended: their timeout may be too short.",
        stores.iter().filter_map(|store| {
            Some((store.labels(), u64::try_from(store.counts()?.refused_transitions?).unwrap_or_default()))
        }),
    )
}

fn retries(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    let of = |store: &StoreSnapshot| store.status.as_ref().and_then(|status| status.retries.clone());
    page.gauge(
        "jobexec_store_retries_waiting",
        "Retries that wait: until the worker of the ended attempt is gone (state=\"worker\"), until they are due (\"time\"), for room in \
         spec.retry.budget (\"budget\"), or to be tried again after the table refused them (\"refused\"). Alert if any wait for the \
         budget.",
        stores.iter().filter_map(|store| Some((store, of(store)?))).flat_map(|(store, retries)| {
            let for_time =
                retries.waiting - retries.waiting_for_worker - retries.waiting_for_budget - retries.refused;
            [
                ("worker", retries.waiting_for_worker),
                ("time", for_time),
                ("budget", retries.waiting_for_budget),
                ("refused", retries.refused),
            ]
            .map(|(what, count)| (store.labels_and("state", what), count))
        }),
    )?;
    page.gauge(
        "jobexec_store_retries_last_hour",
        "Retries that the operator started within the last hour, in the table.",
        stores.iter().filter_map(|store| Some((store.labels(), of(store)?.started_last_hour))),
    )?;
    page.gauge(
        "jobexec_store_retry_budget",
        "The maximum number of retries within an hour, by spec.retry.budget.",
        stores.iter().filter_map(|store| Some((store.labels(), of(store)?.budget))),
    )
}

fn conditions(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    page.gauge(
        "jobexec_store_condition",
        "1 for the current status of a condition of the ExecutionStore, 0 for the others. Alert on Ready, DatabaseReachable and \
         Healthy with status=\"false\".",
        stores.iter().flat_map(|store| {
            store.conditions().iter().flat_map(move |condition| {
                STATUSES.map(|status| {
                    let [namespace, name] = store.labels();
                    let labels: TwoMore<'_> =
                        [namespace, name, ("type", &condition.type_), ("status", status)];
                    (labels, i64::from(condition.status.eq_ignore_ascii_case(status)))
                })
            })
        }),
    )?;
    page.gauge(
        "jobexec_store_condition_reason",
        "1, with the reason of a condition of the ExecutionStore. Alert on type=\"EnforcementPaused\", reason=\"BreakerOpen\": \
         nothing is ended until a person resumes enforcement.",
        stores.iter().flat_map(|store| {
            store.conditions().iter().map(move |condition| {
                let [namespace, name] = store.labels();
                let labels: TwoMore<'_> =
                    [namespace, name, ("type", &condition.type_), ("reason", &condition.reason)];
                (labels, 1_i64)
            })
        }),
    )?;
    page.gauge(
        "jobexec_store_violations",
        "Rows with contradictory columns, by kind. Counted once per sweepInterval.",
        stores.iter().flat_map(|store| {
            let found = store.status.as_ref().and_then(|status| status.violations.as_ref());
            let kinds = found.map(kinds).into_iter().flatten();
            kinds.map(move |(kind, count)| (store.labels_and("kind", kind), count))
        }),
    )
}

/// Returns the counts by their names in the status.
fn kinds(found: &Violations) -> [(&'static str, i64); 9] {
    let Violations {
        unmapped_status,
        running_without_started_at,
        finished_without_completed_at,
        completed_before_started,
        running_with_completed_at,
        started_in_future,
        started_before_created,
        started_again,
        id_too_long,
    } = *found;
    [
        ("unmappedStatus", unmapped_status),
        ("runningWithoutStartedAt", running_without_started_at),
        ("finishedWithoutCompletedAt", finished_without_completed_at),
        ("completedBeforeStarted", completed_before_started),
        ("runningWithCompletedAt", running_with_completed_at),
        ("startedInFuture", started_in_future),
        ("startedBeforeCreated", started_before_created),
        ("startedAgain", started_again),
        ("idTooLong", id_too_long),
    ]
}

fn objects(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    let mut count = |name: &str, help: &str, of: fn(&ObjectsStatus) -> i64| {
        let objects = |store: &StoreSnapshot| store.status.as_ref()?.execution_objects.as_ref().map(of);
        page.gauge(name, help, stores.iter().filter_map(|store| Some((store.labels(), objects(store)?))))
    };
    count("jobexec_store_objects", "JobExecution objects of the store.", |objects| objects.objects)?;
    count(
        "jobexec_store_executions_without_object",
        "Running executions without a JobExecution object, because there are more than spec.executionObjects.limit. They are \
         still ended when stale.",
        |objects| objects.executions_without_object,
    )
}

fn connections(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    page.gauge(
        "jobexec_store_pool_connections",
        "Open connections of the store's pool, by state: idle or used. Stores with the same connection URL share one pool, and \
         each exports the whole pool: divide by jobexec_store_pool_stores before adding them up.",
        stores.iter().flat_map(|store| {
            let states = |pool: super::Pool| {
                [("idle", pool.idle.min(pool.open)), ("used", pool.open.saturating_sub(pool.idle))]
            };
            let states = store.pool.map(states).into_iter().flatten();
            states.map(move |(state, count)| (store.labels_and("state", state), i64::from(count)))
        }),
    )?;
    page.gauge(
        "jobexec_store_pool_limit_connections",
        "The largest poolSize of the stores that share the pool. Alert if all are used for minutes: then reconciliations wait \
         for a connection.",
        stores.iter().filter_map(|store| Some((store.labels(), i64::from(store.pool?.limit)))),
    )?;
    page.gauge(
        "jobexec_store_pool_stores",
        "Stores that share the store's pool, including itself.",
        stores.iter().filter_map(|store| {
            Some((store.labels(), i64::try_from(store.pool?.stores).unwrap_or(i64::MAX)))
        }),
    )
}

/// Converts to seconds since 1970.
pub(super) fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}
