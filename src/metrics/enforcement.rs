//! Metrics of enforcement: names, help texts, and advice on alerts.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use super::page::Page;
use super::snapshot::{Done, StoreSnapshot};
use super::store_counters::StoreCounters;
use super::stores::{OneMore, TwoMore, seconds};

/// Writes the metrics.
pub(super) fn write(page: &mut Page<'_>, stores: &[StoreSnapshot], others: &[Done]) -> fmt::Result {
    sweeps(page, stores)?;
    durations(page, stores)?;
    done(page, stores, others)?;
    executions(page, stores)?;
    notifications(page, stores)
}

fn sweeps(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    page.gauge(
        "jobexec_store_last_sweep_timestamp_seconds",
        "Start of the last sweep. Alert if it is longer ago than two of jobexec_store_sweep_interval_seconds while the condition \
         EnforcementPaused is not True.",
        stores.iter().filter_map(|store| {
            // The status knows a sweep from before a restart; it does not record sweeps without news.
            let published = store.status.as_ref().and_then(|status| status.last_sweep.as_ref());
            let published = published.map(|sweep| seconds(&sweep.started_at));
            Some((store.labels(), published.max(store.counters.swept_at())?))
        }),
    )?;
    page.gauge(
        "jobexec_store_last_sweep_ended_executions",
        "Executions ended by the last sweep in the status. Alert if there are many, as for the counter: this also shows \
         executions ended before the first scrape.",
        stores.iter().filter_map(|store| {
            let last = store.status.as_ref()?.last_sweep.as_ref()?;
            Some((store.labels(), last.failed))
        }),
    )?;
    page.gauge(
        "jobexec_store_sweep_interval_seconds",
        "The spec's sweepInterval: the longest time between two sweeps.",
        stores.iter().filter_map(|store| Some((store.labels(), store.sweep_interval?))),
    )
}

fn durations(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    each(
        page,
        stores,
        "jobexec_store_sweep_duration_seconds",
        "Duration of completed sweeps. Alert if they take minutes: then executions are ended late.",
        |store| &store.counters.sweep_seconds,
    )?;
    each(
        page,
        stores,
        "jobexec_store_detection_lag_seconds",
        "Time from a deadline until the execution was ended for it, by the database's clock. It includes time in which the \
         operator or the database was down, or by which a new policy moved the deadline to the past.",
        |store| &store.counters.lag_seconds,
    )?;
    each(
        page,
        stores,
        "jobexec_store_statement_retries",
        "Statements of sweeps that were retried: after a deadlock, a lock timeout, or a server shutdown.",
        |store| &store.counters.retries,
    )
}

/// Writes what any replica may do, because clients can call any of them.
fn done(page: &mut Page<'_>, stores: &[StoreSnapshot], others: &[Done]) -> fmt::Result {
    let own = stores.iter().map(|store| (&*store.namespace, &*store.name, &*store.counters));
    // Stores of other replicas appear once something was counted for them.
    let others = others.iter().filter(|other| other.counters.any_done());
    let others = others.map(|other| (&*other.namespace, &*other.name, &*other.counters));
    let all: Vec<(&str, &str, &StoreCounters)> = own.chain(others).collect();
    page.counter(
        "jobexec_store_executions_ended",
        "Executions ended by this replica, by what became of them (failed, cancelled, or retried: they wait to run again) and \
         reason. ManualCleanup and CancelRequested were requested by a \
         person; any replica may run a clean-up. Alert if many end within minutes: a dependency of all of them may be down.",
        all.iter().flat_map(|&(namespace, store, counters)| {
            counters.all_ended().into_iter().map(move |((how, why), count)| {
                let labels: TwoMore<'_> =
                    [("namespace", namespace), ("store", store), ("status", how), ("reason", why)];
                (labels, count)
            })
        }),
    )?;
    page.counter(
        "jobexec_store_database_errors",
        "Failed database operations, by the reason that a condition would have. Retries fix some of them: alert on the \
         condition DatabaseReachable, and check here for the cause.",
        all.iter().flat_map(|&(namespace, store, counters)| {
            counters.all_errors().into_iter().map(move |(why, count)| {
                let labels: OneMore<'_> = [("namespace", namespace), ("store", store), ("reason", why)];
                (labels, count)
            })
        }),
    )
}

fn executions(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    page.counter(
        "jobexec_store_warnings",
        "Executions reported once each without being ended: LongRunning, or the reason for being stale if the policy says \
         AlertOnly.",
        stores.iter().flat_map(|store| {
            store
                .counters
                .all_warned()
                .into_iter()
                .map(move |(why, count)| (store.labels_and("reason", why), count))
        }),
    )?;
    each(
        page,
        stores,
        "jobexec_store_executions_finished_late",
        "Executions that finished after they had been ended: their workers were alive. If there are more than a few, raise the \
         timeout of their type; `jobexec stats` shows which.",
        |store| &store.counters.late,
    )?;
    each(
        page,
        stores,
        "jobexec_store_breaker_openings",
        "How often the circuit breaker opened because a sweep would have ended more than maxFailuresPerSweep.",
        |store| &store.counters.openings,
    )
}

fn notifications(page: &mut Page<'_>, stores: &[StoreSnapshot]) -> fmt::Result {
    page.counter(
        "jobexec_store_notifications",
        "Notifications by outcome: delivered or given_up. Alert if any is given up: then nobody receives it.",
        stores.iter().flat_map(|store| {
            let outcomes = [("delivered", &store.counters.delivered), ("given_up", &store.counters.given_up)];
            outcomes.map(|(outcome, count)| (store.labels_and("outcome", outcome), count.get()))
        }),
    )?;
    page.counter(
        "jobexec_store_notification_failures",
        "Failed attempts to deliver a notification, by the reason that the condition NotificationsDelivered then has. They are \
         retried: alert on that condition.",
        stores.iter().flat_map(|store| {
            let failures = store.counters.all_not_delivered().into_iter();
            failures.map(move |(why, count)| (store.labels_and("reason", why), count))
        }),
    )
}

/// Writes a metric of each store's counters.
fn each<M: EncodeMetric>(
    page: &mut Page<'_>,
    stores: &[StoreSnapshot],
    name: &str,
    help: &str,
    of: fn(&StoreSnapshot) -> &M,
) -> fmt::Result {
    page.samples(name, help, stores.iter().map(|store| (store.labels(), Shared(of(store)))))
}

/// A metric that is encoded by reference.
struct Shared<'a, M>(&'a M);

impl<M: EncodeMetric> EncodeMetric for Shared<'_, M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}
