//! What a neighbour tries on the other team's records.

use serde_json::json;

use super::{neighbours, touched};

/// The neighbour's attempts on the other team's records; `$A` is their number and `$T` their table.
const TRIES: [&str; 46] = [
    "SELECT 1 FROM jobexec.stores WHERE store_id = $A",
    "SELECT 1 FROM jobexec.rules WHERE store_id = $A",
    "SELECT 1 FROM jobexec.events WHERE store_id = $A",
    "SELECT 1 FROM jobexec.sweeps WHERE store_id = $A",
    "SELECT 1 FROM jobexec.samples WHERE store_id = $A",
    "SELECT 1 FROM jobexec.messages WHERE store_id = $A",
    "SELECT 1 FROM jobexec.outbox WHERE store_id = $A",
    "SELECT 1 FROM jobexec.suspects WHERE store_id = $A",
    "SELECT 1 FROM jobexec.observations WHERE store_id = $A",
    "SELECT 1 FROM jobexec.figures WHERE store_id = $A",
    "UPDATE jobexec.stores SET uid = 'x', namespace = 'x', name = 'x', seen_at = now() + interval '1000 years' WHERE store_id = $A",
    "UPDATE jobexec.stores SET watched_since = 'infinity', paused_at = now() WHERE store_id = $A",
    "UPDATE jobexec.rules SET extend_by = '0', timeout = '1s', earliest = '0' WHERE store_id = $A",
    "UPDATE jobexec.messages SET recipient = 'evil@example.org' WHERE store_id = $A",
    "UPDATE jobexec.sweeps SET failed = 0 WHERE store_id = $A",
    "DELETE FROM jobexec.rules WHERE store_id = $A",
    "DELETE FROM jobexec.events WHERE store_id = $A",
    "DELETE FROM jobexec.messages WHERE store_id = $A",
    "DELETE FROM jobexec.samples WHERE store_id = $A",
    "INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
     VALUES ($A, 'execution', '1', '-23:59:59', 'CommandLine/x', '{}', '0', false)",
    "INSERT INTO jobexec.rules (store_id, scope, key, timeout, timeout_rank, timeout_source, overruled, earliest, fixed) \
     VALUES ($A, 'execution', '1', '1s', 0, 'JobExecution/x', '{}', '0', true) ON CONFLICT (store_id, scope, key) \
     DO UPDATE SET timeout = '1s'",
    "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) VALUES (now(), $A, '1', 'Failed', 'x', 'x')",
    "INSERT INTO jobexec.messages VALUES (gen_random_uuid(), $A, 'c', 'evil@example.org', '{}', now(), 0, now())",
    "INSERT INTO jobexec.outbox (store_id, at, event_ids) VALUES ($A, now(), '{1}')",
    "INSERT INTO jobexec.observations VALUES ($A, 'RunningWithoutStart', '1', now(), now())",
    "INSERT INTO jobexec.suspects VALUES ($A, 'WorkloadGone', '1', now(), now(), true)",
    "INSERT INTO jobexec.samples VALUES ($A, now(), 1, 1, 1, 1, 1)",
    "INSERT INTO jobexec.figures VALUES ($A, 'x', 'x', 1, now(), '[]')",
    "INSERT INTO jobexec.sweeps VALUES (gen_random_uuid(), $A, 'x', now(), 1)",
    "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES ('jobexec.stores'::regclass, $T, 'public', 'job_executions') \
     ON CONFLICT (registry, table_oid) DO UPDATE SET uid = 'x'",
    // As if it came from an older dump.
    "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES (1, 'others'::regclass, 'public', 'others')",
    // As if another role owned it, which would vouch for the content.
    "UPDATE jobexec.stores SET table_owner = 'somebody'",
    "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, table_owner) \
     VALUES ('jobexec.stores'::regclass, 'others'::regclass, 'public', 'others', 'somebody') \
     ON CONFLICT (registry, table_oid) DO UPDATE SET table_owner = 'somebody'",
    // Nobody may choose numbers: with the next number of another table, its records would be the neighbour's.
    "INSERT INTO jobexec.stores (store_id, registry, table_oid, table_schema, table_name) OVERRIDING SYSTEM VALUE \
     VALUES ($A + 7, 'jobexec.stores'::regclass, 'others'::regclass, 'public', 'others')",
    "UPDATE jobexec.stores SET store_id = $A",
    "UPDATE jobexec.stores SET table_oid = $T",
    // As if it were left over from the other team's table.
    "UPDATE jobexec.stores SET table_name = 'job_executions'",
    "DELETE FROM jobexec.stores WHERE store_id = $A",
    "TRUNCATE jobexec.events",
    "CREATE TRIGGER evil BEFORE INSERT ON jobexec.events FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE evil AS ON INSERT TO jobexec.events DO INSTEAD NOTHING",
    "CREATE POLICY evil ON jobexec.events USING (true)",
    "ALTER TABLE jobexec.events DISABLE ROW LEVEL SECURITY",
    "CREATE FUNCTION jobexec.notify() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TEMPORARY TABLE evil (s uuid REFERENCES jobexec.sweeps)",
    "CREATE TEMPORARY TABLE evil () INHERITS (jobexec.events)",
];

