//! Lists of several stores: in order, filtered, page by page.

use serde_json::{Value, json};

use super::{EXECUTIONS, HEALTH, HISTORY, RUNNING, figures, ids};
use crate::support::https::Https;
use crate::support::{Operator, World};

/// Running and scheduled executions in `job_executions` and in the table of the spec `others`.
async fn executions_in_two_tables(world: &World, others: &Value) {
    world
        .sql(
            "CREATE TABLE others (LIKE job_executions INCLUDING ALL); \
             INSERT INTO job_executions SELECT n, n % 3, n, 'running', now() - n * interval '20 minutes' \
                 FROM generate_series(1, 20) n; \
             INSERT INTO others SELECT 100 + n, n % 3, n, 'running', now() - n * interval '30 minutes' \
                 FROM generate_series(1, 10) n; \
             INSERT INTO job_executions VALUES (90, 1, 90, 'running', NULL), (91, 1, 91, 'scheduled', NULL)",
        )
        .await;
    world.prepare_for(others).await;
}

/// One of them cannot be read: the other one is returned, with the reason for this one.
async fn one_unreadable(world: &World, operator: &Operator, reader: &Https) {
    world.sql("ALTER TABLE others RENAME TO gone").await;
    world.request_sweep(operator).await;
    let health = reader.until(&format!("{HEALTH}?store={}", world.named("others")), |s, _| s == 503).await;
    assert_eq!((&health["status"], &health["reason"]), (&json!("unhealthy"), &json!("TableNotFound")));
    assert!(health["message"].as_str().unwrap().contains("others"), "{health:#}");
    let page = reader.until(RUNNING, |_, page| page["unavailable"] != json!([])).await;
    assert_eq!(ids(&page).len(), 21, "{page:#}");
    assert_eq!(page["unavailable"][0]["store"], world.named("others"), "{page:#}");
    assert_eq!(reader.get(&format!("{RUNNING}?store={}", world.named("others"))).await.0, 503);
    assert_eq!(reader.get(HEALTH).await.0, 503, "the worst of all");
}

#[tokio::test]
async fn the_executions_of_all_stores_come_in_one_order_page_by_page() {
    let world = World::new("apipages").await;
    let others = json!({"table": {"name": "others"}});
    executions_in_two_tables(&world, &others).await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let second = World::store_with("others", others);
    world.apply::<jobexec_operator::api::ExecutionStore>("others", second).await.unwrap();
    for store in ["jobs", "others"] {
        world.store_named_until(&operator, store, |s| s.metrics.is_some()).await;
    }
    let reader = https.with(&world.token("jobexec-reader").await);
    let expected: String = world
        .one(
            "SELECT string_agg(id::text, ' ' ORDER BY started_at, id) FROM \
             (SELECT id, started_at FROM job_executions WHERE status = 'running' UNION ALL SELECT id, started_at FROM others) AS all_",
        )
        .await;
    let (mut seen, mut query) = (Vec::new(), "limit=7".to_owned());
    loop {
        let (status, page) = reader.get(&format!("{RUNNING}?{query}")).await;
        assert_eq!((status, &page["unavailable"]), (200, &json!([])), "{page:#}");
        assert!(ids(&page).len() <= 7);
        seen.extend(ids(&page).into_iter().map(ToOwned::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=7&cursor={next}");
    }
    assert_eq!(seen.join(" "), expected);

    let list = async |query: &str| {
        let (status, page) = reader.get(&format!("{RUNNING}?{query}")).await;
        assert_eq!(status, 200, "{page:#}");
        ids(&page).join(" ")
    };
    assert_eq!(list("older_than=290m").await, "20 19 18 17 16 15 110");
    assert_eq!(list(&format!("store={}&job=2&limit=2", world.named("others"))).await, "108 105");
    assert_eq!(list("stale=true").await, "");
    // The latest start comes first, across both stores.
    let (status, page) = reader.get(&format!("{EXECUTIONS}?which=all&limit=500")).await;
    let all: String = world
        .one(
            "SELECT string_agg(id::text, ' ' ORDER BY started_at DESC NULLS LAST, id > 100, id DESC) FROM \
             (SELECT id, started_at FROM job_executions UNION ALL SELECT id, started_at FROM others) AS all_",
        )
        .await;
    assert_eq!((status, ids(&page).join(" ")), (200, all));

    // The totals of both, for a caller who may get the path.
    let subject = json!({"kind": "ServiceAccount", "name": "jobexec-reader", "namespace": world.namespace});
    crate::support::rbac::bind(&world.client, None, "jobexec-health", subject).await;
    let health = reader.until(HEALTH, |status, _| status != 403).await;
    assert_eq!(
        (figures(&health)[0], figures(&health)[1], &health["stores"]),
        (31, 1, &json!(2)),
        "{health:#}"
    );

    one_unreadable(&world, &operator, &reader).await;
}

#[tokio::test]
async fn what_was_done_is_told_the_latest_first() {
    let world = World::new("apihistory").await;
    world
        .sql(
            "INSERT INTO job_executions SELECT n, n % 2, n, 'running', now() - interval '25 hours' \
             FROM generate_series(1, 9) n",
        )
        .await;
    let (operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    world.store_until(&operator, |s| s.last_sweep.as_ref().is_some_and(|sweep| sweep.failed == 9)).await;
    let reader = https.with(&world.token("jobexec-reader").await);
    let (mut seen, mut query, mut pages) = (Vec::new(), "limit=4".to_owned(), 0);
    loop {
        let (status, page) = reader.get(&format!("{HISTORY}?{query}")).await;
        assert_eq!(status, 200, "{page:#}");
        let events = page["events"].as_array().unwrap();
        seen.extend(events.iter().map(|event| event["execution_id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=4&cursor={next}");
    }
    seen.sort();
    assert_eq!((seen.join(""), pages), ("123456789".to_owned(), 3));
    let events =
        async |query: &str| -> Value { reader.get(&format!("{HISTORY}?{query}")).await.1["events"].take() };
    assert_eq!(events("id=3").await[0]["reason"], "DeadlineExceeded");
    assert_eq!(events("job=0").await.as_array().unwrap().len(), 4);
    world.sql("UPDATE jobexec.events SET at = at - interval '2 hours' WHERE execution_id = '1'").await;
    assert_eq!(events("since=1h").await.as_array().unwrap().len(), 8);
}
