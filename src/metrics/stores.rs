//! The metrics of how stores are: their names, and what to alert on.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::StoreNow;
use super::exposition::Page;
use crate::api::conditions::{ConditionType, find};
use crate::api::store::{Metrics, ObjectsStatus, Violations};

/// What `status` of a condition can be, as kube-state-metrics writes it.
pub(super) const TRUTHS: [&str; 3] = ["true", "false", "unknown"];

pub(super) type Labels<'a> = [(&'static str, &'a str); 2];
pub(super) type OneMore<'a> = [(&'static str, &'a str); 3];
pub(super) type TwoMore<'a> = [(&'static str, &'a str); 4];

impl StoreNow {
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

    /// What the table looked like, as long as it can be looked at: a gap is more honest than a line that goes on.
    fn figures(&self) -> Option<&Metrics> {
        let status = self.status.as_ref()?;
        let known = find(&status.conditions, ConditionType::Healthy)
            .is_some_and(|healthy| healthy.status != "Unknown");
        status.metrics.as_ref().filter(|_| known)
    }
}

/// Writes them.
pub(super) fn write(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    figures(page, stores)?;
    conditions(page, stores)?;
    objects(page, stores)?;
    connections(page, stores)
}

fn figures(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    let mut figure = |name: &str, help: &str, of: fn(&Metrics) -> Option<i64>| {
        let samples = stores.iter().filter_map(|store| Some((store.labels(), of(store.figures()?)?)));
        page.gauge(name, help, samples)
    };
    figure(
        "jobexec_store_running_executions",
        "Executions that run. Absent, like all figures of a table, while the table cannot be looked at.",
        |figures| Some(figures.running_executions),
    )?;
    figure("jobexec_store_scheduled_executions", "Executions that wait to be started.", |figures| {
        Some(figures.scheduled_executions)
    })?;
    figure(
        "jobexec_store_long_running_executions",
        "Executions that run for longer than longRunning.after of their store, or warnAfter of their policy. Alert on the \
         condition Healthy, which knows how many may.",
        |figures| Some(figures.long_running_executions),
    )?;
    figure(
        "jobexec_store_stale_executions",
        "Executions that run although they are stale. More than 0 for long where nothing is to be left alone (onStale: \
         AlertOnly, mode: Observe) is worth an alert.",
        |figures| Some(figures.stale_executions),
    )?;
    figure(
        "jobexec_store_recent_executions",
        "Executions that started within the last 24 hours.",
        |figures| Some(figures.recent_executions_24h),
    )?;
    figure(
        "jobexec_store_oldest_running_start_timestamp_seconds",
        "When the execution that runs longest started; time() minus this is how long that is.",
        |figures| figures.oldest_running_started_at.as_ref().map(seconds),
    )?;
    figure(
        "jobexec_store_figures_timestamp_seconds",
        "When these figures were taken, by the database's clock.",
        |figures| figures.timestamp.as_ref().map(seconds),
    )?;
    page.counter(
        "jobexec_store_refused_transitions",
        "Changes of a status that the transition trigger of the table has refused, where it is installed. A rise is a \
         worker that finishes what was given up: its timeout may be too short.",
        stores.iter().filter_map(|store| {
            Some((store.labels(), u64::try_from(store.figures()?.refused_transitions?).unwrap_or_default()))
        }),
    )
}

fn conditions(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    page.gauge(
        "jobexec_store_condition",
        "1 for the status that a condition of the ExecutionStore has, 0 for the others. Alert on Ready, DatabaseReachable and \
         Healthy with status=\"false\".",
        stores.iter().flat_map(|store| {
            store.conditions().iter().flat_map(move |condition| {
                TRUTHS.map(|truth| {
                    let [namespace, name] = store.labels();
                    let labels: TwoMore<'_> =
                        [namespace, name, ("type", &condition.type_), ("status", truth)];
                    (labels, i64::from(condition.status.eq_ignore_ascii_case(truth)))
                })
            })
        }),
    )?;
    page.gauge(
        "jobexec_store_condition_reason",
        "1, with the reason that a condition of the ExecutionStore has. Alert on type=\"EnforcementPaused\", \
         reason=\"BreakerOpen\": nothing is ended until a person says so.",
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
        "Rows that contradict themselves, by what is wrong with them. Counted at each sweepInterval.",
        stores.iter().flat_map(|store| {
            let found = store.status.as_ref().and_then(|status| status.violations.as_ref());
            let kinds = found.map(kinds).into_iter().flatten();
            kinds.map(move |(kind, count)| (store.labels_and("kind", kind), count))
        }),
    )
}

/// By the names that the status has.
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

fn objects(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    let mut count = |name: &str, help: &str, of: fn(&ObjectsStatus) -> i64| {
        let objects = |store: &StoreNow| store.status.as_ref()?.execution_objects.as_ref().map(of);
        page.gauge(name, help, stores.iter().filter_map(|store| Some((store.labels(), objects(store)?))))
    };
    count("jobexec_store_objects", "JobExecution objects of the store.", |objects| objects.objects)?;
    count(
        "jobexec_store_executions_without_object",
        "Running executions that have no JobExecution object, since there are more than spec.executionObjects.limit. They are ended all \
         the same.",
        |objects| objects.executions_without_object,
    )
}

fn connections(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    page.gauge(
        "jobexec_store_pool_connections",
        "Open connections of the pool that the store uses, by state: idle or used. Stores with the same connection URL share one \
         pool, and each tells of all of it: divide by jobexec_store_pool_stores before you add them up.",
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
        "The largest poolSize of the stores that share the pool. Alert when all are used for minutes: then looks wait for a \
         connection.",
        stores.iter().filter_map(|store| Some((store.labels(), i64::from(store.pool?.limit)))),
    )?;
    page.gauge(
        "jobexec_store_pool_stores",
        "How many stores share the pool that the store uses, itself among them.",
        stores.iter().filter_map(|store| {
            Some((store.labels(), i64::try_from(store.pool?.stores).unwrap_or(i64::MAX)))
        }),
    )
}

/// In seconds since 1970.
pub(super) fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}