#[tokio::test]
async fn a_neighbour_reads_writes_and_claims_nothing() {
    let (world, mut neighbour) = neighbours("neighbour").await;
    world
        .sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '23 hours'), (2, 1, 2, 'running', now() - interval '2 days')")
        .await;
    world.execution("longer", "1", json!({"timeout": "72h"})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world
        .until_true("SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '2' AND action = 'Failed'")
        .await;
    let number: i64 = world.one("SELECT store_id FROM jobexec.stores").await;
    world
        .sql(&format!(
            "INSERT INTO jobexec.messages VALUES (gen_random_uuid(), {number}, 'c', 'a@example.org', '{{}}', now(), 0, 'infinity')"
        ))
        .await;
    // The neighbour may register a table of its own.
    let own = "INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, table_owner) \
               SELECT 'jobexec.stores'::regclass, oid, 'public', 'others', pg_get_userbyid(relowner) FROM pg_class \
               WHERE oid = 'others'::regclass";
    assert_eq!(touched(&mut neighbour, own).await, Some(1));
    let table: i64 = world.one("SELECT 'job_executions'::regclass::oid::bigint").await;
    let kept = "SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM (SELECT r::text FROM jobexec.rules r UNION ALL \
                SELECT concat_ws(' ', store_id, table_oid, uid, watched_since, paused_at) FROM jobexec.stores UNION ALL \
                SELECT e::text FROM jobexec.events e UNION ALL SELECT m::text FROM jobexec.messages m UNION ALL \
                SELECT concat_ws(' ', sweep_id, failed) FROM jobexec.sweeps) AS r (r)";
    let before: String = world.one(kept).await;
    for sql in TRIES {
        let sql = sql.replace("$A", &number.to_string()).replace("$T", &format!("{table}::oid"));
        let done = touched(&mut neighbour, &sql).await.unwrap_or(0);
        assert_eq!(done, 0, "{sql}");
    }
    assert_eq!(world.one::<String>(kept).await, before, "nothing of the other team's has changed");

    // The neighbour's records under future numbers obstruct nobody.
    let taken = "INSERT INTO jobexec.events (event_id, at, store_id, execution_id, action, reason, source) OVERRIDING SYSTEM VALUE \
                 SELECT n, now(), (SELECT store_id FROM jobexec.stores), 'x', 'Failed', 'x', 'x' FROM generate_series(1, 10000) AS n";
    assert_eq!(touched(&mut neighbour, taken).await, Some(10_000));
    world.sql("INSERT INTO job_executions VALUES (3, 1, 3, 'running', now() - interval '2 days')").await;
    world
        .until_true(&format!(
            "SELECT count(*) = 1 FROM jobexec.events WHERE execution_id = '3' AND store_id = {number}"
        ))
        .await;
    world.sql("UPDATE job_executions SET started_at = now() - interval '25 hours' WHERE id = 1").await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running", "it has the time that its own team gave it");
}
