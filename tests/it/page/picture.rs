//! The picture in the README.

use serde_json::json;

use super::TABLE;
use crate::support::World;
use crate::support::browser::{Browser, ENTER};

/// The rows of a typical day.
const ROWS: &str = "INSERT INTO job_executions VALUES \
     (4127, 21, 118, 'running', now() - interval '22.1 hours', NULL, 'nightly-export'), \
     (4160, 34, 12, 'running', now() - interval '9.6 hours', NULL, 'warehouse-sync'), \
     (4181, 7, 431, 'running', now() - interval '2.4 hours', NULL, 'invoice-run'), \
     (4188, 55, 3, 'running', now() - interval '51 minutes', NULL, 'reindex'), \
     (4191, 12, 2210, 'running', now() - interval '14 minutes', NULL, 'mail-digest'), \
     (4192, 12, 2211, 'running', now() - interval '3 minutes', NULL, 'mail-digest'), \
     (4193, 9, 77, 'scheduled', NULL, NULL, 'thumbnails'); \
     INSERT INTO job_executions SELECT n, n % 9, n, 'completed', now() - n * interval '20 minutes', \
         now() - n * interval '19 minutes', 'report' FROM generate_series(1, 60) n";

/// The records of that day.
const RECORDS: &str = "INSERT INTO jobexec.samples \
     SELECT s.store_id, date_trunc('minute', now()) - n * interval '1 minute', \
         (7 + 4 * sin(n / 190.0) + 2 * sin(n / 31.0))::int, 1, greatest(0, (1.4 + 1.6 * sin(n / 240.0))::int), 0, \
         CASE n WHEN 96 THEN 1 WHEN 410 THEN 3 WHEN 413 THEN 1 WHEN 815 THEN 2 WHEN 1230 THEN 1 ELSE 0 END \
     FROM jobexec.stores s, generate_series(1, 1435) n; \
     INSERT INTO jobexec.events (at, store_id, execution_id, job_id, execution_number, action, reason, source, actor) \
     SELECT now() - v.ago::interval, s.store_id, v.id, v.job, v.number, v.action, v.reason, v.source, v.actor \
     FROM jobexec.stores s, (VALUES \
         ('20.5 hours', '3980', '7', 429, 'Failed', 'DeadlineExceeded', 'ExecutionPolicy/invoices', NULL), \
         ('13.6 hours', '4044', '34', 11, 'Failed', 'HeartbeatLost', 'ExecutionPolicy/alive', NULL), \
         ('6.9 hours', '4101', '12', 2187, 'Failed', 'ManualCleanup', 'HttpApi', 'system:serviceaccount:jobs:night-shift'), \
         ('1.6 hours', '4150', '55', 2, 'Failed', 'DeadlineExceeded', 'ExecutionPolicy/reindex', NULL)) \
         AS v (ago, id, job, number, action, reason, source, actor) ORDER BY v.ago::interval DESC";

/// Writes docs/page.png, and the same in dark mode and for a phone to the folder in `PICTURES`.
#[tokio::test]
#[ignore = "it takes the picture in the README: make test ARGS='--test it -- --ignored page::picture'"]
async fn it_is_taken() {
    let Some(browser) = Browser::start("page::picture").await else { return };
    let spec = json!({
        "table": {"columns": {"jobType": "job_type"}},
        "defaultTimeout": "24h", "longRunning": {"after": "8h", "threshold": 5},
    });
    let world = World::with("jobs", TABLE, &spec).await;
    world.sql(ROWS).await;
    let (operator, https) = world.serving(&[]).await;
    world.store(spec).await;
    world.policy("invoices", json!({"selector": {"jobIds": ["7"]}, "timeout": "4h"})).await;
    world.policy("mails", json!({"selector": {"jobTypes": ["mail-digest"]}, "timeout": "20m"})).await;
    world.policy("reindex", json!({"selector": {"jobIds": ["55"]}, "timeout": "1h"})).await;
    world.store_until(&operator, |status| status.metrics.is_some()).await;
    world.sql("DELETE FROM jobexec.events").await;
    world.sql(RECORDS).await;
    browser.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": "UTC"})).await;
    browser.open(&format!("https://{}/", https.address())).await;
    browser.press(&format!("{}{ENTER}", world.token("jobexec-administrator").await)).await;
    browser.until("document.getElementById('live')").await;
    let docs = format!("{}/docs", env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var("PICTURES").ok();
    for (name, scheme, width) in [
        ("page", "light", 1_100),
        ("dark", "dark", 1_100),
        ("phone", "light", 390),
        ("phone-dark", "dark", 390),
    ] {
        let Some(folder) = (if name == "page" { Some(&docs) } else { folder.as_ref() }) else { continue };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &media).await;
        let mut size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500});
        browser.devtools("Emulation.setDeviceMetricsOverride", &size).await;
        browser.open(&format!("https://{}/", https.address())).await;
        browser.until("document.querySelector('#plot[data-drawn]')").await;
        size["height"] = browser.value("document.documentElement.scrollHeight").await;
        browser.devtools("Emulation.setDeviceMetricsOverride", &size).await;
        let overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.value(overflow).await, false, "{name} scrolls sideways");
        std::fs::write(format!("{folder}/{name}.png"), browser.picture().await).unwrap();
    }
}
