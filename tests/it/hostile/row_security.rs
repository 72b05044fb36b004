//! Row-level security that hides rows: a table with hidden rows must not look healthy.

use jobexec_operator::api::ExecutionStoreStatus;
use jobexec_operator::db::Layout;
use jobexec_operator::db::validate::{Problem, validate};
use serde_json::{Value, json};

use super::work::{self, Work};
use crate::support::{Operator, World, is, message};

const REASON: &str = "RowSecurityHidesRows";

/// 1 is stale, 2 lives; the application sees only its own rows.
async fn secured(test: &str, policies: &str) -> World {
    let world = World::new(test).await;
    world
        .sql(
            "CREATE TABLE jobs (id bigint PRIMARY KEY, status text); INSERT INTO jobs VALUES (1, 'running'); \
             INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '2 days'), (2, 1, 2, 'running', now())",
        )
        .await;
    world.prepare_for(&json!({"jobs": {}})).await;
    world.sql(&policies.replace("LOGIN", &world.role)).await;
    world
}

const ON: &str = "ALTER TABLE job_executions ENABLE ROW LEVEL SECURITY;";

/// The problem with reading, or only with changing rows, if there is one.
async fn problem(world: &World, spec: &Value) -> Option<Problem> {
    use jobexec_operator::db::{Layout, validate::validate};
    let database = super::work::database(world).await;
    match validate(&database, &Layout::of(&super::work::spec(spec))).await.unwrap() {
        Err(problem) => Some(problem),
        Ok(validated) => validated.unwritable,
    }
}

/// Policies for the login of the store, LOGIN, and what the problem with them says, if there is one. SECURE turns
/// row-level security on.
const POLICIES: &[(&str, Option<&str>)] = &[
    // Row-level security is off.
    ("", None),
    // Without a policy, no row is visible. The tables of Supabase and of graphile-worker are like that.
    ("SECURE;", Some("sees every row")),
    ("SECURE; CREATE POLICY p ON job_executions FOR ALL TO LOGIN USING (true) WITH CHECK (true)", None),
    ("SECURE; CREATE POLICY p ON job_executions USING (true)", None),
    ("SECURE; CREATE POLICY p ON job_executions TO LOGIN_group USING (true)", None),
    // A policy for others.
    (
        "SECURE; CREATE POLICY p ON job_executions TO pg_monitor USING (true) WITH CHECK (true)",
        Some("sees every row"),
    ),
    ("SECURE; CREATE POLICY p ON job_executions TO LOGIN USING (id > 0)", Some("sees every row")),
    ("SECURE; CREATE POLICY p ON job_executions FOR SELECT USING (true)", Some("change every row")),
    (
        "SECURE; CREATE POLICY p ON job_executions FOR SELECT USING (true); \
         CREATE POLICY q ON job_executions FOR UPDATE USING (id > 1)",
        Some("change every row"),
    ),
    ("SECURE; CREATE POLICY p ON job_executions USING (true) WITH CHECK (id > 1)", Some("change every row")),
    (
        "SECURE; CREATE POLICY p ON job_executions USING (true) WITH CHECK (true); \
         CREATE POLICY q ON job_executions AS RESTRICTIVE USING (id > 1)",
        Some("sees every row"),
    ),
    (
        "SECURE; CREATE POLICY p ON job_executions USING (true) WITH CHECK (true); \
         CREATE POLICY q ON job_executions AS RESTRICTIVE TO pg_monitor USING (id > 1)",
        None,
    ),
    ("SECURE; ALTER ROLE LOGIN BYPASSRLS", None),
    // For an owner it applies only if it is forced.
    ("SECURE; ALTER TABLE job_executions OWNER TO LOGIN", None),
    ("SECURE; ALTER TABLE job_executions OWNER TO LOGIN, FORCE ROW LEVEL SECURITY", Some("sees every row")),
    ("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY", Some("\"jobs\"")),
    // A view shows the rows that its owner sees, unless it is defined with its reader's permissions.
    (
        "ALTER TABLE jobs ENABLE ROW LEVEL SECURITY; ALTER TABLE jobs RENAME TO kept; \
         CREATE VIEW jobs AS SELECT * FROM kept; GRANT SELECT ON jobs TO LOGIN",
        None,
    ),
    (
        "ALTER TABLE jobs ENABLE ROW LEVEL SECURITY; ALTER TABLE jobs RENAME TO kept; \
         CREATE VIEW jobs WITH (security_invoker = true) AS SELECT * FROM kept; GRANT SELECT ON jobs, kept TO LOGIN",
        Some("view"),
    ),
];

