//! The tables of all shapes on a real Postgres, filled and read again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::{Database, Ledger, Mapping, schema, url, validate};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::case::{self, Case, Row};
use super::layout::{self, SHAPES};
use crate::support::World;

/// Tables of one shape, ready for cases.
pub(super) struct Ground {
    pub(super) schema: String,
    pub(super) mapping: Mapping,
    pub(super) store_id: i64,
}

pub(super) struct Field {
    pub(super) world: World,
    /// Without and with a preference for indexes.
    pub(super) databases: [Database; 2],
    pub(super) grounds: Vec<Ground>,
}

impl Field {
    pub(super) async fn new() -> Self {
        let world = World::bare("property").await;
        let options = url::parse(&world.superuser(), None).unwrap();
        let timeout = std::time::Duration::from_secs(30);
        let by_index = options.clone().options([("enable_seqscan", "off"), ("enable_hashjoin", "off")]);
        let databases = [
            Database::connect(options, 3, timeout).await.unwrap(),
            Database::connect(by_index, 3, timeout).await.unwrap(),
        ];
        let mut grounds = Vec::new();
        for (n, shape) in SHAPES.iter().enumerate() {
            let name = format!("s{n}");
            world.sql(&shape.ddl(&name)).await;
            let layout = shape.layout(&name);
            if shape.indexed {
                schema::apply(&databases[0], &layout, None, &[]).await.unwrap();
            }
            let mapping = validate::validate(&databases[0], &layout).await.unwrap().unwrap().mapping;
            let claimant = StoreIdentity {
                uid: name.clone(),
                predecessor: None,
                namespace: "n".into(),
                name: "s".into(),
            };
            let claim = ledger::claim(&databases[0], &mapping, &claimant, false).await.unwrap();
            let Claim::Held { ledger: Ledger::Tables { store_id, .. }, .. } = claim else {
                panic!("{claim:?}")
            };
            grounds.push(Ground { schema: name, mapping, store_id });
        }
        Self { world, databases, grounds }
    }

    /// Holds lost heartbeats from the times of the case.
    pub(super) async fn hold(&self, case: &Case, now: DateTime<Utc>) {
        let held: Vec<String> = case.held.iter().map(|at| format!("'{}'", at.text(now))).collect();
        let held = held.join(", ");
        self.world
            .sql(&format!("UPDATE jobexec.stores SET heartbeats_held = ARRAY[{held}]::timestamptz[]"))
            .await;
    }

    pub(super) async fn clear(&self, ground: &Ground, jobs: bool) {
        let schema = &ground.schema;
        let jobs = if jobs { format!(", {schema}.jobs") } else { String::new() };
        self.world
            .sql(&format!(
                "TRUNCATE {schema}.\"jobExecutions\"{jobs}, jobexec.rules, jobexec.suspects, jobexec.observations, jobexec.events, jobexec.sweeps, jobexec.retries"
            ))
            .await;
    }

    pub(super) async fn fill(&self, case: &Case, rows: &[&Row], ground: &Ground, now: DateTime<Utc>) {
        let shape = &SHAPES[case.shape];
        let rows: Vec<Value> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| {
                let at = |when: Option<case::When>, type_: Option<&str>| {
                    when.zip(type_).map(|(when, type_)| when.of_type(type_).text(now))
                };
                json!({
                    "id": shape.id(place),
                    "job": row.job.map(|job| shape.job(job)),
                    "number": row.number,
                    "status": row.status.map(|status| shape.status(status)),
                    "kind": case.kind(row).map(|kind| shape.kind(kind)),
                    "start": at(row.start, Some(shape.started_at)),
                    "end": row.end(now).map(|end| end.to_rfc3339()),
                    "heartbeat": at(row.heartbeat, shape.heartbeat_at),
                    "created": at(row.created, shape.created_at),
                    "outside": row.outside,
                    "paused": row.paused.map(|paused| paused.delta().num_seconds()),
                    "max_run": row.timeout.map(|timeout| timeout.delta().num_seconds()),
                    "until": at(row.until, shape.deadline_at),
                })
            })
            .collect();
        let jobs: Vec<Value> = match shape.jobs {
            None => Vec::new(),
            Some(jobs) => case
                .jobs
                .iter()
                .enumerate()
                .filter(|(_, job)| job.listed)
                .map(|(n, job)| {
                    json!({
                        "id": layout::key(jobs.id, n),
                        "status": if job.began_finished { "completed" } else { "running" },
                        "ended": jobs.finished_at.zip(job.ended).map(|(type_, at)| at.of_type(type_).text(now)),
                        "kind": job.kind.filter(|_| jobs.type_.is_some()).map(|kind| layout::listed_kind(jobs, kind)),
                    })
                })
                .collect(),
        };
        for (statement, data) in shape.fill(&ground.schema).into_iter().zip([rows, jobs]) {
            sqlx::query(AssertSqlSafe(statement))
                .bind(Value::Array(data).to_string())
                .execute(&self.world.pool)
                .await
                .unwrap();
        }
        if let Some(workers) = shape.fill_workers(&ground.schema) {
            self.world.sql(&workers).await;
        }
    }

    pub(super) async fn read(&self, case: &Case, ground: &Ground) -> BTreeMap<String, Read> {
        let sql = SHAPES[case.shape].read(&ground.schema);
        let rows: Vec<Columns> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.world.pool).await.unwrap();
        rows.into_iter()
            .map(|(id, all, start, beat, made, end)| (id, (all, start, beat, made, end)))
            .collect()
    }
}

/// The id of a row, and its columns.
type Columns = (String, Value, Option<String>, Option<String>, Option<String>, Option<DateTime<Utc>>);

/// A row: all of it, its start, its heartbeat, its creation, and its end.
pub(super) type Read = (Value, Option<String>, Option<String>, Option<String>, Option<DateTime<Utc>>);
