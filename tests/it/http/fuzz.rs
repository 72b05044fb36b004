//! Schemathesis (`PyPI`) against the live API: whatever the `OpenAPI` document allows or forbids, responses match it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::{CLEANUP, EXECUTIONS, HEALTH, HISTORY, RUNNING};
use crate::support::{World, machine, rbac};

const TEST: &str = "http::fuzz::the_answers_are_as_the_document_says";

/// Executions of each kind; each one that ends is replaced by a running one, so that there is always something to clean
/// up. That of the examples is failed, and stays so while the store only observes, so that there is one to retry.
const ROWS: &str = "CREATE SEQUENCE ids START 1000; \
     INSERT INTO job_executions SELECT n, n % 7, n, 'running', now() - n * interval '20 minutes' FROM generate_series(1, 120) n; \
     INSERT INTO job_executions VALUES (201, 21, 5, 'running', NULL, NULL), (202, 21, 6, 'scheduled', NULL, NULL), \
         (203, 21, 4, 'completed', now() - interval '2 hours', now()); \
     UPDATE job_executions SET job_id = 21, status = 'failed', completed_at = now() WHERE id = 39; \
     CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
         INSERT INTO public.job_executions VALUES \
             (nextval('public.ids'), NEW.job_id, NEW.execution_number, 'running', NEW.started_at, NULL); \
         RETURN NULL; END $$; \
     CREATE TRIGGER again AFTER UPDATE ON job_executions FOR EACH ROW WHEN (NEW.status = 'failed') \
         EXECUTE FUNCTION again()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_are_as_the_document_says() {
    let Some(program) =
        machine::needs(TEST, machine::Part::Tool("schemathesis"), machine::program("schemathesis"))
    else {
        return;
    };
    let world = World::new("apifuzz").await;
    world.sql(ROWS).await;
    let (operator, https) = world.serving(&[("AUTH_CACHE_TTL", "1h")]).await;
    let retry = json!({"method": "InPlace"});
    world.store(json!({"mode": "Observe", "pollInterval": "1h", "table": {"retry": retry}})).await;
    let token = everywhere(&world).await;
    let admin = https.with(&token);
    let store = world.named("jobs");
    for path in [HEALTH, EXECUTIONS, RUNNING, HISTORY] {
        admin.until(&format!("{path}?store={store}"), |status, _| status == 200).await;
    }
    // So that the history has more than one page, too.
    assert_eq!(admin.post(&format!("{CLEANUP}?max_hours=0.1")).await.1["cleaned"], 119);
    let by_hand: i64 = world.one("SELECT count(*) FROM jobexec.events").await;

    // Its examples name an existing store.
    let document = admin.until("/api/openapi.json", |status, _| status == 200).await.to_string();
    let document = document
        .replace("default/jobs", &store)
        .replace(r#""example":"default""#, &format!(r#""example":"{}""#, world.namespace));
    let document = world.file("openapi.json", &document);
    let url = format!("https://{}", https.address());
    let output =
        tokio::task::spawn_blocking(move || schemathesis(&program, &document, &url, &token)).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let recorded: i64 = world.one("SELECT count(*) FROM jobexec.events").await;
    assert!(recorded > by_hand, "it cleaned up nothing");
    assert!(operator.stop().success());
}

/// A token of an administrator of all stores.
async fn everywhere(world: &World) -> String {
    for role in ["jobexec-administrator", "jobexec-health"] {
        let subject = json!({"kind": "ServiceAccount", "name": "fuzz", "namespace": world.namespace});
        rbac::bind(&world.client, None, role, subject).await;
    }
    rbac::token(&world.client, &world.namespace, "fuzz", &[]).await
}

fn schemathesis(program: &PathBuf, document: &str, url: &str, token: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(program)
        .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/http/schemathesis.toml")])
        .args(["--no-color", "run", document])
        .env("JOBEXEC_HOOKS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/http/schemathesis_hooks.py"))
        .env("JOBEXEC_URL", url)
        .env("JOBEXEC_TOKEN", token)
        .env("NO_PROXY", "*")
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