/// Some policies prove that nothing is hidden, others do not.
#[tokio::test]
async fn only_policies_that_hide_nothing_will_do() {
    let world = secured("row-security", "CREATE ROLE LOGIN_group; GRANT LOGIN_group TO LOGIN").await;
    let role = world.role.clone();
    for &(policies, expected) in POLICIES {
        world.sql(&policies.replace("SECURE;", ON).replace("LOGIN", &role)).await;
        let found = problem(&world, &json!({"jobs": {}})).await;
        match (&found, expected) {
            (None, None) => {}
            (Some(problem), Some(expected)) => {
                assert_eq!(problem.reason(), REASON, "{policies}: {problem}");
                let text = problem.to_string();
                assert!(text.contains(expected) && text.contains("BYPASSRLS"), "{policies}: {text}");
            }
            _ => panic!("{policies}: {found:?}"),
        }
        world
            .sql(
                &"DROP POLICY IF EXISTS p ON job_executions; DROP POLICY IF EXISTS q ON job_executions; \
                  ALTER TABLE job_executions DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY; \
                  ALTER TABLE job_executions OWNER TO CURRENT_USER; ALTER ROLE LOGIN NOBYPASSRLS; \
                  DO $$ BEGIN IF to_regclass('kept') IS NOT NULL THEN DROP VIEW jobs; ALTER TABLE kept RENAME TO jobs; END IF; END $$; \
                  ALTER TABLE jobs DISABLE ROW LEVEL SECURITY"
                    .replace("LOGIN", &role),
            )
            .await;
        // A former owner has no permissions any more.
        world.prepare_for(&json!({"jobs": {}})).await;
    }
    world.sql(&format!("REVOKE {role}_group FROM {role}; DROP ROLE {role}_group")).await;
}

/// A partitioned table is read by its own name, so its own policies apply.
#[tokio::test]
async fn of_a_partitioned_table_its_own_policies_count() {
    let world = World::bare("row-security-parts").await;
    world
        .sql(
            "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint, execution_number integer, status text, \
             started_at timestamptz, completed_at timestamptz) PARTITION BY RANGE (id); \
             CREATE TABLE part PARTITION OF job_executions DEFAULT; ALTER TABLE part ENABLE ROW LEVEL SECURITY",
        )
        .await;
    world.prepare().await;
    assert_eq!(problem(&world, &json!({})).await, None);
    world.sql(ON).await;
    assert_eq!(problem(&world, &json!({})).await.map(|problem| problem.reason()), Some(REASON));
}

fn refused(status: &ExecutionStoreStatus) -> bool {
    is(&status.conditions, "SchemaValid", "False", REASON) && is(&status.conditions, "Ready", "False", REASON)
}

async fn refused_and_never_healthy(world: &World, operator: &Operator) -> String {
    let status = world.store_until(operator, refused).await;
    assert!(is(&status.conditions, "Healthy", "Unknown", "NotObserved"), "{status:?}");
    assert_eq!(world.status(1).await, "running");
    message(&status.conditions, "SchemaValid")
}

