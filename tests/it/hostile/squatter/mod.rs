//! Schemas `jobexec` that somebody else created first, or has added objects to.

mod applied;
mod created;
mod foreign;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use jobexec_operator::api::ExecutionStoreStatus;
use serde_json::json;

use super::neighbour::{records, role, url};
use crate::support::world::TABLE;
use crate::support::{World, is, message};

fn untrusted(s: &ExecutionStoreStatus) -> bool {
    is(&s.conditions, "AuditAvailable", "False", "SchemaUntrusted")
}

/// The statements in a message between the first backquotes.
fn remedy(text: &str) -> String {
    text.split('`').nth(1).unwrap_or_else(|| panic!("no statement in {text}")).to_owned()
}

/// Runs a script with psql, as the documentation says.
fn psql(world: &World, script: &[u8]) -> Output {
    psql_as(&world.superuser(), script)
}

fn psql_as(url: &str, script: &[u8]) -> Output {
    let mut psql = Command::new("psql")
        .args(["-qX", url])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(script).unwrap();
    psql.wait_with_output().unwrap()
}

#[tokio::test]
async fn a_schema_of_before_the_first_version_is_refused_with_the_statement_that_drops_it() {
    let world = World::new("outdated-rules").await;
    // The action for stale executions had a different name.
    world.sql("ALTER TABLE jobexec.rules RENAME on_stale TO on_timeout").await;
    for role in [&[][..], &["--apply"]] {
        let applied = world.jobexec(&[&["schema", "--role", &world.role][..], role].concat());
        let applied = if role.is_empty() { psql(&world, &applied.stdout) } else { applied };
        let text = String::from_utf8_lossy(&applied.stderr).into_owned();
        assert!(
            text.contains("before version 0.1.0") && text.contains("DROP SCHEMA jobexec CASCADE"),
            "{text}"
        );
    }
    let world = World::bare("outdated").await;
    world
        .sql(&format!(
            "{TABLE}; CREATE SCHEMA jobexec; CREATE TABLE jobexec.stores (store_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
             table_schema text, table_name text, uid text); GRANT SELECT, UPDATE ON job_executions TO {}",
            world.role
        ))
        .await;
    let applied = world.jobexec(&["schema", "--apply", "--role", &world.role]);
    let text = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(applied.status.code() == Some(1) && text.contains("DROP SCHEMA jobexec CASCADE"), "{text}");
    let printed = psql(&world, &world.jobexec(&["schema", "--role", &world.role]).stdout);
    assert!(String::from_utf8_lossy(&printed.stderr).contains("DROP SCHEMA jobexec CASCADE"));
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let told = world
        .store_until(&operator, |s| is(&s.conditions, "EnforcementPaused", "True", "SchemaOutdated"))
        .await;
    world.sql(&remedy(&message(&told.conditions, "AuditAvailable"))).await;
    world.prepare().await;
    world.store_until(&operator, records).await;
}

/// Each member creates missing objects, and the others trust them.
#[tokio::test]
async fn members_of_the_schemas_owner_share_what_one_of_them_made() {
    let world = World::bare("members").await;
    let team = role(&world, "team").await;
    let (first, second) = (role(&world, "first").await, role(&world, "second").await);
    world
        .sql(&format!(
            "{TABLE}; ALTER TABLE job_executions OWNER TO {team}; GRANT CREATE ON SCHEMA public TO {team}; \
             GRANT {team} TO {first}, {second}; CREATE SCHEMA jobexec AUTHORIZATION {team}"
        ))
        .await;
    let all = ["schema", "--with", "transitions,notify"];
    for member in [&first, &second, &first] {
        let applied =
            world.jobexec(&[&all[..], &["--apply", "--database-url", &url(&world, member)]].concat());
        assert!(applied.status.success(), "{member}: {}", String::from_utf8_lossy(&applied.stderr));
    }
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(owner), ' ') FROM ( \
                      SELECT relowner AS owner FROM pg_class WHERE relnamespace = 'jobexec'::regnamespace \
                      UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace = 'jobexec'::regnamespace) AS made";
    assert_eq!(world.one::<String>(owners).await, team);
    world.sql(&format!("DROP SCHEMA jobexec CASCADE; CREATE SCHEMA jobexec AUTHORIZATION {team}")).await;
    for member in [&first, &second] {
        let script = world.jobexec(&all).stdout;
        let printed = psql_as(&url(&world, member), &script);
        assert!(printed.status.success(), "{member}: {}", String::from_utf8_lossy(&printed.stderr));
    }
    assert_eq!(world.one::<String>(owners).await, team);
    world.secret("db", json!({"uri": url(&world, &second)})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;
}
