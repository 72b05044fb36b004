//! The metrics of what is done to stores: their names, and what to alert on.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use super::exposition::Page;
use super::stores::{OneMore, TwoMore, seconds};
use super::{Done, StoreNow, Tally};

/// Writes them.
pub(super) fn write(page: &mut Page<'_>, stores: &[StoreNow], others: &[Done]) -> fmt::Result {
    sweeps(page, stores)?;
    durations(page, stores)?;
    done(page, stores, others)?;
    executions(page, stores)?;
    notifications(page, stores)
}

fn sweeps(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    page.gauge(
        "jobexec_store_last_sweep_timestamp_seconds",
        "When the last sweep began. Alert when it is longer ago than two of jobexec_store_sweep_interval_seconds while the \
         condition EnforcementPaused is not True.",
        stores.iter().filter_map(|store| {
            // One before a restart is known from the status; one that came to nothing new is not told there.
            let told = store.status.as_ref().and_then(|status| status.last_sweep.as_ref());
            let told = told.map(|sweep| seconds(&sweep.started_at));
            Some((store.labels(), told.max(store.tally.swept_at())?))
        }),
    )?;
    page.gauge(
        "jobexec_store_last_sweep_ended_executions",
        "How many executions the last sweep ended that is told in the status. Alert when they are many, as on the counter: it \
         shows those too that were ended before anybody had scraped a 0.",
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

fn durations(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    each(
        page,
        stores,
        "jobexec_store_sweep_duration_seconds",
        "How long sweeps take that ran to their end. Alert when they take minutes: then deadlines are met late.",
        |store| &store.tally.sweep_seconds,
    )?;
    each(
        page,
        stores,
        "jobexec_store_detection_lag_seconds",
        "How long after its deadline an execution was ended that was ended for it, by the database's clock. A deadline that \
         passed while the operator or the database was away, or that a new policy moved to the past, is met as late as that.",
        |store| &store.tally.lag_seconds,
    )?;
    each(
        page,
        stores,
        "jobexec_store_retries",
        "Statements of sweeps that were tried once more: a deadlock, a lock that was waited for too long, a server that \
         was shutting down.",
        |store| &store.tally.retries,
    )
}

/// What is done for who asks any replica for it, too.
fn done(page: &mut Page<'_>, stores: &[StoreNow], others: &[Done]) -> fmt::Result {
    let own = stores.iter().map(|store| (&*store.namespace, &*store.name, &*store.tally));
    // Before anything was counted there is nothing to tell of a store that is none of this replica's.
    let others = others.iter().filter(|other| other.tally.any_done());
    let others = others.map(|other| (&*other.namespace, &*other.name, &*other.tally));
    let all: Vec<(&str, &str, &Tally)> = own.chain(others).collect();
    page.counter(
        "jobexec_store_executions_ended",
        "Executions that this replica ended, by the status that it gave them and the reason; ManualCleanup and CancelRequested \
         were asked for by a person, a clean-up of any replica. Alert when many are within minutes: something they all need \
         may be down.",
        all.iter().flat_map(|&(namespace, store, tally)| {
            tally.all_ended().into_iter().map(move |((how, why), count)| {
                let labels: TwoMore<'_> =
                    [("namespace", namespace), ("store", store), ("status", how), ("reason", why)];
                (labels, count)
            })
        }),
    )?;
    page.counter(
        "jobexec_store_database_errors",
        "What the database did not do, by the reason that a condition would have. Some are mended by the next try: alert on \
         the condition DatabaseReachable, and look here for why.",
        all.iter().flat_map(|&(namespace, store, tally)| {
            tally.all_errors().into_iter().map(move |(why, count)| {
                let labels: OneMore<'_> = [("namespace", namespace), ("store", store), ("reason", why)];
                (labels, count)
            })
        }),
    )
}

fn executions(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    page.counter(
        "jobexec_store_warnings",
        "Executions that were told of once each without being ended: LongRunning, or why they are stale where the policy says \
         AlertOnly.",
        stores.iter().flat_map(|store| {
            store
                .tally
                .all_warned()
                .into_iter()
                .map(move |(why, count)| (store.labels_and("reason", why), count))
        }),
    )?;
    each(
        page,
        stores,
        "jobexec_store_executions_finished_late",
        "Executions that were finished otherwise after they had been ended: their workers lived. Raise the timeout of their type \
         when it is more than a few; `jobexec stats` tells of which.",
        |store| &store.tally.late,
    )?;
    each(
        page,
        stores,
        "jobexec_store_breaker_openings",
        "How often the breaker opened because a sweep would have ended more than maxFailuresPerSweep.",
        |store| &store.tally.openings,
    )
}

fn notifications(page: &mut Page<'_>, stores: &[StoreNow]) -> fmt::Result {
    page.counter(
        "jobexec_store_notifications",
        "Messages to people, by what became of them: delivered or given_up. Alert when any is given up: then nobody knows.",
        stores.iter().flat_map(|store| {
            let outcomes = [("delivered", &store.tally.delivered), ("given_up", &store.tally.given_up)];
            outcomes.map(|(outcome, count)| (store.labels_and("outcome", outcome), count.get()))
        }),
    )?;
    page.counter(
        "jobexec_store_notification_failures",
        "Attempts to deliver a message that failed, by the reason that the condition NotificationsDelivered has then. They are made again: \
         alert on that condition.",
        stores.iter().flat_map(|store| {
            let failures = store.tally.all_not_delivered().into_iter();
            failures.map(move |(why, count)| (store.labels_and("reason", why), count))
        }),
    )
}

/// Something that each store's tally counts by itself.
fn each<M: EncodeMetric>(
    page: &mut Page<'_>,
    stores: &[StoreNow],
    name: &str,
    help: &str,
    of: fn(&StoreNow) -> &M,
) -> fmt::Result {
    page.samples(name, help, stores.iter().map(|store| (store.labels(), Shared(of(store)))))
}

/// A metric that is encoded where it is.
struct Shared<'a, M>(&'a M);

impl<M: EncodeMetric> EncodeMetric for Shared<'_, M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}
