//! Health over time, and execution statistics.

use serde_json::{Value, json};

use super::{HEALTH, STATS, TRENDS};
use crate::cli::stats::ENDED;
use crate::support::World;

#[tokio::test]
async fn trends_and_stats_are_served() {
    let world = World::new("apitrends").await;
    world.sql(ENDED).await;
    let (_operator, https) = world.serving(&[]).await;
    world.store(json!({})).await;
    let (store, reader) = (world.named("jobs"), https.with(&world.token("jobexec-reader").await));
    reader.until(&format!("{HEALTH}?store={store}"), |status, _| status == 200).await;
    world.until_true("SELECT count(*) = 1 FROM jobexec.stores").await;
    world
        .sql(
            "INSERT INTO jobexec.samples SELECT store_id, date_trunc('hour', now()) - n * interval '1 minute', \
                 n, NULLIF(n, 9), 1, 2, 1 FROM jobexec.stores, unnest(ARRAY[1, 2, 9, 1500]) n",
        )
        .await;
    for path in [TRENDS, STATS] {
        for wrong in ["since=0s", "since=721h", "since=x", "store=jobs", "shop=x"] {
            let (status, problem) = reader.get(&format!("{path}?{wrong}")).await;
            assert_eq!((status, &problem["reason"]), (400, &json!("InvalidParameter")), "{path} {wrong}");
        }
    }
    for wrong in ["trends?step=1s", "trends?since=720h&step=1m", "stats?limit=501", "stats?type=%00"] {
        assert_eq!(reader.get(&format!("/api/system/{wrong}")).await.0, 400, "{wrong}");
    }
    let told = async |query: &str| -> Value { reader.get(&format!("/api/system/{query}")).await.1 };

    let hour = told(&format!("trends?store={store}&since=2h&step=1h")).await;
    let of = |n: usize, what: &str| hour["points"][n][what].clone();
    assert_eq!((&hour["step_seconds"], hour["unavailable"].clone()), (&json!(3600), json!([])), "{hour:#}");
    assert_eq!(
        ["running", "scheduled", "long_running", "stale", "failed"].map(|what| of(0, what)),
        [9, 2, 1, 2, 3].map(|n| json!(n)),
        "{hour:#}"
    );
    assert!(hour["now"].is_string(), "{hour:#}");
    assert_eq!(told("trends").await["step_seconds"], 300);
    let (day, days) = (told("trends?step=1m").await, told("trends?since=48h").await);
    let count =
        |series: &Value| series["points"].as_array().unwrap().iter().filter(|s| s["stale"] == 2).count();
    // Three minutes of one hour; in steps of ten they are one, and another one is from the day before.
    assert_eq!((count(&day), count(&days)), (3, 2), "{days:#}");

    let stats = told(&format!("stats?store={store}&limit=2")).await;
    let first = &stats["stats"][0];
    assert_eq!(stats["stats"].as_array().map(Vec::len), Some(2), "{stats:#}");
    assert_eq!(
        ["store", "job_id", "executions", "completed", "p95_seconds"].map(|what| first[what].clone()),
        [json!(store), json!("1"), json!(102), json!(100), json!(95.0)]
    );
    assert_eq!(told("stats?type=import").await["stats"], json!([]), "no types are known");

    // An older operator has left no table of samples: that is reported, and the stats do not need it.
    world.sql("DROP TABLE jobexec.samples").await;
    assert_eq!(reader.get(TRENDS).await.0, 503);
    assert_eq!(reader.get(STATS).await.0, 200);
}
