//! Failures of Postgres during a sweep, and invalid rows: no work is lost or repeated, no execution is failed too early,
//! and the status reports the problem as long as it lasts.

mod refused;
mod rows;
mod server;

use jobexec_operator::api::ExecutionStoreStatus;

use crate::support::{Operator, World, is};

/// Inserts this many stale rows of one job, the oldest first.
fn stale(count: i64) -> String {
    format!(
        "INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '9 days' + n * interval '1 second' \
         FROM generate_series(1, {count}) n"
    )
}

/// A trigger function `bites` with this body, called before the update of rows that match `when`.
fn trigger(when: &str, body: &str) -> String {
    format!(
        "CREATE FUNCTION bites() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$; \
         CREATE TRIGGER bites BEFORE UPDATE ON job_executions FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION bites()"
    )
}

fn enforces(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "Ready", "True", "Enforcing")
}

fn left(status: &ExecutionStoreStatus, count: i64) -> bool {
    status.metrics.as_ref().is_some_and(|m| m.stale_executions == count)
}

/// Waits until all rows are failed, and checks that each was failed and recorded once.
async fn all_failed_once(world: &World, operator: &Operator, count: i64) {
    world.until_true("SELECT count(*) = 0 FROM job_executions WHERE status = 'running'").await;
    world.store_until(operator, |s| enforces(s) && left(s, 0)).await;
    let counts: String = world
        .one(
            "SELECT concat_ws(' ', (SELECT count(*) FROM job_executions WHERE status = 'failed'), count(*), \
             count(DISTINCT execution_id), (SELECT sum(failed) FROM jobexec.sweeps)) FROM jobexec.events WHERE action = 'Failed'",
        )
        .await;
    assert_eq!(counts, format!("{count} {count} {count} {count}"), "{}", operator.log());
}
