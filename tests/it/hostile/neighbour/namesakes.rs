//! A table by the name of a dropped one.

use super::{grant, neighbours, touched, url};
use crate::support::world::TABLE;

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
