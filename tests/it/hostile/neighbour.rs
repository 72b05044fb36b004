//! Two teams in one database: each has a table, and a role with exactly the permissions that `jobexec schema --role`
//! prints.

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::world::TABLE;
use crate::support::{World, is};

/// The other team's table.
const OTHERS: &str = "CREATE TABLE others (LIKE job_executions INCLUDING ALL)";

/// Creates another login of the database.
pub(super) async fn role(world: &World, suffix: &str) -> String {
    let role = format!("{}_{suffix}", world.role);
    world.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right/password'")).await;
    role
}

/// The URL of a login.
pub(super) fn url(world: &World, role: &str) -> String {
    world.url("right/password").replacen(&world.role, role, 1)
}

/// Grants a role the permissions that the operator needs for a table.
pub(super) fn grant(world: &World, role: &str, table: &str) {
    let file = world.file(table, &World::store_with("x", json!({"table": {"name": table}})).to_string());
    let output = world.jobexec(&["schema", "-f", &file, "--apply", "--role", role]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn records(s: &ExecutionStoreStatus) -> bool {
    is(&s.conditions, "Ready", "True", "Enforcing")
        && is(&s.conditions, "AuditAvailable", "True", "TablesPresent")
}

/// Creates a world with a neighbour who is connected.
async fn neighbours(test: &str) -> (World, PgConnection) {
    let world = World::new(test).await;
    world.sql(OTHERS).await;
    let neighbour = role(&world, "b").await;
    grant(&world, &neighbour, "others");
    let connection = PgConnection::connect(&url(&world, &neighbour)).await.unwrap();
    (world, connection)
}

/// The number of rows that a statement touches or returns; `None`: it is refused.
async fn touched(connection: &mut PgConnection, sql: &str) -> Option<u64> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.ok().map(|done| done.rows_affected())
}

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

/// Changes of a role to the record of a table that is gone; `$A` is its number.
const CHANGES: [&str; 24] = [
    "INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
     VALUES ($A, 'execution', '9', '1 hour', 'CommandLine/x', '{}', '0', false)",
    "INSERT INTO jobexec.figures VALUES ($A, 'y', 'x', 1, now(), '[]')",
    "INSERT INTO jobexec.suspects VALUES ($A, 'WorkloadGone', '9', now(), now(), true)",
    "INSERT INTO jobexec.observations VALUES ($A, 'RunningWithoutStart', '9', now(), now())",
    "INSERT INTO jobexec.sweeps VALUES (gen_random_uuid(), $A, 'x', now(), 1)",
    "INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) VALUES (now(), $A, '9', 'Failed', 'x', 'x')",
    "INSERT INTO jobexec.samples VALUES ($A, now() - interval '9 days', 1, 1, 1, 1, 1)",
    "INSERT INTO jobexec.outbox (store_id, at, event_ids) VALUES ($A, now(), '{1}')",
    "INSERT INTO jobexec.messages VALUES (gen_random_uuid(), $A, 'c', 'evil@example.org', '{}', now(), 0, now())",
    "UPDATE jobexec.stores SET uid = 'x' WHERE store_id = $A",
    "UPDATE jobexec.rules SET extend_by = '0' WHERE store_id = $A",
    "UPDATE jobexec.observations SET since = '2020-01-01'",
    "UPDATE jobexec.suspects SET certain = true",
    "UPDATE jobexec.messages SET recipient = 'evil@example.org'",
    "DELETE FROM jobexec.figures",
    "DELETE FROM jobexec.suspects",
    "DELETE FROM jobexec.observations WHERE store_id = $A",
    "DELETE FROM jobexec.sweeps WHERE store_id = $A",
    "DELETE FROM jobexec.events",
    "DELETE FROM jobexec.samples",
    "DELETE FROM jobexec.outbox",
    "DELETE FROM jobexec.messages",
    "DELETE FROM jobexec.rules",
    "DELETE FROM jobexec.stores",
];

#[tokio::test]
async fn who_creates_a_table_by_the_name_of_a_dropped_one_changes_nothing_that_it_left() {
    let (world, mut neighbour) = neighbours("namesakes").await;
    let own = format!("{}_b", world.role);
    world
        .sql(&format!(
            "CREATE ROLE {own}_owner; ALTER TABLE job_executions OWNER TO {own}_owner; GRANT CREATE ON SCHEMA public TO {own}, {own}_owner; \
             INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, table_owner, uid) \
             VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions', '{own}_owner', 'u'); \
             INSERT INTO jobexec.rules (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed) \
             SELECT store_id, 'execution', '1', '48 hours', 'CommandLine/x', '{{}}', '0', false FROM jobexec.stores; \
             INSERT INTO jobexec.figures SELECT store_id, 'x', 'x', 1, now(), '[]' FROM jobexec.stores; \
             INSERT INTO jobexec.suspects SELECT store_id, 'WorkloadGone', '1', now(), now(), false FROM jobexec.stores; \
             INSERT INTO jobexec.observations SELECT store_id, 'RunningWithoutStart', '1', now(), now() FROM jobexec.stores; \
             INSERT INTO jobexec.sweeps SELECT gen_random_uuid(), store_id, 'x', now(), 1 FROM jobexec.stores; \
             INSERT INTO jobexec.events (at, store_id, execution_id, action, reason, source) \
             SELECT now(), store_id, '1', 'Failed', 'x', 'x' FROM jobexec.stores; \
             INSERT INTO jobexec.samples SELECT store_id, now(), 1, 1, 1, 1, 1 FROM jobexec.stores; \
             INSERT INTO jobexec.outbox (store_id, at, event_ids) SELECT store_id, now(), '{{1}}' FROM jobexec.stores; \
             INSERT INTO jobexec.messages SELECT gen_random_uuid(), store_id, 'c', 'a@example.org', '{{}}', now(), 0, now() FROM jobexec.stores; \
             DROP TABLE job_executions"
        ))
        .await;
    let number: i64 = world.one("SELECT store_id FROM jobexec.stores").await;
    let kept = "SELECT md5(string_agg(r, ',' ORDER BY r)) FROM (SELECT r::text FROM jobexec.stores r UNION ALL \
                SELECT r::text FROM jobexec.rules r UNION ALL SELECT r::text FROM jobexec.figures r UNION ALL \
                SELECT r::text FROM jobexec.suspects r UNION ALL SELECT r::text FROM jobexec.observations r UNION ALL \
                SELECT r::text FROM jobexec.sweeps r UNION ALL SELECT r::text FROM jobexec.events r UNION ALL \
                SELECT r::text FROM jobexec.samples r UNION ALL SELECT r::text FROM jobexec.outbox r UNION ALL \
                SELECT r::text FROM jobexec.messages r) AS r (r)";
    let before: String = world.one(kept).await;
    assert!(touched(&mut neighbour, TABLE).await.is_some());
    for sql in CHANGES {
        let sql = sql.replace("$A", &number.to_string());
        assert_eq!(touched(&mut neighbour, &sql).await.unwrap_or(0), 0, "{sql}");
    }
    assert_eq!(world.one::<String>(kept).await, before, "nothing of what the other table left has changed");
    let (adopt, url) = (["adopt", "--table", "public.job_executions", "--database-url"], url(&world, &own));
    for more in [&[][..], &["--discard"]] {
        let adopted = world.jobexec(&[&adopt[..], &[url.as_str()], more].concat());
        let text = String::from_utf8_lossy(&[adopted.stdout, adopted.stderr].concat()).into_owned();
        assert!(text.contains("another role owned its table"), "{text}");
    }
    let left =
        format!("SELECT count(*) FROM jobexec.events WHERE store_id = {number} AND execution_id = '1'");
    assert_eq!(world.one::<i64>(&left).await, 1);

    // The owner of the old table builds it again: then the record belongs to the new table, on request.
    world
        .sql(&format!(
            "DROP TABLE job_executions; CREATE TABLE job_executions (LIKE others INCLUDING ALL); \
             ALTER TABLE job_executions OWNER TO {own}_owner"
        ))
        .await;
    grant(&world, &own, "job_executions");
    let adopted = world.jobexec(&[&adopt[..], &[url.as_str()]].concat());
    let text = String::from_utf8_lossy(&[adopted.stdout, adopted.stderr].concat()).into_owned();
    assert!(text.contains("is the table's own now"), "{text}");
    assert_eq!(world.one::<i64>(&left).await, 0);
    world.sql(&format!("DROP OWNED BY {own}_owner; DROP ROLE {own}_owner")).await;
}

#[tokio::test]
async fn a_rotated_login_keeps_the_records_and_rivals_see_the_claim() {
    let (world, _) = neighbours("rotated").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
    let since = "SELECT concat_ws(' ', count(*), min(store_id), min(uid), min(watched_since)) FROM jobexec.stores \
                 WHERE table_name = 'job_executions'";
    let before: String = world.one(since).await;

    let rotated = role(&world, "c").await;
    grant(&world, &rotated, "job_executions");
    let mut connection = PgConnection::connect(&url(&world, &rotated)).await.unwrap();
    let seen: String = sqlx::query_scalar(since).fetch_one(&mut connection).await.unwrap();
    assert_eq!(seen, before, "it sees the same, and who claims the table");
    world.secret("rotated", json!({"uri": url(&world, &rotated)})).await;
    world.store_changed(&operator, json!({"connection": {"secretRef": {"name": "rotated"}}})).await;
    world
        .until_true(&format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '{rotated}' AND query ~ 'jobexec'"
        ))
        .await;
    world.store_until(&operator, records).await;
    assert_eq!(world.one::<String>(since).await, before);

    // A rival with the new login does not get the table.
    let rival = json!({"connection": {"secretRef": {"name": "rotated"}}});
    world.apply::<ExecutionStore>("rival", World::store_with("rival", rival)).await.unwrap();
    world
        .store_named_until(&operator, "rival", |s| is(&s.conditions, "Ready", "False", "TableClaimed"))
        .await;
    // Under another name the table is the same one, and a new table with the old name gets nothing.
    world.sql("ALTER TABLE job_executions RENAME TO renamed").await;
    world.sql(&TABLE.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")).await;
    grant(&world, &rotated, "job_executions");
    let renamed = json!({"connection": {"secretRef": {"name": "rotated"}}, "table": {"name": "renamed"}});
    world.store_changed(&operator, renamed).await;
    world
        .until_true("SELECT count(*) = 1 FROM jobexec.stores WHERE table_name = 'renamed' AND table_oid = 'renamed'::regclass")
        .await;
    let number: i64 = world.one("SELECT store_id FROM jobexec.stores WHERE table_name = 'renamed'").await;
    assert!(before.contains(&format!("1 {number} ")), "{before}");
}

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

#[tokio::test]
async fn row_security_asks_the_stores_once_a_statement() {
    let (_world, mut neighbour) = neighbours("plans").await;
    for sql in [
        "SELECT * FROM jobexec.events WHERE store_id = 1",
        "SELECT * FROM jobexec.rules WHERE store_id = 1",
        "UPDATE jobexec.sweeps SET failed = 1 WHERE store_id = 1",
        "DELETE FROM jobexec.messages WHERE store_id = 1",
    ] {
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {sql}")))
            .fetch_all(&mut neighbour)
            .await
            .unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains("hashed SubPlan"), "{plan}");
        let lines: Vec<&str> = plan.lines().map(str::trim_start).collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("_privilege(")) {
            let of_stores = number > 0 && lines[number - 1].contains("Seq Scan on stores");
            assert!(of_stores && line.starts_with("Filter:"), "of the stores only: {plan}");
        }
    }
}

/// The operator counts refused changes with a sequence of this name in its own schema.
#[tokio::test]
async fn a_sequence_of_a_neighbours_breaks_no_figures() {
    let (world, _neighbour) = neighbours("namesake").await;
    world
        .sql(&format!(
            "CREATE SCHEMA theirs AUTHORIZATION {}_b; \
             DO $$ BEGIN EXECUTE format('CREATE SEQUENCE theirs.refused_%s', 'job_executions'::regclass::oid); END $$",
            world.role
        ))
        .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let told = world.store_until(&operator, |s| records(s) && s.metrics.is_some()).await;
    assert_eq!(told.metrics.unwrap().refused_transitions, None);
    assert!(!operator.log().contains("figures of the table could not be taken"), "{}", operator.log());
}
