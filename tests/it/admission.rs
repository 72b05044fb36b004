//! Objects that the API server refuses before the operator sees them, with a message that explains why.

use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::support::World;

async fn refused_store(world: &World, spec: Value) -> String {
    let outcome = world.apply::<ExecutionStore>("bad", World::store_with("bad", spec.clone())).await;
    outcome.map(|_| spec).expect_err("must be refused").to_string()
}

fn notify(channel: &Value) -> Value {
    json!({"notifications": {"channels": [channel]}})
}

#[tokio::test]
async fn a_store_with_a_wrong_duration_is_refused() {
    let world = World::bare("wrongtimes").await;
    for (spec, part) in [
        (json!({"defaultTimeout": "0s"}), "must be longer than 0"),
        (json!({"defaultTimeout": "0h0m"}), "must be longer than 0"),
        (json!({"defaultTimeout": "-5m"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "1h-5m"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": ""}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "0d"}), "must be longer than 0"),
        (json!({"defaultTimeout": "0d0h"}), "must be longer than 0"),
        (json!({"defaultTimeout": "d"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "4h3d"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "1d2d"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "1d1h1h"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "10000d"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "1.5d"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": "1.5h"}), "spec.defaultTimeout"),
        (json!({"defaultTimeout": 24}), "spec.defaultTimeout"),
        (json!({"gracePeriod": "-1s"}), "spec.gracePeriod"),
        (json!({"sweepInterval": "9s"}), "at least 10s"),
        (json!({"sweepInterval": "0d9s999ms"}), "at least 10s"),
        (json!({"history": {"retention": "23h59m"}}), "at least 24h"),
        (
            json!({"history": {"retention": "0d24h"}, "connection": {"statementTimeout": "0d10m1ms"}}),
            "at most 10m",
        ),
        (json!({"connection": {"statementTimeout": "1d"}}), "at most 10m"),
        (json!({"pollInterval": "999ms"}), "at least 1s"),
        (json!({"longRunning": {"after": "0s"}}), "longer than 0"),
        (json!({"connection": {"statementTimeout": "99ms"}}), "at least 100ms"),
        (json!({"notifications": {"channels": [], "giveUpAfter": "30s"}}), "at least 1m"),
        (json!({"notifications": {"channels": [], "groupWait": "2h"}}), "at most 1h"),
        (json!({"notifications": {"channels": [], "groupWait": "1d"}}), "at most 1h"),
        (json!({"notifications": {"channels": [], "groupInterval": "1d1ms"}}), "at most 24h"),
        (json!({"notifications": {"channels": [], "giveUpAfter": "7d1s"}}), "at most 168h"),
    ] {
        let error = refused_store(&world, spec.clone()).await;
        assert!(error.contains(part), "{spec}: {part} not in {error}");
    }
}

#[tokio::test]
async fn a_store_that_makes_no_sense_is_refused() {
    let world = World::bare("admission").await;
    for (spec, part) in [
        (json!({"longRunning": {"threshold": -1}}), "threshold"),
        (json!({"mode": "Off"}), "spec.mode"),
        (json!({"connection": {"poolSize": 0}}), "poolSize"),
        (json!({"connection": {"poolSize": 4_294_967_296_i64}}), "poolSize"),
        (json!({"table": {"name": "\"; drop table job_executions; --"}}), "spec.table.name"),
        (json!({"table": {"schema": "public; drop"}}), "spec.table.schema"),
        (json!({"table": {"name": "x".repeat(64)}}), "spec.table.name"),
        (json!({"table": {"columns": {"id": "id'--"}}}), "columns.id"),
        (json!({"table": {"columns": {"status": ""}}}), "columns.status"),
        (json!({"table": {"statuses": {"running": []}}}), "statuses.running"),
        (json!({"table": {"statuses": {"running": ["failed"]}}}), "only once, in one list"),
        (json!({"table": {"statuses": {"running": ["a", "a"]}}}), "only once, in one list"),
        (json!({"table": {"statuses": {"paused": ["running"]}}}), "only once, in one list"),
        (json!({"table": {"statuses": {"paused": ["a"], "ignored": ["a"]}}}), "only once, in one list"),
        (json!({"table": {"timeZone": ""}}), "timeZone"),
        (json!({"table": {"filter": [{"column": "app"}]}}), "exactly one of equals, in, isNull and notNull"),
        (json!({"table": {"filter": [{"column": "app", "in": ["a"], "notNull": true}]}}), "exactly one of"),
        (json!({"table": {"filter": [{"column": "app", "isNull": false}]}}), "can only be true"),
        (
            json!({
                "table": {"columns": {"heartbeatAt": "beat"}},
                "heartbeat": {"table": "workers", "key": "id", "by": "worker", "at": "seen"},
            }),
            "set one of them",
        ),
        (json!({"heartbeat": {"table": "workers", "key": "id", "by": "worker"}}), "heartbeat.at"),
        (json!({"table": {"filter": [{"column": "app", "in": []}]}}), "filter[0].in"),
        (json!({"table": {"filter": [{"column": "app' OR true", "isNull": true}]}}), "filter[0].column"),
    ] {
        let error = refused_store(&world, spec.clone()).await;
        assert!(error.contains(part), "{spec}: {part} not in {error}");
    }
    let long = "x".repeat(64);
    let outcome = world.apply::<ExecutionStore>(&long, World::store_with(&long, json!({}))).await;
    assert!(outcome.expect_err("must be refused").to_string().contains("at most 63"));
}

#[tokio::test]
async fn a_store_whose_reference_to_a_secret_is_no_name_is_refused() {
    let world = World::bare("wrongsecrets").await;
    for (spec, part) in [
        (json!({"connection": {"secretRef": {"name": ""}}}), "secretRef.name"),
        (json!({"connection": {"secretRef": {"name": "job-database?x=1"}}}), "secretRef.name"),
        (json!({"connection": {"secretRef": {"name": "../../team-b/secrets/target"}}}), "secretRef.name"),
        (json!({"connection": {"secretRef": {"name": "a%2Fb"}}}), "secretRef.name"),
        (json!({"connection": {"secretRef": {"name": "a..b"}}}), "secretRef.name"),
        (json!({"connection": {"secretRef": {"name": "a", "key": "a/b"}}}), "secretRef.key"),
        (json!({"connection": {"caSecretRef": {"name": "a/b", "key": "ca"}}}), "caSecretRef.name"),
        (
            notify(&json!({"name": "a", "webhook": {"urlSecretRef": {"name": "a/../b", "key": "url"}}})),
            "urlSecretRef.name",
        ),
        (
            notify(
                &json!({"name": "a", "webhook": {"url": "https://x.org", "signingSecretRef": {"name": "a", "key": "k?"}}}),
            ),
            "signingSecretRef.key",
        ),
        (
            json!({"notifications": {"channels": [], "smtp": {"host": "m", "from": "a@x.org", "credentialsSecretRef": {"name": "a b"}}}}),
            "credentialsSecretRef.name",
        ),
    ] {
        let error = refused_store(&world, spec.clone()).await;
        assert!(error.contains(part), "{spec}: {part} not in {error}");
    }
}

#[tokio::test]
async fn a_store_with_a_channel_that_reaches_nobody_is_refused() {
    let world = World::bare("wrongchannels").await;
    for (spec, part) in [
        (json!({"notifications": {"channels": [{"name": "a"}]}}), "set either email or webhook"),
        (notify(&json!({"name": "Ops", "webhook": {"url": "https://x.org"}})), "channels[0].name"),
        (
            notify(&json!({"name": "a", "events": [], "webhook": {"url": "https://x.org"}})),
            "channels[0].events",
        ),
        (
            notify(&json!({"name": "a", "events": ["Never"], "webhook": {"url": "https://x.org"}})),
            "channels[0].events",
        ),
        (notify(&json!({"name": "a", "webhook": {}})), "set either url or urlSecretRef"),
        (notify(&json!({"name": "a", "webhook": {"url": "file:///etc/passwd"}})), "webhook.url"),
        (notify(&json!({"name": "a", "email": {}})), "set to or toOwner"),
        (notify(&json!({"name": "a", "email": {"to": ["a@x.org\r\nBcc: b@x.org"]}})), "email.to[0]"),
        (notify(&json!({"name": "a", "email": {"to": ["nobody"]}})), "email.to[0]"),
        (notify(&json!({"name": "a", "email": {"to": ["a@x.org"]}})), "needs smtp"),
        (
            json!({"notifications": {"channels": [
                {"name": "a", "webhook": {"url": "https://x.org"}}, {"name": "a", "webhook": {"url": "https://y.org"}}]}}),
            "two channels have the same name",
        ),
    ] {
        let error = refused_store(&world, spec.clone()).await;
        assert!(error.contains(part), "{spec}: {part} not in {error}");
    }
}

#[tokio::test]
async fn durations_can_have_days() {
    let world = World::bare("days").await;
    let longest = "9999d99999h99999m99999s99999ms";
    for timeout in ["3d4h", "2d", "1d1ms", "0d1s", longest, "99999h99999h99999h99999h"] {
        let written = world.store(json!({"defaultTimeout": timeout, "gracePeriod": timeout})).await;
        assert_eq!(written.spec.default_timeout.to_string(), timeout);
        let written = world.execution("e", "39", json!({"timeout": timeout, "extendBy": timeout})).await;
        assert_eq!(written.spec.extend_by.unwrap().to_string(), timeout);
        let dynamic = json!({"floor": timeout, "ceiling": timeout, "window": "30d", "refreshInterval": "1d"});
        let written = world.policy("p", json!({"timeout": timeout, "dynamicTimeout": dynamic})).await;
        assert_eq!(written.spec.timeout.unwrap().to_string(), timeout);
    }
    world
        .store(json!({
            "sweepInterval": "0d10s", "pollInterval": "0d1s", "heartbeatTimeout": "1d",
            "connection": {"statementTimeout": "0d10m"},
            "longRunning": {"after": "2d"}, "history": {"retention": "1d"}, "executionObjects": {"finishedTTL": "7d"},
            "notifications": {"channels": [], "groupWait": "0d1h", "groupInterval": "1d", "giveUpAfter": "7d"},
        }))
        .await;
    world.policy("p", json!({"dynamicTimeout": {"floor": "23h", "ceiling": "1d"}})).await;
    world.policy("p", json!({"dynamicTimeout": {"floor": "1d", "ceiling": "25h"}})).await;
}

#[tokio::test]
async fn what_a_store_leaves_out_is_filled_in() {
    let world = World::bare("defaults").await;
    let written = world.store(json!({"defaultTimeout": "90m"})).await;
    assert_eq!(written.spec.default_timeout.to_string(), "90m", "a duration stays as it was written");
    assert_eq!(written.spec.sweep_interval.to_string(), "1h");
    assert_eq!(written.spec.table.columns.started_at.0, "started_at");
    assert_eq!(written.spec.connection.secret_ref.key, "uri");
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_refused() {
    let world = World::bare("nonsense").await;
    let ids = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    let dynamic = |spec: Value| json!({"dynamicTimeout": spec});
    for (spec, part) in [
        (json!({}), "the policy has no effect: set at least one of timeout"),
        (json!({"selector": {"jobIds": ["1"]}}), "the policy has no effect"),
        (json!({"timeout": "0s"}), "must be longer than 0"),
        (json!({"timeout": "0d"}), "must be longer than 0"),
        (json!({"timeout": "3h1d"}), "spec.timeout"),
        (json!({"timeout": 3600}), "spec.timeout"),
        (json!({"timeout": "-1h"}), "spec.timeout"),
        (json!({"gracePeriod": "soon"}), "spec.gracePeriod"),
        (json!({"heartbeatTimeout": "999ms"}), "must be at least 1s"),
        (json!({"onStale": "Kill"}), "spec.onStale"),
        (json!({"warnAfter": {}}), "set either duration or timeoutPercent"),
        (
            json!({"warnAfter": {"duration": "1h", "timeoutPercent": 50}}),
            "set either duration or timeoutPercent",
        ),
        (json!({"warnAfter": {"duration": "0s"}}), "must be longer than 0"),
        (json!({"warnAfter": {"timeoutPercent": 0}}), "timeoutPercent"),
        (json!({"warnAfter": {"timeoutPercent": 100}}), "timeoutPercent"),
        (dynamic(json!({"floor": "2h", "ceiling": "1h"})), "floor must not be longer than ceiling"),
        (dynamic(json!({"floor": "2d", "ceiling": "47h59m"})), "floor must not be longer than ceiling"),
        (dynamic(json!({"floor": "1d1h", "ceiling": "1d59m"})), "floor must not be longer than ceiling"),
        (dynamic(json!({"ceiling": "59s"})), "floor must not be longer than ceiling"),
        (dynamic(json!({"quantile": 0})), "must be more than 0 and less than 1"),
        (dynamic(json!({"quantile": 1})), "must be more than 0 and less than 1"),
        (dynamic(json!({"multiplier": 0})), "must be more than 0 and at most 1000"),
        (dynamic(json!({"multiplier": -1.5})), "must be more than 0 and at most 1000"),
        (dynamic(json!({"multiplier": 1000.5})), "must be more than 0 and at most 1000"),
        (dynamic(json!({"minSamples": 0})), "minSamples"),
        (dynamic(json!({"floor": "0s"})), "must be longer than 0"),
        (dynamic(json!({"window": "59s"})), "must be at least 1m"),
        (dynamic(json!({"refreshInterval": "1s"})), "must be at least 1m"),
        (json!({"timeout": "1h", "selector": {"jobIds": ids(1_001)}}), "at most 1000"),
        (json!({"timeout": "1h", "selector": {"jobIds": ids(100_000)}}), "at most 1000"),
        (json!({"timeout": "1h", "selector": {"jobTypes": ids(1_001)}}), "at most 1000"),
        (json!({"timeout": "1h", "selector": {"jobIds": ["1", "1"]}}), "duplicate"),
        (json!({"timeout": "1h", "selector": {"jobIds": [""]}}), "jobIds"),
        // Postgres cannot store such a text.
        (json!({"timeout": "1h", "selector": {"jobTypes": ["a\u{0}b"]}}), "jobTypes"),
        (
            json!({"dynamicTimeout": {"per": "JobType"}, "selector": {"jobIds": ["1"]}}),
            "use per Job, or select by jobTypes",
        ),
    ] {
        let outcome = world.apply::<ExecutionPolicy>("bad", World::policy_with("bad", spec.clone())).await;
        let error = outcome.map(|_| spec.to_string()).expect_err("must be refused").to_string();
        let spec: String = spec.to_string().chars().take(120).collect();
        assert!(error.contains(part), "{spec}: {part} not in {error:.2000}");
    }
    world.policy("most", json!({"timeout": "1h", "selector": {"jobIds": ids(1_000)}})).await;
    world
        .policy("types", json!({"dynamicTimeout": {"per": "JobType"}, "selector": {"jobTypes": ["a"]}}))
        .await;
    world.policy("all", json!({"dynamicTimeout": {"per": "JobType"}})).await;

    let moved = World::policy_with("most", json!({"timeout": "1h", "storeRef": {"name": "other"}}));
    let error = world.apply::<ExecutionPolicy>("most", moved).await.expect_err("must be refused").to_string();
    assert!(error.contains("storeRef is immutable: delete this object and create another"), "{error}");
    world.policy("most", json!({"timeout": "2h"})).await;
}

#[tokio::test]
async fn the_breakers_limit_is_a_number_or_a_share() {
    let world = World::bare("limit").await;
    for limit in
        [json!(0), json!(-1), json!("0%"), json!("101%"), json!("x"), json!("50"), json!("5.5%"), json!("")]
    {
        let error = refused_store(&world, json!({"maxFailuresPerSweep": limit})).await;
        assert!(
            error.contains("must be a number of at least 1, or a share from 1% to 100%"),
            "{limit}: {error}"
        );
    }
    for limit in [json!(1), json!(5), json!("1%"), json!("50%"), json!("100%")] {
        let stored = world.store(json!({"maxFailuresPerSweep": limit})).await;
        assert_eq!(serde_json::to_value(stored.spec.max_failures_per_sweep).unwrap(), limit);
    }
    let stored = world.store(json!({"maxFailuresPerSweep": null})).await;
    assert_eq!(serde_json::to_value(stored.spec.max_failures_per_sweep).unwrap(), json!(1_000));
}

#[tokio::test]
async fn an_execution_keeps_its_identity() {
    let world = World::bare("identity").await;
    let made = world.execution("e", "39", json!({"timeout": "72h"})).await;
    for (object, part) in [
        (World::execution_with("e", "40", json!({})), "executionId is immutable"),
        (World::execution_with("e", "39", json!({"storeRef": {"name": "other"}})), "storeRef is immutable"),
        (World::execution_with("e", "39", json!({"timeout": "0s"})), "must be longer than 0"),
        (World::execution_with("e", "39", json!({"timeout": "0d0s"})), "must be longer than 0"),
        (World::execution_with("e", "39", json!({"timeout": "soon"})), "spec.timeout"),
        (World::execution_with("e", "39", json!({"extendBy": "1h1d"})), "spec.extendBy"),
    ] {
        let error = world.apply::<JobExecution>("e", object).await.expect_err("must be refused").to_string();
        assert!(error.contains(part), "{part} not in {error}");
    }
    for (id, part) in [(String::new(), "executionId"), ("x".repeat(254), "executionId")] {
        let object = World::execution_with("long", &id, json!({}));
        let error =
            world.apply::<JobExecution>("long", object).await.expect_err("must be refused").to_string();
        assert!(error.contains(part), "{part} not in {error}");
    }
    let changed = world.execution("e", "39", json!({"timeout": "80h"})).await;
    assert_eq!((changed.uid(), changed.spec.timeout.unwrap().to_string()), (made.uid(), "80h".to_owned()));
}

#[test]
fn the_definitions_in_the_repository_are_those_of_the_code() {
    for crd in jobexec_operator::api::crds() {
        let path = format!("{}/crds/{}.yaml", env!("CARGO_MANIFEST_DIR"), crd.spec.names.plural);
        let file = std::fs::read_to_string(&path).unwrap();
        let yaml = serde_saphyr::to_string(&crd).unwrap();
        assert_eq!(file.split_once('\n').unwrap().1, yaml, "{path} has drifted: run `make generate`");
    }
}

#[tokio::test]
async fn every_manifest_and_sample_is_accepted() {
    let world = World::bare("samples").await;
    for file in ["executionstore.yaml", "jobexecution.yaml", "notifications.yaml"] {
        let path = format!("{}/manifests/samples/{file}", env!("CARGO_MANIFEST_DIR"));
        let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        match object["kind"].as_str().unwrap() {
            "ExecutionStore" => drop(world.apply::<ExecutionStore>(&name, object).await.unwrap()),
            _ => drop(world.apply::<JobExecution>(&name, object).await.unwrap()),
        }
    }
    let install = format!("{}/manifests/install", env!("CARGO_MANIFEST_DIR"));
    let rendered = std::process::Command::new("kubectl").args(["kustomize", &install]).output().unwrap();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    // A server-side dry run needs the namespace to exist, so the objects are sent to the namespace of the test.
    let text = String::from_utf8(rendered.stdout).unwrap().replace("jobexec-system", &world.namespace);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    let path = file.path().to_str().unwrap();
    let applied = std::process::Command::new("kubectl")
        .args(["apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", path])
        .output()
        .unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
}
