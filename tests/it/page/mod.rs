//! The page in a real browser.

mod forms;
mod picture;
mod plain;
mod stats;

use serde_json::json;

use crate::support::browser::{Browser, ENTER, TAB};
use crate::support::https::Https;
use crate::support::{Operator, World};

/// Jobs have types here, and one of them is hostile.
const TABLE: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz, \
     job_type text)";
const EVIL: &str = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>";

struct Stage {
    world: World,
    _operator: Operator,
    https: Https,
}

impl Stage {
    /// One execution runs for 22.1 h, one for minutes.
    async fn new(test: &str) -> Self {
        let spec = json!({"table": {"columns": {"jobType": "job_type"}}});
        let world = World::with(test, TABLE, &spec).await;
        world
            .sql(&format!(
                "INSERT INTO job_executions VALUES \
                 (39, 21, 5, 'running', now() - interval '22.1 hours', NULL, $${EVIL}$$), \
                 (40, 22, 1, 'running', now() - interval '7 minutes', NULL, 'report')"
            ))
            .await;
        let (operator, https) = world.serving(&[]).await;
        world.store(spec).await;
        let reader = https.with(&world.token("jobexec-reader").await);
        let health = format!("{}?store={}", crate::http::HEALTH, world.named("jobs"));
        reader.until(&health, |status, _| status == 200).await;
        Self { world, _operator: operator, https }
    }

    fn url(&self) -> String {
        format!("https://{}/", self.https.address())
    }

    /// Signs in with this role, without a mouse.
    async fn sign_in(&self, browser: &Browser, role: &str) {
        browser.open(&self.url()).await;
        browser.tab_to("token").await;
        browser.press(&format!("{}{ENTER}", self.world.token(role).await)).await;
        browser.until("document.getElementById('live')").await;
    }
}

