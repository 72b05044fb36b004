//! The operator rescues jobs of six job systems, and their real clients show it. `make test-adapters` proves more cases of the
//! same adapters, in which psql runs the operator's statement.

use serde_json::{Value, json};

use crate::support::client::{Client, Worker};
use crate::support::tutorial::Tutorial;
use crate::support::{Operator, World, is};

/// A database in which the client of a job system has made its tables, as their owner.
struct Place {
    world: World,
    client: Client,
    /// The URL of the owner of the tables.
    owner: String,
}

impl Place {
    /// Returns `None` if this machine cannot have the client. `environment` is the client's.
    async fn of(test: &str, system: &'static str, environment: &[(&str, &str)]) -> Option<Self> {
        let mut client = Client::of(test, system).await?;
        let world = World::bare(test).await;
        let owner = world.owner().await;
        for role in [world.role.clone(), format!("{}_owner", world.role)] {
            let narrow = format!(
                "SELECT NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls) \
                 AND NOT EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) FROM pg_roles AS r WHERE rolname = '{role}'"
            );
            assert!(
                world.one::<bool>(&narrow).await,
                "{role} has more rights than an operator's or an owner's"
            );
        }
        // Not each client takes the certificate of a throwaway server.
        client.set("DATABASE_URL", &owner.replace("sslmode=require", "sslmode=disable"));
        for (name, value) in environment {
            client.set(name, value);
        }
        client.run(&["setup"]);
        Some(Self { world, client, owner })
    }

