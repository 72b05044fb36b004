//! The command `jobexec stats`.

use serde_json::{Value, json};

use super::jobexec;
use crate::support::World;

/// A hundred executions of job 1 that took 1 to 100 s, and some without a duration: they ended otherwise, never began, or
/// a clock was wrong.
pub(crate) const ENDED: &str = "INSERT INTO job_executions SELECT n, 1, n, 'completed', \
         now() - interval '1 hour' - n * interval '1 second', now() - interval '1 hour' FROM generate_series(1, 100) n; \
     INSERT INTO job_executions VALUES \
         (201, 1, 201, 'failed', now() - interval '20 hours', now() - interval '1 hour'), \
         (202, 1, 202, 'cancelled', NULL, now() - interval '1 hour'), \
         (203, 2, 1, 'completed', NULL, now()), \
         (204, 2, 2, 'completed', now(), now() - interval '1 hour'), \
         (205, 2, 3, 'completed', '-infinity', now()), \
         (206, 3, 1, 'completed', now() - interval '1 hour', now() - interval '1 hour'), \
         (207, 4, 1, 'completed', now() - interval '30 hours', now() - interval '29 hours'), \
         (208, 5, 1, 'running', now() - interval '1 hour', NULL)";

#[tokio::test]
async fn each_job_has_its_statistics() {
    let world = World::new("stats").await;
    world.sql(ENDED).await;
    assert_eq!(
        jobexec(&world, &["stats", "-o", "wide"]).lines(0),
        [
            "JOB ENDED SUCCESS COMPLETED FAILED CANCELLED LATE P50 P95 P99",
            "1 102 98.0 % 100 1 1 0 50s 1m35s 1m39s",
            "2 3 100.0 % 3 0 0 0 - - -",
            "3 1 100.0 % 1 0 0 0 0s 0s 0s",
        ]
    );
    let all = jobexec(&world, &["stats", "--since", "720h", "--limit", "2", "-o", "json"]).json(0);
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    let first = &all[0];
    assert_eq!(
        (&first["job_id"], &first["job_type"], &first["failed"]),
        (&json!("1"), &Value::Null, &json!(1))
    );
    assert_eq!((&first["p50_seconds"], &first["p99_seconds"]), (&json!(50.0), &json!(99.0)));
    assert_eq!(all[1]["p50_seconds"], Value::Null);
    assert_eq!(jobexec(&world, &["stats", "--since", "31h", "-o", "name"]).lines(0), ["1", "2", "3", "4"]);

    // The types are unknown, and the length of time is limited.
    assert!(jobexec(&world, &["stats", "--type", "a"]).err.contains("that maps them with -f"));
    for wrong in
        [["--since", "721h"], ["--since", "0s"], ["--since", "-1h"], ["--limit", "0"], ["--type", "a"]]
    {
        assert_eq!(jobexec(&world, &["stats", wrong[0], wrong[1]]).code, Some(2), "{wrong:?}");
    }
    world.sql("TRUNCATE job_executions").await;
    let none = jobexec(&world, &["stats"]);
    assert!(none.ended(0).is_empty() && none.err.contains("No execution has ended"), "{}", none.err);
}

#[tokio::test]
async fn where_types_are_known_each_type_has_one() {
    let spec = json!({"connection": {"secretRef": {"name": "-"}}, "table": {"columns": {"jobType": "kind"}}});
    let table = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, execution_number integer NOT NULL, \
         status text NOT NULL, started_at timestamptz, completed_at timestamptz, kind text)";
    let world = World::with("patterntypes", table, &spec).await;
    world.sql(ENDED).await;
    world
        .sql("UPDATE job_executions SET kind = CASE WHEN job_id = 1 THEN 'im''port' WHEN job_id = 2 THEN 'export' END")
        .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let store = json!({"apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore",
                       "metadata": {"name": "jobs"}, "spec": spec});
    std::fs::write(file.path(), store.to_string()).unwrap();
    let file = file.path().to_str().unwrap();
    let lines = |args: &[&str]| jobexec(&world, &[&["stats", "-f", file], args].concat()).lines(0);
    assert_eq!(
        lines(&[]),
        [
            "TYPE ENDED SUCCESS FAILED CANCELLED LATE P50 P95 P99",
            "im'port 102 98.0 % 1 1 0 50s 1m35s 1m39s",
            "export 3 100.0 % 0 0 0 - - -",
            "- 1 100.0 % 0 0 0 0s 0s 0s",
        ]
    );
    assert_eq!(lines(&["--type", "export", "--type", "im'port", "-o", "name"]), ["im'port", "export"]);
    assert_eq!(lines(&["--type", "none", "-o", "json"]), ["[]"]);
}
