//! Metrics of this replica's share of the stores.

use std::fmt;

use super::page::Page;
use super::snapshot::ReplicaNow;

/// Writes the metrics.
pub(super) fn write(page: &mut Page<'_>, replica: ReplicaNow) -> fmt::Result {
    let one = |value: usize| [([] as [(&str, &str); 0], i64::try_from(value).unwrap_or(i64::MAX))];
    page.gauge(
        "jobexec_lease_held",
        "1 while this replica holds its Lease, or needs none, so that it manages its stores; else 0. Alert if no replica has 1.",
        one(replica.lease_held.into()),
    )?;
    page.gauge(
        "jobexec_members",
        "Live replicas, as seen by this one. If replicas disagree for long, they cannot see each other's Leases.",
        one(replica.members),
    )?;
    page.gauge(
        "jobexec_stores_owned",
        "Stores managed by this replica; for others it only exports jobexec_store_executions_ended_total and \
         jobexec_store_database_errors_total, and only if it counted any. The sum over all replicas is the number of stores.",
        one(replica.stores_owned),
    )
}
