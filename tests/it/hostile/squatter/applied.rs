//! Functions, operators and casts of somebody else around the schema that is applied.

use super::psql;
use crate::hostile::neighbour::{role, url};
use crate::support::World;
use crate::support::world::TABLE;

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
