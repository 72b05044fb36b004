//! The command `jobexec trends`.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::jobexec;
use crate::support::World;

#[tokio::test]
async fn health_over_time_is_told_and_so_is_what_is_missing_of_it() {
    let world = World::new("samplescli").await;
    let unknown = jobexec(&world, &["trends"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("records are not available"), "{}", unknown.err);
    world
        .sql("INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name) VALUES ('jobexec.stores'::regclass, 'job_executions'::regclass, 'public', 'job_executions')")
        .await;
    let none = jobexec(&world, &["trends"]);
    assert!(none.ended(0).is_empty() && none.err.contains("No samples of that time"), "{}", none.err);

    let args = ["trends", "--since", "5h", "--step", "1h"];
    let hour = async || -> DateTime<Utc> { world.one("SELECT date_trunc('hour', now())").await };
    // Repeated if an hour ended meanwhile.
    let (now, table, rows) = loop {
        let before = hour().await;
        world
            .sql(
                "TRUNCATE jobexec.samples; \
                 INSERT INTO jobexec.samples SELECT 1, date_trunc('hour', now()) - v.ago * interval '1 minute', \
                     v.running, v.scheduled, v.long_running, v.stale, v.failed \
                 FROM (VALUES (10, 9, NULL, 1, 0, 2), (20, 2, 4, 3, 1, 1), (190, 7, NULL, 0, 0, 0), \
                              (900, 99, 99, 99, 99, 99)) AS v (ago, running, scheduled, long_running, stale, failed)",
            )
            .await;
        let (table, rows) = (jobexec(&world, &args), jobexec(&world, &[&args[..], &["-o", "json"]].concat()));
        if hour().await == before {
            break (before, table.lines(0), rows.json(0));
        }
    };
    let at = |hours| (now - TimeDelta::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, true);
    assert_eq!(
        table,
        [
            "AT FOR RUNNING SCHEDULED LONG-RUNNING STALE FAILED".to_owned(),
            format!("{} 1h 7 - 0 0 0", at(4)),
            format!("{} 2h - - - - -", at(3)),
            format!("{} 1h 9 4 3 1 3", at(1)),
        ]
    );
    let row = |hours, running, scheduled: Value, rest: [i64; 3]| {
        json!({"at": at(hours), "running": running, "scheduled": scheduled,
               "long_running": rest[0], "stale": rest[1], "failed": rest[2]})
    };
    assert_eq!(rows, json!([row(4, 7, Value::Null, [0, 0, 0]), row(1, 9, json!(4), [3, 1, 3])]));
    // Half an hour for each line by default: the sample from 15 hours ago has a line of its own.
    let day = jobexec(&world, &["trends", "-o", "json"]).json(0);
    assert!((3..=4).contains(&day.as_array().unwrap().len()) && day[0]["running"] == 99, "{day:#}");

    // As an older operator has left it.
    world.sql("DROP TABLE jobexec.samples").await;
    let older = jobexec(&world, &["trends"]);
    assert!(older.code == Some(1) && older.err.contains("jobexec schema --apply"), "{}", older.err);
}

#[tokio::test]
async fn a_step_is_one_that_can_be_told() {
    let world = World::new("samplesteps").await;
    for (wrong, told) in [
        (&["--since", "721h"][..], "must be at most 30d"),
        (&["--since", "0s"], "must be longer than 0"),
        (&["--since", "yesterday"], "is not a duration"),
        (&["--step", "0s"], "must be longer than 0"),
        (&["--step", "59s"], "--step must be whole seconds, at least 1m"),
        (&["--step", "61s1ms"], "--step must be whole seconds"),
        (&["--step", "25h"], "at most all of it"),
        (&["--since", "720h", "--step", "5m"], "at least 29m for so long a time"),
        (&["-o", "name"], "a sample has no name"),
        (&["--store", "jobs"], "write NAMESPACE/NAME"),
    ] {
        let ran = jobexec(&world, &[&["trends"], wrong].concat());
        assert!(ran.code == Some(2) && ran.out.is_empty(), "{wrong:?}: {}", ran.err);
        assert!(ran.err.contains(told), "{wrong:?}: {}", ran.err);
    }
}
