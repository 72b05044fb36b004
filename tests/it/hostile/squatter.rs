//! Schemas `jobexec` that somebody else created first, or has added objects to.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use serde_json::json;

use super::neighbour::{grant, records, role, url};
use crate::support::world::TABLE;
use crate::support::{Operator, World, is, message};

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

/// Functions and operators of somebody else on the path of the superuser who applies the schema.
#[tokio::test]
async fn nothing_of_somebody_elses_gets_into_what_is_applied() {
    let world = World::bare("pinned").await;
    world.sql(&TABLE.replace("status text", "status varchar(20)")).await;
    world
        .sql(
            "CREATE FUNCTION public.evil(varchar, varchar) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$; \
             CREATE OPERATOR public.= (FUNCTION = public.evil, LEFTARG = varchar, RIGHTARG = varchar); \
             CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$",
        )
        .await;
    let all = ["schema", "--role", &world.role, "--with", "check,transitions,notify"];
    let printed = psql(&world, &world.jobexec(&all).stdout);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let applied = world.jobexec(&[&all[..], &["--apply"]].concat());
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let used = "SELECT count(*) FROM pg_depend WHERE refobjid IN ('public.evil'::regproc, 'public.=(varchar,varchar)'::regoperator) \
                AND classid <> 'pg_operator'::regclass";
    assert_eq!(world.one::<i64>(used).await, 0);
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'failed', now(), now())").await;
    let late = sqlx::raw_sql("UPDATE job_executions SET status = 'completed'").execute(&world.pool).await;
    assert!(late.unwrap_err().to_string().contains("is failed and cannot become completed"));
}

/// Casts that the caller made run as the caller, whatever trigger converts its rows to JSON.
#[tokio::test]
async fn a_refused_change_runs_nothing_of_the_callers_as_the_owner_of_the_schema() {
    let world = World::bare("definer").await;
    let worker = role(&world, "worker").await;
    world
        .sql(&format!(
            "{TABLE}; CREATE SEQUENCE witness; GRANT CREATE ON SCHEMA public TO {worker}; SET ROLE {worker}; CREATE TYPE mine AS ENUM ('x'); \
             CREATE FUNCTION told(mine) RETURNS json LANGUAGE plpgsql AS \
                 $$ BEGIN BEGIN PERFORM nextval('public.witness'); EXCEPTION WHEN insufficient_privilege THEN NULL; END; RETURN '1'; END $$; \
             CREATE CAST (mine AS json) WITH FUNCTION told(mine); RESET ROLE; \
             ALTER TABLE job_executions ADD COLUMN payload mine; GRANT SELECT, UPDATE ON job_executions TO {worker}; \
             INSERT INTO job_executions VALUES (1, 1, 1, 'failed', now(), now(), 'x')"
        ))
        .await;
    let applied = world.jobexec(&["schema", "--apply", "--role", &world.role, "--with", "transitions"]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let mut connection =
        <sqlx::PgConnection as sqlx::Connection>::connect(&url(&world, &worker)).await.unwrap();
    let late = sqlx::raw_sql("UPDATE job_executions SET status = 'running'").execute(&mut connection).await;
    assert!(late.is_err());
    // A rollback would hide everything else; a sequence that only its owner may use keeps its value.
    assert!(!world.one::<bool>("SELECT is_called FROM witness").await);
    let counted = "SELECT last_value FROM pg_sequences WHERE sequencename = 'refused_' || 'job_executions'::regclass::oid";
    assert_eq!(world.one::<i64>(counted).await, 1, "it is counted all the same");
    let own = "CREATE TRIGGER mine BEFORE UPDATE ON pg_temp.t FOR EACH ROW EXECUTE FUNCTION jobexec.count_refusal()";
    let put = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE TEMPORARY TABLE t (a int); {own}")));
    assert!(put.execute(&mut connection).await.unwrap_err().to_string().contains("permission denied"));
}
