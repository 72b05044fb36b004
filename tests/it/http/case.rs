//! The case that started this project, for an administrator with curl.

use serde_json::json;

use super::{CLEANUP, HEALTH, HISTORY, RUNNING, figures, ids};
use crate::support::World;
use crate::support::https::Https;
use crate::support::world::CASE;

/// As on that day: the current time of the database is 2025-08-08 16:21:55 UTC, and later rows are missing.
const THAT_DAY: &str = "DELETE FROM job_executions WHERE id = 40; \
     UPDATE job_executions SET started_at = started_at + shift, completed_at = completed_at + shift \
     FROM (SELECT now() AT TIME ZONE 'UTC' - timestamp '2025-08-08 16:21:55' AS shift) AS s";

/// Every row with its version.
const ROWS: &str = "SELECT string_agg(t::text || t.xmin::text, '|' ORDER BY id) FROM job_executions t";

/// The history and the explanation of the execution show who cleaned it up.
async fn recorded(admin: &Https, explain: &str, actor: &str) {
    let (_, history) = admin.get(&format!("{HISTORY}?since=1h&job=21")).await;
    let event = &history["events"][0];
    for (field, value) in [
        ("execution_id", "39"),
        ("action", "Failed"),
        ("reason", "ManualCleanup"),
        ("source", "HttpApi"),
        ("actor", actor),
    ] {
        assert_eq!(event[field], value, "{event:#}");
    }
    let (_, told) = admin.get(explain).await;
    let last = told["records"].as_array().unwrap().last().unwrap();
    assert_eq!((&told["phase"], &last["reason"]), (&json!("failed"), &json!("ManualCleanup")), "{told:#}");
}

#[tokio::test]
async fn the_case_replayed() {
    let world = World::bare("apicase").await;
    world.sql(CASE).await;
    world.sql(THAT_DAY).await;
    world.prepare().await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let token = world.token("jobexec-administrator").await;
    let admin = https.with(&token);
    let store = world.named("jobs");
    let one = format!("{HEALTH}?store={store}");

    let health = admin.until(&one, |status, _| status == 200).await;
    assert_eq!((health["status"].as_str(), figures(&health)), (Some("healthy"), [1, 0, 1, 4]), "{health:#}");

    let (status, page) = admin.get(RUNNING).await;
    assert_eq!((status, ids(&page)), (200, vec!["39"]), "{page:#}");
    let row = &page["executions"][0];
    assert_eq!((row["job_id"].as_str(), row["execution_number"].as_i64()), (Some("21"), Some(5)), "{row:#}");
    let hours = row["runtime_seconds"].as_f64().unwrap() / 3_600.0;
    assert_eq!(format!("{hours:.1}"), "22.1");
    assert_eq!((row["stale"].as_str(), row["store"].as_str()), (None, Some(store.as_str())), "{row:#}");

    let explain = format!("/api/system/executions/{store}/39/explain");
    let (status, told) = admin.get(&explain).await;
    assert_eq!((status, told["stale"].as_str()), (200, None), "{told:#}");
    assert_eq!(told["stale_at"]["reason"], "DeadlineExceeded", "{told:#}");
    assert_eq!((&told["rules"][0]["field"], &told["rules"][0]["value"]), (&json!("timeout"), &json!("24h")));

    let before: String = world.one(ROWS).await;
    let (status, by_policies) = admin.post(CLEANUP).await;
    assert_eq!((status, &by_policies["cleaned"]), (200, &json!(0)), "nothing is stale: {by_policies:#}");
    let (status, dry) = admin.post(&format!("{CLEANUP}?max_hours=1&dry_run=true")).await;
    assert_eq!((status, ids(&dry), &dry["cleaned"]), (200, vec!["39"], &json!(1)), "{dry:#}");
    assert_eq!((&dry["executions"][0]["reason"], &dry["dry_run"]), (&json!("ManualCleanup"), &json!(true)));
    assert_eq!(world.one::<String>(ROWS).await, before, "a dry run changes nothing");

    let (status, done) = admin.post_json(CLEANUP, &json!({"max_hours": 1})).await;
    assert_eq!((status, ids(&done)), (200, vec!["39"]), "{done:#}");
    assert_eq!(done["message"], "Successfully cleaned up 1 stale execution");
    let row: (String, bool) = sqlx::query_as(
        "SELECT status, completed_at AT TIME ZONE 'UTC' BETWEEN now() - interval '1 minute' AND now() FROM job_executions WHERE id = 39",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(row, ("failed".to_owned(), true));

    let health = admin.until(&one, |_, health| figures(health) == [0, 0, 0, 4]).await;
    assert_eq!(health["status"], "healthy");
    assert!(ids(&admin.get(RUNNING).await.1).is_empty());

    recorded(&admin, &explain, &world.user("jobexec-administrator")).await;
    tokio::task::spawn_blocking(move || assert!(operator.stop().success(), "SIGTERM ends it in order"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_an_object_governs_is_left_alone_unless_it_is_included() {
    let world = World::new("apigoverned").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n, 1, 'running', now() - interval '2 hours' \
             FROM generate_series(1, 3) n",
        )
        .await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    world.execution("e", "2", json!({"timeout": "48h"})).await;
    world.execution_until(&operator, "e", |s| s.timeout.as_deref() == Some("2d")).await;
    let admin = https.with(&world.token("jobexec-administrator").await);
    let dry = format!("{CLEANUP}?dry_run=true&max_hours=0.5");
    let told = async |more: &str| {
        let (status, report) = admin.post(&format!("{dry}{more}")).await;
        assert_eq!(status, 200, "{report:#}");
        let skipped = report["executions"].as_array().unwrap().iter();
        let skipped: Vec<String> = skipped.map(|row| row["skipped"]["reason"].to_string()).collect();
        (report["cleaned"].as_u64(), report["skipped"].as_u64(), skipped.join(" "))
    };
    assert_eq!(told("").await, (Some(2), Some(1), "null \"Governed\" null".to_owned()));
    assert_eq!(told("&include_governed=true").await, (Some(3), Some(0), "null null null".to_owned()));
    let (_, report) = admin.post(&format!("{CLEANUP}?max_hours=0.5")).await;
    assert_eq!(report["message"], "Successfully cleaned up 2 stale executions");
    assert_eq!(world.status(2).await, "running");
}
