//! The metrics of how this replica stands among the others.

use std::fmt;

use super::ReplicaNow;
use super::exposition::Page;

/// Writes them.
pub(super) fn write(page: &mut Page<'_>, replica: ReplicaNow) -> fmt::Result {
    let one = |value: usize| [([] as [(&str, &str); 0], i64::try_from(value).unwrap_or(i64::MAX))];
    page.gauge(
        "jobexec_lease_held",
        "1 while this replica holds its Lease, or needs none, so that it looks after its stores; else 0. Alert when no replica \
         has 1.",
        one(replica.lease_held.into()),
    )?;
    page.gauge(
        "jobexec_members",
        "Replicas that are alive, as this one sees it. Replicas that disagree for long cannot see each other's Leases.",
        one(replica.members),
    )?;
    page.gauge(
        "jobexec_stores_owned",
        "Stores that this replica looks after; of others it has only jobexec_store_executions_ended_total and \
         jobexec_store_database_errors_total, and only if it counted any. The sum over all replicas is the number of stores.",
        one(replica.stores_owned),
    )
}