/// Runs the binary with the permissions of the operator's role.
fn jobexec(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_jobexec"))
        .args(args)
        .env("DATABASE_URL", world.url("right/password"))
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_table_whose_rows_are_hidden_is_refused_until_a_policy_shows_them() {
    let world = secured("row-security-store", ON).await;
    // The rows that the operator would see.
    let login = sqlx::PgPool::connect(&world.url("right/password")).await.unwrap();
    let seen = "SELECT count(*) FROM job_executions WHERE status = 'running'";
    assert_eq!(sqlx::query_scalar::<_, i64>(seen).fetch_one(&login).await.unwrap(), 0);
    login.close().await;
    let operator = world.operator();
    world.store(json!({})).await;
    let text = refused_and_never_healthy(&world, &operator).await;
    for command in [
        &["list"][..],
        &["health"],
        &["explain", "1"],
        &["cleanup", "--dry-run"],
        &["cleanup", "--yes"],
        &["stats"],
    ] {
        let (code, err) = jobexec(&world, command);
        assert!(code.is_some_and(|code| code != 0), "{command:?}: {err}");
        assert!(err.contains("row-level security") && err.contains("CREATE POLICY"), "{command:?}: {err}");
    }
    // The remedy in the message works.
    let fix = text.split_once("as its owner run ").unwrap().1.split(", or as").next().unwrap().to_owned();
    world.sql(&fix).await;
    world.store_until(&operator, |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    world.until_true("SELECT status = 'failed' FROM job_executions WHERE id = 1").await;
    assert_eq!(world.status(2).await, "running");
    assert_eq!(jobexec(&world, &["health"]).0, Some(0));
}

/// If only an update cannot see a row, it is not failed, and that is reported.
#[tokio::test]
async fn rows_that_cannot_be_changed_are_told() {
    let world = secured(
        "row-security-update",
        &format!("{ON} CREATE POLICY p ON job_executions FOR SELECT USING (true)"),
    )
    .await;
    let operator = world.operator();
    world.store(json!({})).await;
    let status = world
        .store_until(&operator, |s| {
            is(&s.conditions, "EnforcementPaused", "True", REASON) && s.metrics.is_some()
        })
        .await;
    assert!(refused(&status), "{status:?}");
    assert_eq!(status.metrics.unwrap().stale_executions, 1, "what can be seen is counted");
    let (code, err) = jobexec(&world, &["cleanup", "--yes"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("row-level security"), "{err}");
}

/// It is enabled, or a policy changes, while an operator has a session.
#[tokio::test]
async fn rows_that_are_hidden_later_are_noticed_at_the_next_look() {
    let world = secured("row-security-later", "").await;
    let work = Work::open(&world, &json!({"jobs": {}}), "7", "none").await.unwrap();
    work.look().await.unwrap();
    for (hide, show) in [
        (ON, "ALTER TABLE job_executions DISABLE ROW LEVEL SECURITY"),
        ("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY", "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY"),
        (
            "ALTER TABLE job_executions RENAME TO old; CREATE TABLE job_executions AS TABLE old; \
             ALTER TABLE job_executions ENABLE ROW LEVEL SECURITY",
            "DROP TABLE job_executions; ALTER TABLE old RENAME TO job_executions",
        ),
    ] {
        world.sql(hide).await;
        // If something else notices it first, such as a manual clean-up, that changes nothing.
        if hide.contains("ROW LEVEL") {
            let spec = work::spec(&json!({"jobs": {}}));
            validate(&work.database, &Layout::of(&spec)).await.unwrap().unwrap_err();
        }
        for failed in [work.look().await.unwrap_err(), work.sweep().await.unwrap_err()] {
            assert_eq!(failed.reason(), REASON, "{hide}: {failed}");
        }
        world.sql(show).await;
        let spec = work::spec(&json!({"jobs": {}}));
        validate(&work.database, &Layout::of(&spec)).await.unwrap().unwrap();
        work.look().await.unwrap();
    }
    // If it is enabled already, the policies are checked against the catalog each time.
    let all = "CREATE POLICY p ON job_executions USING (true)";
    world.sql(&format!("{ON} {all}")).await;
    let work = Work::open(&world, &json!({"jobs": {}}), "7", "none").await.unwrap();
    work.look().await.unwrap();
    for (hide, show) in [
        ("DROP POLICY p ON job_executions", all),
        (
            "CREATE POLICY q ON job_executions AS RESTRICTIVE USING (id = 2)",
            "DROP POLICY q ON job_executions",
        ),
        (
            "DROP POLICY p ON job_executions; CREATE POLICY p ON job_executions FOR SELECT USING (true)",
            "DROP POLICY p ON job_executions; CREATE POLICY p ON job_executions USING (true)",
        ),
    ] {
        world.sql(hide).await;
        for failed in [work.look().await.unwrap_err(), work.sweep().await.unwrap_err()] {
            assert_eq!(failed.reason(), REASON, "{hide}: {failed}");
        }
        world.sql(show).await;
        work.look().await.unwrap();
    }
    assert_eq!(work.sweep().await.unwrap().ended, 1);

    // No operator manages the table any more.
    world.sql("DELETE FROM jobexec.rules; UPDATE jobexec.stores SET uid = NULL, namespace = NULL, name = NULL, seen_at = NULL").await;
    let operator = world.operator();
    world.store(json!({})).await;
    world.store_until(&operator, |s| is(&s.conditions, "Healthy", "True", "WithinLimits")).await;
    world.sql("UPDATE job_executions SET status = 'running', started_at = now() - interval '23 hours' WHERE id = 1").await;
    world.sql("DROP POLICY p ON job_executions").await;
    refused_and_never_healthy(&world, &operator).await;
}
