//! Schemas that a login created before anybody applied the one of the operator.

use std::process::Command;

use jobexec_operator::api::ExecutionStore;
use serde_json::json;

use super::{psql, remedy, untrusted};
use crate::hostile::neighbour::{grant, records, role, url};
use crate::support::world::TABLE;
use crate::support::{World, is, message};

/// The objects that a login with permission to create schemas makes: tables like the operator's, and a trigger that makes
/// it superuser as soon as a superuser writes to them.
fn squat(squatter: &str) -> String {
    format!(
        "SET ROLE {squatter}; CREATE SCHEMA jobexec; \
         CREATE TABLE jobexec._sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL, \
             installed_on timestamptz NOT NULL, success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL); \
         CREATE FUNCTION jobexec.evil() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN EXECUTE 'ALTER ROLE {squatter} SUPERUSER'; RETURN NEW; END $$; \
         CREATE TRIGGER evil BEFORE INSERT ON jobexec._sqlx_migrations FOR EACH ROW EXECUTE FUNCTION jobexec.evil(); \
         GRANT USAGE ON SCHEMA jobexec TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA jobexec TO PUBLIC; RESET ROLE"
    )
}

#[tokio::test]
async fn neither_apply_nor_the_script_nor_an_operator_adopts_a_schema_of_somebody_elses() {
    let world = World::bare("squatted").await;
    world
        .sql(&format!(
            "{TABLE}; INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days')"
        ))
        .await;
    let squatter = role(&world, "squatter").await;
    world.sql(&format!("GRANT CREATE ON DATABASE {} TO {squatter}; {}", world.role, squat(&squatter))).await;
    let names_all = |text: &str| {
        for part in [
            &format!("the schema is owned by {squatter}"),
            "jobexec._sqlx_migrations",
            "jobexec.evil()",
            "trigger evil",
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    };
    let applied = world.jobexec(&["schema", "--apply", "--role", &world.role]);
    assert_eq!(applied.status.code(), Some(1));
    let refusal = String::from_utf8_lossy(&applied.stderr).into_owned();
    names_all(&refusal);
    // The role that applies it is not the one that uses it, and foreign code is dropped before anybody owns the table
    // that runs it.
    assert!(!refusal.contains("--role \""), "{refusal}");
    assert!(refusal.find("DROP TRIGGER").unwrap() < refusal.find("ALTER TABLE").unwrap(), "{refusal}");
    let script = world.jobexec(&["schema", "--role", &world.role]).stdout;
    let printed = psql(&world, &script);
    assert!(!printed.status.success());
    names_all(&String::from_utf8_lossy(&printed.stderr));
    let fallen = format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{squatter}'");
    assert!(!world.one::<bool>(&fallen).await);

    // Executions are failed nevertheless: nothing was ever recorded here.
    world.sql(&format!("GRANT SELECT, UPDATE ON job_executions TO {}", world.role)).await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let told = world
        .store_until(&operator, |s| untrusted(s) && is(&s.conditions, "Ready", "True", "Enforcing"))
        .await;
    let text = message(&told.conditions, "AuditAvailable");
    names_all(&text);
    world.sql(&format!("BEGIN; {}; ROLLBACK", remedy(&text))).await;
    world.until_true("SELECT status = 'failed' FROM job_executions").await;
    assert_eq!(
        world.one::<i64>("SELECT count(*) FROM jobexec._sqlx_migrations").await,
        0,
        "nothing was written"
    );

    // The command line does not use it either.
    let listed = Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .args(["list"])
        .env("DATABASE_URL", world.superuser())
        .output();
    assert!(String::from_utf8_lossy(&listed.unwrap().stderr).contains("cannot be trusted"));
    world.sql("DROP SCHEMA jobexec CASCADE").await;
    let printed = psql(&world, &script);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    world.store_until(&operator, records).await;
}

#[tokio::test]
async fn a_schema_that_a_login_made_serves_it_alone_until_the_statements_are_run() {
    let world = World::bare("selfmade-two").await;
    world.sql(&format!("{TABLE}; CREATE TABLE others (LIKE job_executions INCLUDING ALL)")).await;
    world
        .sql(&format!(
            "GRANT SELECT, UPDATE ON job_executions TO {0}; GRANT CREATE ON DATABASE {0} TO {0}",
            world.role
        ))
        .await;
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, records).await;

    let second = role(&world, "second").await;
    world
        .sql(&format!(
            "GRANT SELECT, UPDATE ON others TO {second}; INSERT INTO others VALUES (1, 1, 1, 'running', now() - interval '2 days')"
        ))
        .await;
    world.secret("second", json!({"uri": url(&world, &second)})).await;
    let spec = json!({"connection": {"secretRef": {"name": "second"}}, "table": {"name": "others"}});
    world.apply::<ExecutionStore>("others", World::store_with("others", spec)).await.unwrap();
    let told = world.store_named_until(&operator, "others", untrusted).await;
    let text = message(&told.conditions, "AuditAvailable");
    assert!(text.contains(&format!("the schema is owned by {}", world.role)), "{text}");
    world.until_true("SELECT status = 'failed' FROM others").await;

    world.sql(&remedy(&text)).await;
    grant(&world, &second, "others");
    grant(&world, &world.role, "job_executions");
    world.store_named_until(&operator, "others", records).await;
    // The first one has lost nothing, and neither sees the other.
    operator.kill();
    let operator = world.operator();
    world.store_until(&operator, records).await;
    assert_eq!(world.one::<i64>("SELECT count(*) FROM jobexec.stores").await, 2);
    let mut connection =
        <sqlx::PgConnection as sqlx::Connection>::connect(&url(&world, &second)).await.unwrap();
    let seen: Vec<String> =
        sqlx::query_scalar("SELECT table_name FROM jobexec.stores").fetch_all(&mut connection).await.unwrap();
    assert_eq!(seen, ["others"]);
}

/// A foreign schema that looks like an old one, and contains more than a condition can name.
#[tokio::test]
async fn a_crowded_schema_that_looks_outdated_holds_up_nobody() {
    let world = World::bare("crowded").await;
    world
        .sql(&format!(
            "{TABLE}; INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days'); \
             GRANT SELECT, UPDATE ON job_executions TO {}",
            world.role
        ))
        .await;
    let squatter = role(&world, "squatter").await;
    world
        .sql(&format!(
            "GRANT CREATE ON DATABASE {} TO {squatter}; SET ROLE {squatter}; CREATE SCHEMA jobexec; CREATE TABLE jobexec.stores (a int); \
             DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE DOMAIN jobexec.%s_%s AS int', repeat('x', 50), n); END LOOP; END $$; \
             RESET ROLE",
            world.role
        ))
        .await;
    let printed = psql(&world, &world.jobexec(&["schema", "--role", &world.role]).stdout);
    let text = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(text.contains(&format!("the schema is owned by {squatter}")) && text.len() < 32 * 1024, "{text}");
    world.secret("db", json!({"uri": world.url("right/password")})).await;
    let operator = world.operator();
    world.store(json!({})).await;
    let told = world
        .store_until(&operator, |s| untrusted(s) && is(&s.conditions, "Ready", "True", "Enforcing"))
        .await;
    world.until_true("SELECT status = 'failed' FROM job_executions").await;
    let text = message(&told.conditions, "AuditAvailable");
    assert!(text.contains("schemaOwner"), "{text}");
    assert_eq!(remedy(&text), "DROP SCHEMA jobexec CASCADE");
}
