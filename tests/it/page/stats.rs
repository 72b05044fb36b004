//! The execution statistics on a page of their own.

use jobexec_operator::api::ExecutionStore;
use reqwest::Method;
use reqwest::header::COOKIE;
use serde_json::json;

use super::{EVIL, Stage, no_complaint};
use crate::http::HEALTH;
use crate::support::World;
use crate::support::browser::{Browser, ENTER};

/// Four executions of one type have ended just now, three of them successfully; one of another type ended days ago.
async fn ended(stage: &Stage) {
    let world = &stage.world;
    world
        .sql(&format!(
            "INSERT INTO job_executions SELECT 100 + n, 21, n, CASE n WHEN 1 THEN 'failed' ELSE 'completed' END, \
                 now() - interval '1 minute' - n * interval '2 seconds', now() - interval '1 minute', $${EVIL}$$ \
             FROM generate_series(1, 4) n; \
             INSERT INTO job_executions VALUES \
                 (110, 22, 2, 'completed', now() - interval '50 hours', now() - interval '48 hours', 'report')"
        ))
        .await;
}

#[tokio::test]
async fn stats_are_shown_without_a_script() {
    let Some(browser) = Browser::start("page::stats::stats_are_shown_without_a_script").await else {
        return;
    };
    let stage = Stage::new("pagepatterns").await;
    ended(&stage).await;
    let (world, url) = (&stage.world, stage.url());
    stage.sign_in(&browser, "jobexec-reader").await;
    assert_eq!(browser.value("document.querySelector('#live #to-stats')").await, json!(null), "it stays");
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true})).await;
    browser.tab_to("since-7d").await;
    browser.press(ENTER).await;
    browser.until("document.querySelectorAll('#stats tbody tr').length === 2").await;
    let text = browser.text("#stats").await;
    for told in ["in the last 7 days, of 1 store", EVIL, "75.0 %", "6.00 s", "8.00 s", "report", "2.0 h"] {
        assert!(text.contains(told), "{told} in {text}");
    }
    assert_eq!(browser.value("document.querySelectorAll('main img, main script').length").await, 0);
    assert_eq!(browser.value("document.title").await, "Execution statistics · jobexec");
    assert_eq!(
        browser.value("document.querySelector('meta[http-equiv]')").await,
        json!(null),
        "once is enough"
    );

    // A shorter time, and one without a link; the present one is marked.
    browser.tab_to("since-24h").await;
    browser.press(ENTER).await;
    browser.until("document.querySelectorAll('#stats tbody tr').length === 1").await;
    assert_eq!(browser.value("document.querySelector('[aria-current=page]').id").await, "since-24h");
    browser.open(&format!("{url}stats?since=48h30m")).await;
    browser.until("document.querySelectorAll('#stats tbody tr').length === 2").await;
    assert!(browser.text("#stats").await.contains("in the last 2d30m"));
    browser.open(&format!("{url}stats?since=1s&store={}", world.named("jobs"))).await;
    browser.until("document.querySelector('#stats .none')").await;

    // Another store has no statistics, and the page shows why.
    let broken = World::store_with("broken", json!({"connection": {"secretRef": {"name": "none"}}}));
    world.apply::<ExecutionStore>("broken", broken).await.unwrap();
    let reader = stage.https.with(&world.token("jobexec-reader").await);
    let broken = world.named("broken");
    reader.until(&format!("{HEALTH}?store={broken}"), |status, _| status != 404).await;
    // Of many types only a limited number is shown.
    world
        .sql("INSERT INTO job_executions SELECT 1000 + n, n, 1, 'completed', now(), now(), 'type ' || n FROM generate_series(1, 100) n")
        .await;
    browser.open(&format!("{url}stats")).await;
    browser.until("document.querySelectorAll('#stats tbody tr').length === 100").await;
    let text = browser.text("#stats").await;
    for told in [&broken, "of 2 stores", "75.0 %", "with the most executions"] {
        assert!(text.contains(told), "{told} in {text}");
    }
    assert!(browser.text("#stats .error").await.starts_with(&broken));
    browser.open(&format!("{url}stats?store={broken}")).await;
    browser.until("document.querySelector('#stats .error')").await;
    assert_eq!(browser.value("document.querySelectorAll('#stats .periods a').length").await, 3);
    no_complaint(&browser).await;
}

#[tokio::test]
async fn who_may_not_see_them_does_not_and_what_cannot_be_meant_is_refused() {
    let stage = Stage::new("pagepatternsbad").await;
    let status = async |query: &str, token: Option<&str>| {
        let mut request = stage.https.request(Method::GET, &format!("/stats{query}"));
        if let Some(token) = token {
            request = request.header(COOKIE, format!("__Host-jobexec={token}"));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"), "{query}");
        status
    };
    let reader = stage.world.token("jobexec-reader").await;
    let jobs = stage.world.named("jobs");
    for (query, expected) in [
        (format!("?store={jobs}"), 200),
        ("?since=&store=".to_owned(), 200),
        ("?since=yesterday".to_owned(), 400),
        ("?since=0s".to_owned(), 400),
        ("?since=721h".to_owned(), 400),
        ("?store=%25/_".to_owned(), 400),
        ("?store=jobs".to_owned(), 400),
        ("?store=elsewhere/jobs".to_owned(), 404),
    ] {
        assert_eq!(status(&query, Some(&reader)).await, expected, "{query}");
    }
    assert_eq!(status("", None).await, 401);
    let other = stage.world.token("jobexec-health").await;
    assert_eq!(status("", Some(&other)).await, 403);
    assert_eq!(status(&format!("?store={jobs}"), Some(&other)).await, 403);
}
