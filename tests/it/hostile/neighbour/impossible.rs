//! Claims, rules and messages that cannot be.

use serde_json::json;

use super::records;
use crate::support::World;
use crate::support::world::TABLE;

/// Another store claims the table, at times that cannot be. The operator takes it over, with times that can.
async fn impossible_claims_do_nothing(world: &World) {
    for (watched, seen) in [("infinity", "infinity"), ("-infinity", "now"), ("now() + interval '1 hour'", "")]
    {
        let time = |text: &str| if text.contains('(') { text.to_owned() } else { format!("'{text}'") };
        let seen = if seen.is_empty() { "now() + interval '1000 years'".to_owned() } else { time(seen) };
        world
            .sql(&format!(
                "UPDATE jobexec.stores SET uid = 'other', namespace = 'n', name = 'x', seen_at = {seen}, told_at = 'infinity', \
                 unwell_since = 'infinity', watched_since = {}",
                time(watched)
            ))
            .await;
        if seen == "'now'" {
            // That claim counts; giving it up leaves the time.
            world.sql("UPDATE jobexec.stores SET uid = NULL").await;
        }
        let operator = world.operator();
        world
            .until_true("SELECT uid <> 'other' AND seen_at <= now() AND watched_since BETWEEN now() - interval '1 hour' AND now() FROM jobexec.stores")
            .await;
        world.store_until(&operator, records).await;
        operator.kill();
    }
}

/// The constraints of the rules refuse extensions and promises that cannot be.
async fn impossible_rules_are_refused(world: &World) {
    // Months compare as 30 days and add up as calendar months; and there is an end of time.
    for by in
        ["-23:59:59", "-1200 mons 36000 days", "1200 mons -36000 days", "178000000 years", "90000000 hours"]
    {
        world
            .sql(&format!(
                "DO $$ BEGIN \
                     INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
                     SELECT store_id, 'execution', '1', '{by}', 'CommandLine/x', '{{}}', '0', false FROM jobexec.stores; \
                     RAISE EXCEPTION '{by} was accepted'; \
                 EXCEPTION WHEN check_violation THEN NULL; END $$"
            ))
            .await;
    }
    // A promise cannot exceed what an extension can give.
    for at in ["infinity", "-infinity", "294276-12-31", "9999-12-31", "2000-01-01"] {
        world
            .sql(&format!(
                "DO $$ BEGIN \
                     INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, promised, promised_start, promised_by, \
                                                overruled, earliest, fixed) \
                     SELECT store_id, 'execution', '1', '1 hour', 'CommandLine/x', '{at}', '2026-01-01Z', '1 hour', '{{}}', '0', false \
                     FROM jobexec.stores; \
                     RAISE EXCEPTION '{at} was accepted'; \
                 EXCEPTION WHEN check_violation OR datetime_field_overflow THEN NULL; END $$"
            ))
            .await;
    }
}

/// Such rules without the constraints, which the owner can drop, and messages to somebody who is not in the spec.
const FORGED: &str = "\
    ALTER TABLE jobexec.rules DROP CONSTRAINT rules_times_in_range, DROP CONSTRAINT rules_promise_in_range; \
    INSERT INTO job_executions SELECT n, 1, n, 'running', now() - interval '2 days' FROM generate_series(2, 4) AS n; \
    INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, promised, promised_start, promised_by, \
                               overruled, earliest, fixed) \
    SELECT store_id, 'execution', id::text, '1 hour', 'CommandLine/x', (ARRAY['infinity', '294276-12-31', '-infinity'])[id - 1]::timestamptz, \
           started_at, '1 hour', '{}', '0', false FROM jobexec.stores, job_executions WHERE id > 1; \
    INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
    SELECT store_id, 'execution', '1', '-23:59:59', 'CommandLine/x', '{}', '0', false FROM jobexec.stores; \
    INSERT INTO jobexec.messages SELECT gen_random_uuid(), store_id, c.channel, 'evil@example.org', \
        jsonb_build_object('id', gen_random_uuid(), 'at', now(), 'namespace', 'n', 'store', 's', 'channel', c.channel, \
            'owner', 'evil@example.org', 'counts', '[]'::jsonb, 'omitted', 0, 'notes', '[]'::jsonb, \
            'executions', '[]'::jsonb), now(), 0, now() \
    FROM jobexec.stores, (VALUES ('owners'), ('hook')) AS c (channel)";

/// Anybody who may UPDATE the table, or is superuser, can write any value; impossible times have no effect.
#[tokio::test]
async fn times_that_cannot_be_and_recipients_that_nobody_named_do_nothing() {
    let tables = format!("{TABLE}; ALTER TABLE job_executions ADD COLUMN owner text");
    let spec = json!({"table": {"columns": {"owner": "owner"}}, "notifications": {
        "smtp": {"host": "127.0.0.1", "port": 9, "security": "None", "from": "jobexec@example.org"},
        "channels": [{"name": "owners", "email": {"toOwner": true}},
                     {"name": "hook", "webhook": {"url": "http://127.0.0.1:9/"}}],
    }});
    let world = World::with("impossible", &tables, &spec).await;
    world
        .sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '10 minutes', NULL, 'ada@example.org')")
        .await;
    let operator = world.operator();
    world.store(spec).await;
    world.store_until(&operator, records).await;
    operator.kill();
    impossible_claims_do_nothing(&world).await;
    impossible_rules_are_refused(&world).await;
    world.sql(FORGED).await;
    let operator = world.operator();
    world.request_sweep(&operator).await;
    world
        .until_true(
            "SELECT count(*) = 2 AND bool_and(outcome = 'GivenUp' AND error LIKE '%recipient is not in the spec%') FROM jobexec.messages WHERE recipient LIKE 'evil%'",
        )
        .await;
    world.request_sweep(&operator).await;
    assert_eq!(world.status(1).await, "running");
    for id in 2..=4 {
        assert_eq!(world.status(id).await, "failed", "{id} was promised an hour more than its timeout");
    }
}