    /// Installs the adapter as the docs say, and starts the operator with a store that retries where the system can.
    async fn rescue(&self, adapter: &str) -> Operator {
        let spec = json!({"adapter": adapter, "defaultTimeout": "1h"});
        let world = &self.world;
        let file = world.file("store.yaml", &World::store_with("jobs", spec.clone()).to_string());
        let role = &world.role;
        let commands: [&[&str]; 2] = [
            &["adapter", "apply", adapter, "--role", role, "--database-url", &self.owner],
            &["schema", "-f", &file, "--role", role, "--apply"],
        ];
        for command in commands {
            let output = world.jobexec(command);
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        world.secret("db", json!({"uri": world.url("right/password")})).await;
        world.policy("again", json!({"onStale": "Retry"})).await;
        let operator = world.operator();
        world.store(spec).await;
        operator
    }

    /// Puts a job into its queue, and waits until a worker has started it.
    fn started(&self, worker: &mut Worker, arguments: &[&str]) -> String {
        let id = self.client.enqueue(arguments);
        worker.until("started", &id);
        id
    }

    /// Has a worker start a job and be killed in the middle of it.
    fn killed(&self, arguments: &[&str]) -> String {
        let (worker, id) = self.live(arguments);
        worker.kill();
        id
    }

    /// Has a worker start a job and live on.
    fn live(&self, arguments: &[&str]) -> (Worker, String) {
        let mut worker = self.client.work(arguments);
        let id = self.started(&mut worker, arguments);
        (worker, id)
    }

    /// What the operator has recorded of an execution, besides warnings that it runs for long.
    async fn recorded(&self, id: &str) -> String {
        self.world
            .one(&format!(
                "SELECT COALESCE(string_agg(action || ' ' || reason, ', ' ORDER BY event_id), '') FROM jobexec.events \
                 WHERE action <> 'Warned' AND execution_id = '{id}'"
            ))
            .await
    }
}

/// Lets a job complete, and says whether the system accepted it.
fn completes(worker: &mut Worker, id: &str) -> bool {
    worker.say(&format!("release {id}"));
    accepted(worker, id)
}

/// Whether the system accepted the finish of a job.
fn accepted(worker: &mut Worker, id: &str) -> bool {
    worker.until("finished", id)["accepted"].as_bool().unwrap()
}

/// Whether a text of the client is the operator's reason.
fn reason(text: &Value) -> bool {
    text.as_str().is_some_and(|text| text.starts_with("DeadlineExceeded: ") && text.contains("jobexec"))
}

#[tokio::test]
async fn river_jobs_are_retried_by_the_operator_and_completed_by_its_own_worker() {
    let Some(place) = Place::of("riverclient", "river", &[]).await else { return };
    let Place { world, client, owner } = &place;
    let mut tutorial = Tutorial::of("river", world, owner);
    // River's own rescuer, which these workers leave to others, would take up jobs that are as old.
    let mut killed = client.work(&["--follow", "--queue", "killed"]);
    let job = place.started(&mut killed, &["--queue", "killed"]);
    let last = place.started(&mut killed, &["--queue", "killed", "--max-attempts", "1"]);
    killed.kill();
    let mut live = client.work(&["--follow", "--queue", "live"]);
    let given_up = place.started(&mut live, &["--queue", "live"]);
    world.sql("UPDATE river_job SET attempted_at = now() - interval '3 hours', created_at = now() - interval '4 hours'").await;

    let operator = world.operator();
    tutorial.follow("What you need");
    let stuck = tutorial.follow("See what is stuck");
    assert!(stuck.contains("(3 rows)"), "{stuck}");
    let checked = tutorial.follow("Rescue it");
    assert!(checked.contains("would be retried"), "{checked}");
    world.until_true("SELECT bool_and(state IN ('retryable', 'discarded')) FROM river_job").await;
    let history = tutorial.follow("See it rescued");
    assert!(history.contains("retried") || history.contains("Retried"), "{history}");
    for (id, action) in [(&job, "Retried"), (&given_up, "Retried"), (&last, "Failed")] {
        assert_eq!(place.recorded(id).await, format!("{action} DeadlineExceeded"), "{id}");
    }
    // The live worker is asked to stop, and what it returns changes nothing.
    assert_eq!(live.until("stopped", &given_up)["cause"], "JobCancelError: job cancelled remotely");
    assert!(!accepted(&mut live, &given_up));

    let mut next = client.work(&["--queue", "killed"]);
    assert_eq!(next.until("started", &job)["attempt"], 2);
    assert!(completes(&mut next, &job));
    assert_eq!(live.until("started", &given_up)["attempt"], 2);
    assert!(completes(&mut live, &given_up));
    for (id, state) in [(&job, "completed"), (&given_up, "completed"), (&last, "discarded")] {
        let shown = client.show(id);
        let errors: Vec<&Value> = shown["errors"].as_array().unwrap().iter().map(|e| &e["error"]).collect();
        assert_eq!(shown["state"], state, "{shown}");
        assert_eq!(errors, ["Stuck job rescued by the jobexec operator"], "{shown}");
    }
    tutorial.follow("Undo");
    let left: i64 = world.one("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'jobexec%'").await;
    assert_eq!(left, 0);
    drop(operator);
}

#[tokio::test]
async fn spring_batch_jobs_are_failed_by_the_operator_and_resume_at_their_saved_position() {
    let zone = "America/New_York";
    let Some(place) = Place::of("batchclient", "spring-batch", &[("CLIENT_TIME_ZONE", zone)]).await else {
        return;
    };
    let Place { world, client, owner } = &place;
    let mut tutorial = Tutorial::of("spring-batch", world, owner);
    assert_eq!(tutorial.manifest()["spec"]["table"]["timeZone"], zone);
    let mut killed = client.work(&["--run", "killed", "--pause", "chunk"]);
    let dead = killed.first("paused");
    // The second chunk: the position of the first one is saved.
    killed.until("paused", &dead);
    killed.say("go");
    killed.until("paused", &dead);
    killed.kill();
    let mut live = client.work(&["--run", "live", "--pause", "chunk"]);
    let given_up = live.first("paused");
    tutorial.follow("What you need");
    let stuck = tutorial.follow("See what is stuck");
    assert!(stuck.contains("(2 rows)"), "{stuck}");
    let mut refused = client.work(&["--run", "killed"]);
    assert_eq!(refused.until("refused", "null")["error"], "JobExecutionAlreadyRunningException");

    // The operator has watched the store for a day, the dead worker has been silent for an hour, and the live one has run for 25.
    let operator = world.operator();
    tutorial.follow("Rescue it");
    world.store_named_until(&operator, "batch", |s| is(&s.conditions, "Ready", "True", "Enforcing")).await;
    assert!(operator.stop().success());
    world
        .sql(&format!(
            "UPDATE jobexec.stores SET watched_since = now() - interval '1 day', seen_at = now(); \
             UPDATE batch_job_execution SET create_time = create_time - interval '2 days', \
                start_time = start_time - CASE job_execution_id WHEN {dead} THEN interval '2 hours' ELSE interval '25 hours' END; \
             UPDATE batch_job_execution SET last_updated = last_updated - interval '1 hour' WHERE job_execution_id = {dead}; \
             UPDATE batch_step_execution SET last_updated = last_updated - interval '1 hour' WHERE job_execution_id = {dead}"
        ))
        .await;
    let operator = world.operator();
    world.until_true("SELECT bool_and(status = 'FAILED') FROM batch_job_execution").await;
    let history = tutorial.follow("See it rescued");
    assert!(history.contains("WorkerLost") && history.contains("DeadlineExceeded"), "{history}");
    assert_eq!(place.recorded(&dead).await, "Failed WorkerLost");
    assert_eq!(place.recorded(&given_up).await, "Failed DeadlineExceeded");

    let shown = client.show(&dead);
    assert_eq!((&shown["status"], &shown["findsRunning"]), (&json!("FAILED"), &json!(false)), "{shown}");
    assert!(shown["message"].as_str().unwrap().starts_with("WorkerLost: "), "{shown}");
    assert_eq!(shown["steps"][0]["status"], "FAILED", "{shown}");
    let mut again = client.work(&["--run", "killed"]);
    assert_eq!(again.until("opened", "null")["position"], 10);
    let id = again.first("finished");
    assert_eq!(again.until("finished", &id)["status"], "COMPLETED");
    let written = "SELECT count(*) || ' ' || count(DISTINCT (step, item)) FROM written WHERE run = 'killed'";
    assert_eq!(world.one::<String>(written).await, "60 60");

    // The chunk of the worker that lives is refused, and its execution stays failed.
    live.say("release");
    let end = live.until("finished", &given_up);
    assert!(end["errors"].as_str().unwrap().contains("OptimisticLockingFailureException"), "{end}");
    let shown = client.show(&given_up);
    assert_eq!((&shown["status"], &shown["exitCode"]), (&json!("FAILED"), &json!("FAILED")), "{shown}");
    tutorial.follow("Undo");
    drop(operator);
}

#[tokio::test]
async fn pg_boss_jobs_are_retried_by_the_operator_and_go_to_the_dead_letter_queue_at_their_limit() {
    let Some(place) = Place::of("bossclient", "pg-boss", &[]).await else { return };
    let Place { world, client, .. } = &place;
    client.run(&["queue", "dead"]);
    client.run(&["queue", "mortal", r#"{"deadLetter": "dead", "retryLimit": 1, "retryDelay": 0}"#]);
    client.run(&["queue", "live", r#"{"retryLimit": 1, "retryDelay": 0}"#]);
    let old = "UPDATE pgboss.job SET started_on = now() - interval '2 hours', created_on = now() - interval '3 hours' WHERE state = 'active'";
    let job = place.killed(&["--queue", "mortal"]);
    let (mut live, given_up) = place.live(&["--queue", "live"]);
    world.sql(old).await;
    let _operator = place.rescue("pg-boss").await;

    let mut killed = client.work(&["--queue", "mortal"]);
    assert_eq!(killed.until("started", &job)["attempt"], 2);
    killed.kill();
    assert_eq!(live.until("started", &given_up)["attempt"], 2);
    // The attempt that was given up finishes, which changes nothing, and then the one that runs.
    live.say(&format!("release {given_up} 1"));
    assert!(!accepted(&mut live, &given_up));
    assert_eq!(client.show(&given_up)["state"], "active");
    live.say(&format!("release {given_up} 2"));
    assert!(accepted(&mut live, &given_up));
    assert_eq!(client.show(&given_up)["state"], "completed");

    world.sql(old).await;
    world.until_true("SELECT state = 'failed' FROM pgboss.job WHERE name = 'mortal'").await;
    let shown = client.show(&job);
    assert_eq!((&shown["state"], &shown["retryCount"]), (&json!("failed"), &json!(1)), "{shown}");
    assert!(reason(&shown["output"]["value"]["message"]), "{shown}");
    let letters = client.run(&["list", "dead"]);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(format!("mortal/{}", letters[0]["sourceId"].as_str().unwrap()), job);
    assert!(reason(&letters[0]["sourceOutput"]["value"]["message"]), "{letters:?}");
    assert_eq!(place.recorded(&job).await, "Retried DeadlineExceeded, Failed DeadlineExceeded");
    assert_eq!(place.recorded(&given_up).await, "Retried DeadlineExceeded");
}

#[tokio::test]
async fn graphile_worker_jobs_are_retried_by_the_operator_and_their_queue_goes_on() {
    let Some(place) = Place::of("graphileclient", "graphile-worker", &[]).await else { return };
    let Place { world, client, .. } = &place;
    // Any worker takes any job: one that is frozen takes none.
    let (mut live, given_up) = place.live(&[]);
    live.freeze();
    let mut killed = client.work(&[]);
    let job = place.started(&mut killed, &["--queue", "one"]);
    let behind = client.enqueue(&["--queue", "one"]);
    killed.kill();
    world
        .sql(
            "UPDATE graphile_worker._private_jobs SET locked_at = now() - interval '2 hours', created_at = now() - interval '3 hours' \
             WHERE locked_at IS NOT NULL",
        )
        .await;
    let _operator = place.rescue("graphile-worker").await;
    world.until_true("SELECT bool_and(locked_at IS NULL) FROM graphile_worker._private_jobs").await;
    let shown = client.show(&job);
    assert_eq!(shown["attempts"], 1, "{shown}");
    assert!(reason(&shown["last_error"]), "{shown}");
    assert_eq!(place.recorded(&job).await, "Retried DeadlineExceeded");
    assert_eq!(place.recorded(&given_up).await, "Retried DeadlineExceeded");

    let mut next = client.work(&[]);
    next.until("started", &behind);
    assert!(completes(&mut next, &behind));
    for id in [&job, &given_up] {
        assert_eq!(next.until("started", id)["attempt"], 2);
    }
    assert!(completes(&mut next, &job));
    assert_eq!(client.show(&job)["state"], "gone");
    // The worker that was given up fails late, which is ignored.
    live.thaw();
    live.say(&format!("fail {given_up}"));
    assert!(!accepted(&mut live, &given_up));
    assert!(reason(&client.show(&given_up)["last_error"]));
    assert!(completes(&mut next, &given_up));
    assert_eq!(client.show(&given_up)["state"], "gone");
}

#[tokio::test]
async fn procrastinate_jobs_are_failed_by_the_operator_with_their_events() {
    let Some(place) = Place::of("procrastinateclient", "procrastinate", &[]).await else { return };
    let Place { world, client, .. } = &place;
    let job = place.killed(&[]);
    let (mut live, given_up) = place.live(&[]);
    world.sql("UPDATE procrastinate_events SET at = at - interval '2 hours'").await;
    // Procrastinate limits no attempts, so that the policy fails jobs.
    let _operator = place.rescue("procrastinate").await;
    world.until_true("SELECT bool_and(status = 'failed') FROM procrastinate_jobs").await;
    for id in [&job, &given_up] {
        assert_eq!(place.recorded(id).await, "Failed DeadlineExceeded");
    }
    assert!(!completes(&mut live, &given_up), "it had failed");
    for id in [&job, &given_up] {
        let shown = client.show(id);
        assert_eq!((&shown["status"], &shown["attempts"]), (&json!("failed"), &json!(1)), "{shown}");
        let events: String = world
            .one(&format!(
                "SELECT string_agg(type::text, ' ' ORDER BY id) FROM procrastinate_events WHERE job_id = {id}"
            ))
            .await;
        assert_eq!(events, "deferred started failed");
    }
}

#[tokio::test]
async fn pgqueuer_jobs_are_failed_by_the_operator_and_logged_as_exceptions() {
    let Some(place) = Place::of("pgqueuerclient", "pgqueuer", &[]).await else { return };
    let Place { world, client, .. } = &place;
    let job = place.killed(&[]);
    let (mut live, given_up) = place.live(&[]);
    world
        .sql("UPDATE pgqueuer SET updated = now() - interval '2 hours', created = now() - interval '3 hours'")
        .await;
    // PGQueuer limits no attempts, so that the policy fails jobs.
    let _operator = place.rescue("pgqueuer").await;
    world.until_true("SELECT count(*) = 0 FROM pgqueuer").await;
    for id in [&job, &given_up] {
        assert_eq!(place.recorded(id).await, "Failed DeadlineExceeded");
    }
    assert!(!completes(&mut live, &given_up), "it had failed");
    for id in [&job, &given_up] {
        let shown = client.show(id);
        assert_eq!((&shown["row"], &shown["status"]), (&Value::Null, &json!("exception")), "{shown}");
        assert_eq!(shown["log"], json!(["queued", "picked", "exception"]), "{shown}");
        assert!(reason(&shown["errors"][0]), "{shown}");
    }
}
