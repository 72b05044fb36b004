//! Two teams in one database: each has a table, and a role with exactly the permissions that `jobexec schema --role`
//! prints.

mod attempts;
mod impossible;
mod namesakes;

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