/// Checks that the content security policy refused nothing, and no script failed.
async fn no_complaint(browser: &Browser) {
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_runs_is_shown_and_cleaned_up_without_a_mouse() {
    let Some(browser) = Browser::start("page::what_runs_is_shown_and_cleaned_up_without_a_mouse").await
    else {
        return;
    };
    let stage = Stage::new("pageshow").await;
    let world = &stage.world;
    stage.sign_in(&browser, "jobexec-administrator").await;
    assert_eq!(browser.value("document.cookie").await, "", "no script sees the token");
    assert_eq!(browser.text("#health h1").await, "Healthy");
    assert_eq!(
        browser.value("document.title").await,
        "Healthy · jobexec",
        "and nothing of a table took its place"
    );
    let running = browser.text("#running").await;
    for told in ["39", "21 #5", "22.1 h of 24.0 h", "long-running", EVIL, "40", "7 min of 24.0 h", "report"] {
        assert!(running.contains(told), "{told} in {running}");
    }
    assert_eq!(browser.value("document.querySelectorAll('#running img, #running script').length").await, 0);
    let share = "parseFloat(document.querySelector('#running .warn .fill').getAttribute('width'))";
    let share = browser.value(share).await.as_f64().unwrap();
    assert!((92.0..93.0).contains(&share), "22.1 h of 24 h are {share} %");

    // It refreshes by itself, and the input stays.
    browser.tab_to("max-hours").await;
    browser.press("1").await;
    world.sql("INSERT INTO job_executions VALUES (41, 23, 1, 'running', now(), NULL, 'mail')").await;
    browser.until("document.querySelector('#running').innerText.includes('mail')").await;
    assert_eq!(browser.value("document.getElementById('max-hours').value").await, "1");
    assert_eq!(browser.value("document.activeElement.id").await, "max-hours");

    browser.tab_to("dry-run").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#report h1')?.innerText === 'Would end 1 execution'").await;
    let report = browser.text("#report").await;
    assert!(report.contains("39") && report.contains("ManualCleanup") && !report.contains("40"), "{report}");
    assert_eq!(world.status(39).await, "running", "a dry run changes nothing");

    browser.tab_to("ask").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#report h1')?.innerText === 'End 1 execution?'").await;
    assert_eq!(browser.value("document.activeElement.id").await, "back", "Enter alone ends nothing");
    assert_eq!(world.status(39).await, "running");
    browser.press(TAB).await;
    assert_eq!(browser.value("document.activeElement.id").await, "do");
    browser.press(ENTER).await;
    browser.until("document.querySelector('#report h1')?.innerText === 'Ended 1 execution'").await;
    assert_eq!((world.status(39).await.as_str(), world.status(40).await.as_str()), ("failed", "running"));

    browser.tab_to("back").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('#events')?.innerText.includes('ManualCleanup')").await;
    let events = browser.text("#events").await;
    assert!(events.contains(&world.user("jobexec-administrator")), "{events}");
    no_complaint(&browser).await;
}

#[tokio::test]
async fn an_execution_without_a_deadline_is_shown_with_its_age_alone() {
    let test = "page::an_execution_without_a_deadline_is_shown_with_its_age_alone";
    let Some(browser) = Browser::start(test).await else { return };
    let stage = Stage::new("pagenever").await;
    stage.world.policy("servers", json!({"timeout": "Never", "selector": {"jobIds": ["21"]}})).await;
    stage.world.until_true("SELECT EXISTS (SELECT FROM jobexec.rules WHERE key = '21')").await;
    stage.sign_in(&browser, "jobexec-reader").await;
    let cells = |row: u8| {
        format!(
            "[...document.querySelectorAll('#running tbody tr:nth-child({row}) td')].map(cell => cell.innerText.trim())"
        )
    };
    let (first, second) = (browser.value(&cells(1)).await, browser.value(&cells(2)).await);
    assert_eq!((&first[2], &first[3]), (&json!("22.1 hlong-running"), &json!("Never")), "{first}");
    assert!(second[2].as_str().unwrap().starts_with("7 min of 24.0 h"), "{second}");
    assert!(second[3].as_str().unwrap().starts_with("in "), "{second}");
    no_complaint(&browser).await;
}

#[tokio::test]
async fn the_plot_is_drawn() {
    let Some(browser) = Browser::start("page::the_plot_is_drawn").await else { return };
    let stage = Stage::new("pageplot").await;
    stage
        .world
        .sql(
            "INSERT INTO jobexec.samples SELECT s.store_id, date_trunc('minute', now()) - n * interval '1 minute', \
             n % 7, 0, 1, 0, (n = 60)::int FROM jobexec.stores s, generate_series(1, 600) n WHERE n NOT BETWEEN 200 AND 300",
        )
        .await;
    stage.sign_in(&browser, "jobexec-reader").await;
    browser.until("document.querySelector('#plot[data-drawn] canvas')").await;
    let told = browser.text("#history figcaption").await;
    assert_eq!(told, "At most 6 running, at most 1 long-running, 1 failed or cancelled.");
    // It shows something in more than one colour.
    let colours = "const c = document.querySelector('#plot canvas'); \
         const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const seen = new Set(); \
         for (let i = 0; i < d.length; i += 4) if (d[i + 3] === 255) seen.add(d[i] + ',' + d[i + 1] + ',' + d[i + 2]); \
         return seen.size";
    assert!(browser.run(colours).await.as_i64().unwrap() > 3);
    no_complaint(&browser).await;
}

#[tokio::test]
async fn who_may_only_read_is_offered_nothing_else() {
    let Some(browser) = Browser::start("page::who_may_only_read_is_offered_nothing_else").await else {
        return;
    };
    let stage = Stage::new("pageread").await;
    browser.open(&stage.url()).await;
    assert_eq!(browser.value("document.activeElement.id").await, "token", "typing can begin");
    browser.press(&format!("nonsense{ENTER}")).await;
    browser.until("document.getElementById('error')").await;
    assert!(browser.text("#error").await.contains("the token was rejected"));

    stage.sign_in(&browser, "jobexec-reader").await;
    assert!(browser.text("#running").await.contains("39"));
    assert_eq!(browser.value("document.getElementById('clean-up')").await, json!(null));
    // Sending the form nevertheless has no effect.
    browser
        .run(
            "const form = document.createElement('form'); form.method = 'post'; form.action = '/clean-up'; \
             form.innerHTML = '<input name=max_hours value=1><input name=step value=do>'; \
             document.body.append(form); form.submit()",
        )
        .await;
    browser.until("document.getElementById('problem')").await;
    let problem = browser.text("#problem").await;
    assert!(problem.contains("may not create executionstores.jobexec.dev/cleanup"), "{problem}");
    assert_eq!(stage.world.status(39).await, "running");
    no_complaint(&browser).await;

    // Signing out ends the session.
    browser.open(&stage.url()).await;
    browser.run("document.querySelector('form[action=\"/sign-out\"] button').focus()").await;
    browser.press(ENTER).await;
    browser.until("document.getElementById('token')").await;
    browser.open(&stage.url()).await;
    assert_eq!(browser.value("document.getElementById('live')").await, json!(null));
}
