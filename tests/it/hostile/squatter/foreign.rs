//! Foreign objects in the schema of an administrator.

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::json;

use super::{remedy, untrusted};
use crate::hostile::neighbour::{records, role};
use crate::support::{Operator, World, is, message};

/// Objects that somebody with excessive permissions can put into the schema of an administrator, and their names in the
/// message.
const FOREIGN: [(&str, &str); 14] = [
    (
        "CREATE TRIGGER t BEFORE INSERT ON jobexec.events FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
        "trigger t on jobexec.events",
    ),
    ("CREATE RULE r AS ON INSERT TO jobexec.sweeps DO ALSO SELECT 1", "rule r on jobexec.sweeps"),
    ("ALTER TABLE jobexec.messages ALTER attempts SET DEFAULT 0", "default of jobexec.messages.attempts"),
    ("CREATE POLICY p ON jobexec.rules USING (true)", "policy p on jobexec.rules"),
    ("ALTER TABLE jobexec.outbox DISABLE ROW LEVEL SECURITY", "jobexec.outbox is without its row security"),
    (
        "CREATE FUNCTION public.f(bigint) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'; \
      ALTER TABLE jobexec.samples ADD CONSTRAINT c CHECK (public.f(store_id))",
        "uses public.f(bigint)",
    ),
    (
        "CREATE TABLE public.child () INHERITS (jobexec.suspects)",
        "public.child inherits with jobexec.suspects",
    ),
    ("GRANT TRIGGER ON jobexec.figures TO PUBLIC", "everybody has TRIGGER on jobexec.figures"),
    (
        "CREATE TABLE jobexec.mine (a int); ALTER TABLE jobexec.mine OWNER TO $ROLE",
        "jobexec.mine is owned by $ROLE",
    ),
    // ANALYZE runs it as the owner of the table, even automatically.
    (
        "CREATE FUNCTION public.g(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; \
      CREATE STATISTICS public.s ON (public.g(execution_id)) FROM jobexec.events",
        "uses public.g(pg_catalog.text)",
    ),
    // Postgres' own roles have members, and their ownership is not recorded.
    (
        "CREATE TABLE jobexec.monitored (a int); ALTER TABLE jobexec.monitored OWNER TO pg_monitor",
        "jobexec.monitored is owned by pg_monitor",
    ),
    (
        "GRANT UPDATE ON SEQUENCE jobexec.events_event_id_seq TO PUBLIC",
        "everybody has UPDATE on jobexec.events_event_id_seq",
    ),
    (
        "GRANT REFERENCES (sweep_id) ON jobexec.sweeps TO PUBLIC",
        "everybody has REFERENCES on jobexec.sweeps.sweep_id",
    ),
    (
        "CREATE TABLE public.numbers (n bigint PRIMARY KEY); \
      ALTER TABLE jobexec.samples ADD CONSTRAINT k FOREIGN KEY (running) REFERENCES public.numbers NOT VALID",
        "foreign key k of jobexec.samples to public.numbers",
    ),
];

#[tokio::test]
async fn what_is_foreign_in_the_schema_is_named_and_nothing_is_ended_that_may_have_more_time() {
    let world = World::new("tampered").await;
    let stranger = role(&world, "stranger").await;
    let mut operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now())").await;
    let extended = world.jobexec(&["extend", "1", "--by", "72h"]);
    assert!(extended.status.success(), "{}", String::from_utf8_lossy(&extended.stderr));
    for (number, (sql, named)) in FOREIGN.into_iter().enumerate() {
        operator.kill();
        world.sql(&sql.replace("$ROLE", &stranger)).await;
        world.sql("UPDATE job_executions SET started_at = now() - interval '2 days' WHERE id = 1").await;
        operator = world.operator();
        let named = named.replace("$ROLE", &stranger);
        let told = refused(&world, &operator, &named).await;
        // The statement in the message repairs it, and earlier records count as before.
        world.sql(&remedy(&message(&told.conditions, "AuditAvailable"))).await;
        world.store_until(&operator, records).await;
        let next = 10 + i64::try_from(number).unwrap();
        let stale = format!(
            "INSERT INTO job_executions VALUES ({next}, 1, {next}, 'running', now() - interval '2 days')"
        );
        world.sql(&stale).await;
        world.until_true(&format!("SELECT status = 'failed' FROM job_executions WHERE id = {next}")).await;
        assert_eq!(world.status(1).await, "running", "{named}");
    }
}

/// Waits until objects in the schema pause the store.
async fn refused(world: &World, operator: &Operator, named: &str) -> ExecutionStoreStatus {
    world
        .store_until(operator, |s| {
            untrusted(s)
                && is(&s.conditions, "EnforcementPaused", "True", "SchemaUntrusted")
                && message(&s.conditions, "AuditAvailable").contains(named)
        })
        .await
}
