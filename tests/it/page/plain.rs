//! The page without a script shows and does the same; several stores at once; ids that are HTML.

use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

use super::{EVIL, Stage, no_complaint};
use crate::http::HEALTH;
use crate::support::World;
use crate::support::browser::{Browser, DOWN, ENTER};

/// A second table, whose ids and jobs are hostile texts.
const RUNS: &str = "CREATE TABLE runs (id text PRIMARY KEY, job_id text NOT NULL, execution_number integer NOT NULL, \
     status text NOT NULL, started_at timestamptz, completed_at timestamptz, job_type text)";
const EVIL_ID: &str = "</td><b class=pwned onclick=\"document.title='pwned'\">7</b>&lt;";
const EVIL_JOB: &str = "'\"><svg/onload=\"document.title='pwned'\">";

/// Two stores: in `others` one execution has run for hours, and one was failed.
async fn two_stores(test: &str) -> Stage {
    let stage = Stage::new(test).await;
    let world = &stage.world;
    world.sql(RUNS).await;
    let spec = json!({"table": {"name": "runs", "columns": {"jobType": "job_type"}}});
    world.prepare_for(&spec).await;
    for (id, hours) in [(EVIL_ID, 5.0), ("</table>late", 30.0)] {
        sqlx::query(
            "INSERT INTO runs VALUES ($1, $2, 1, 'running', now() - $3 * interval '1 hour', NULL, $4)",
        )
        .bind(id)
        .bind(EVIL_JOB)
        .bind(hours)
        .bind(EVIL)
        .execute(&world.pool)
        .await
        .unwrap();
    }
    world.apply::<ExecutionStore>("others", World::store_with("others", spec)).await.unwrap();
    let reader = stage.https.with(&world.token("jobexec-reader").await);
    let figures = |health: &Value| {
        ["running_executions", "long_running_executions"].map(|name| health["metrics"][name].as_i64())
    };
    let path = format!("{HEALTH}?store={}", world.named("others"));
    reader.until(&path, |_, health| figures(health) == [Some(1), Some(1)]).await;
    world
        .sql(
            "INSERT INTO jobexec.samples SELECT store_id, date_trunc('minute', now()) - interval '2 hours', \
             4, 0, 3, 0, 2 FROM jobexec.stores",
        )
        .await;
    stage
}

/// Checks the content of the page, with or without a script.
async fn all_is_told(browser: &Browser, stage: &Stage) {
    let text = browser.text("body").await;
    let (jobs, others) = (stage.world.named("jobs"), stage.world.named("others"));
    for told in [
        "2 stores",
        "39",
        "21 #5",
        "22.1 h of 24.0 h",
        "40",
        "7 min of 24.0 h",
        EVIL_ID,
        &format!("{EVIL_JOB} #1"),
        "5.0 h of 24.0 h",
        EVIL,
        &jobs,
        &others,
        "At most 8 running, at most 6 long-running, 4 failed or cancelled.",
        "</table>late",
        "DeadlineExceeded",
        "ExecutionStore/others",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
    let pwned = "document.querySelectorAll('.pwned, main img, main script, main svg[onload]').length";
    assert_eq!(browser.value(pwned).await, 0, "what a table holds is text");
    assert_eq!(browser.value("document.querySelectorAll('#running tbody tr').length").await, 3);
    assert_eq!(browser.value("document.title").await, "Healthy · jobexec");
}

#[tokio::test]
async fn without_a_script_all_is_told_and_can_be_done() {
    let Some(browser) = Browser::start("page::without_a_script_all_is_told_and_can_be_done").await else {
        return;
    };
    let stage = Box::pin(two_stores("pageplain")).await;
    let world = &stage.world;
    let (jobs, others) = (world.named("jobs"), world.named("others"));
    stage.sign_in(&browser, "jobexec-administrator").await;
    all_is_told(&browser, &stage).await;
    // The same for content that the script inserts later.
    world.sql("UPDATE runs SET job_type = job_type || '<b class=pwned>late</b>'").await;
    browser.until("document.querySelector('#running').innerText.includes('<b class=pwned>late</b>')").await;
    all_is_told(&browser, &stage).await;
    no_complaint(&browser).await;

    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true})).await;
    browser.open(&stage.url()).await;
    browser.until("document.getElementById('live')").await;
    assert_eq!(browser.value("document.querySelector('noscript meta')?.content").await, "30", "it refreshes");
    assert_eq!(browser.value("document.querySelector('[data-drawn]')").await, json!(null), "no script ran");
    all_is_told(&browser, &stage).await;

    // One store alone, and back.
    browser.tab_to(&format!("store-{others}")).await;
    browser.press(ENTER).await;
    browser.until("document.querySelectorAll('#running tbody tr').length === 1").await;
    let health = browser.text("#health").await;
    assert!(health.contains(&others) && !health.contains(&jobs), "{health}");
    browser.open(&stage.url()).await;

    // A dry run for both stores.
    browser.tab_to("max-hours").await;
    browser.press("1").await;
    browser.tab_to("dry-run").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#report h1')?.innerText === 'Would end 2 executions'").await;
    let report = browser.text("#report").await;
    for told in ["39", EVIL_ID, EVIL_JOB, &jobs, &others, "would be failed"] {
        assert!(report.contains(told), "{told} in {report}");
    }
    assert_eq!(browser.value("document.querySelectorAll('.pwned').length").await, 0);
    browser.tab_to("back").await;
    browser.press(ENTER).await;
    browser.until("document.getElementById('live')").await;

    // A real run for the second store.
    browser.tab_to("store").await;
    browser.press(&format!("{DOWN}{DOWN}")).await;
    assert_eq!(browser.value("document.getElementById('store').value").await, json!(others));
    browser.tab_to("max-hours").await;
    browser.press("1").await;
    browser.tab_to("ask").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#report h1')?.innerText === 'End 1 execution?'").await;
    assert_eq!(browser.value("document.activeElement.id").await, "back", "Enter alone ends nothing");
    browser.tab_to("do").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#report h1')?.innerText === 'Ended 1 execution'").await;
    let failed: Vec<String> =
        world.one("SELECT array_agg(id ORDER BY id) FROM runs WHERE status = 'failed'").await;
    assert_eq!(failed, ["</table>late", EVIL_ID]);
    assert_eq!(world.status(39).await, "running", "the other store was left alone");
    assert_eq!(browser.value("document.querySelectorAll('.pwned').length").await, 0);
    no_complaint(&browser).await;
}
