//! Compares the SQL that judges executions with a plain model over random tables and random policies: the same rows, the
//! same reasons, the same sources, and a sweep that does exactly what the list says.

mod case;
mod layout;
mod model;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use jobexec_operator::api::{ExecutionStore, Limit, OnStale};
use jobexec_operator::db::ledger::{self, Claim, StoreIdentity};
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::staleness::evidence;
use jobexec_operator::db::sweep::{self, Known, Sweep, Trigger};
use jobexec_operator::db::{
    Database, Ledger, Mapping, StalenessPredicate, list, observations, observe, promise, rules, schema,
    stores, url, validate,
};
use jobexec_operator::rules::{
    ComputedTimeout, ExecutionOverride, HistoryTimeout, Policy, RuleSet, Sourced, StoreDefaults, Warn,
};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::World;
use case::{Case, Row};
use layout::{SHAPES, Shape};
use model::{Execution, INFINITY, Judged, Model, STORE, runs};

/// The number of cases, unless `PROPTEST_CASES` is set.
const CASES: u32 = 200;

/// Tables of one shape, ready for cases.
struct Ground {
    schema: String,
    mapping: Mapping,
    store_id: i64,
}

struct Field {
    world: World,
    /// Without and with a preference for indexes.
    databases: [Database; 2],
    grounds: Vec<Ground>,
}

impl Field {
    async fn new() -> Self {
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
    async fn hold(&self, case: &Case, now: DateTime<Utc>) {
        let held: Vec<String> = case.held.iter().map(|at| format!("'{}'", at.text(now))).collect();
        let held = held.join(", ");
        self.world
            .sql(&format!("UPDATE jobexec.stores SET heartbeats_held = ARRAY[{held}]::timestamptz[]"))
            .await;
    }

    async fn play(&self, case: &Case, predicate: By) -> Result<(), TestCaseError> {
        let shape = &SHAPES[case.shape];
        let ground = &self.grounds[case.shape];
        let store_id = ground.store_id;
        let database = &self.databases[usize::from(case.by_index)];
        self.clear(ground, shape.jobs.is_some()).await;
        let now: DateTime<Utc> = self.world.one("SELECT statement_timestamp()").await;
        // Copies come after all others, so that the index in an override means the first.
        let copies = case.rows.iter().flat_map(|row| std::iter::repeat_n(row, usize::from(row.times) - 1));
        let rows: Vec<&Row> = case.rows.iter().chain(copies).collect();
        self.fill(case, &rows, ground, now).await;

        let (by, compiled) = (predicate, compile(case));
        let predicate = judge_of(case, ground, &compiled, now);
        let mapping = stores::record(&store(case, ground));
        let put = async |compiled: &RuleSet| put(database, store_id, compiled, &mapping).await;
        let before = case.before.as_deref().filter(|_| case.recorded);
        if case.recorded {
            put(&before.map_or_else(|| compiled.clone(), compile)).await?;
        }
        self.hold(case, now).await;
        let seen = self.see(case, &rows, &predicate).await;
        let pauses = self.pause(case, &rows, ground, now).await;
        if case.recorded {
            // The rules change. Keeping the promises again changes nothing.
            promise::keep(database, &ground.mapping, store_id, STORE).await.unwrap();
            put(&compiled).await?;
            promise::keep(database, &ground.mapping, store_id, STORE).await.unwrap();
        }
        let suspects = self.suspect(case, &rows, ground, &predicate).await;

        let read = self.read(case, ground).await;
        let mut model = Model {
            case: before.unwrap_or(case),
            executions: executions(&rows, &read, shape),
            now: i128::from(now.timestamp_micros()),
            at: now,
            watched: i128::from(predicate.watched.timestamp_micros()),
            suspects,
            seen,
            pauses,
            promised: Vec::new(),
            remembers: case.recorded,
        };
        if before.is_some() {
            let promised = model.executions.iter().map(|execution| model.promise(execution)).collect();
            model = Model { case, promised, ..model };
        }
        let expected = expected(&model, shape);
        if by == By::CommandLine {
            return self.told_by_command(case, ground, predicate.watched, &expected).await;
        }
        the_list_is(database, &predicate, &expected).await?;
        let ends: BTreeMap<&String, &Judged> =
            expected.iter().filter(|(_, judged)| judged.action != OnStale::AlertOnly).collect();
        the_next_deadline_is(database, &predicate, &model, &ends).await?;
        self.sweep(case, ground, database, &predicate, &ends, &read).await
    }

    /// Checks that the command line, which uses only the database, gives the same result.
    async fn told_by_command(
        &self,
        case: &Case,
        ground: &Ground,
        watched: DateTime<Utc>,
        expected: &BTreeMap<String, Judged>,
    ) -> Result<(), TestCaseError> {
        if !(case.recorded && case.evidence) {
            return Ok(());
        }
        sqlx::query("UPDATE jobexec.stores SET seen_at = now(), watched_since = $1 WHERE store_id = $2")
            .bind(watched)
            .bind(ground.store_id)
            .execute(&self.world.pool)
            .await
            .unwrap();
        let table = format!("{}.jobExecutions", ground.schema);
        let output = self.world.jobexec(&["cleanup", "--dry-run", "-o", "json", "--table", &table]);
        ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let mut told: Vec<String> = rows
            .iter()
            .map(|row| match text(&row["skipped"]["reason"]) {
                reason if reason == "-" => {
                    let (action, reason) = (text(&row["action"]), text(&row["reason"]));
                    format!("{}: {action} {reason} {}", text(&row["id"]), text(&row["source"]))
                }
                skipped => format!("{}: {skipped} {}", text(&row["id"]), text(&row["source"])),
            })
            .collect();
        told.sort();
        let wanted = |(id, j): (&String, &Judged)| match j.action {
            OnStale::AlertOnly => format!("{id}: AlertOnly {}", j.source),
            OnStale::Cancel => format!("{id}: Cancelled {} {}", j.reason, j.source),
            OnStale::Fail => format!("{id}: Failed {} {}", j.reason, j.source),
        };
        let mut wanted: Vec<String> = expected.iter().map(wanted).collect();
        wanted.sort();
        ensure(told == wanted, || format!("the command line says\n{told:#?}\nand should say\n{wanted:#?}"))
    }

    /// Checks that a sweep ends exactly the expected executions, and records why.
    async fn sweep(
        &self,
        case: &Case,
        ground: &Ground,
        database: &Database,
        predicate: &StalenessPredicate<'_>,
        ends: &BTreeMap<&String, &Judged>,
        before: &BTreeMap<String, Read>,
    ) -> Result<(), TestCaseError> {
        let ledger = if case.recorded {
            Ledger::Tables { store_id: ground.store_id, outbox: true }
        } else {
            Ledger::Missing("not asked for".to_owned())
        };
        let pass = Sweep { id: uuid::Uuid::new_v4(), trigger: Trigger::Requested };
        let known = Known::default();
        let outcome =
            sweep::run(database, predicate, &ledger, &pass, known, |_| ControlFlow::Continue(())).await;
        let outcome = outcome.unwrap();
        ensure(outcome.ended == ends.len() as u64 && outcome.refused.is_empty(), || format!("{outcome:?}"))?;
        let after = self.read(case, ground).await;
        for (id, was) in before {
            let is = &after[id];
            let Some(judged) = ends.get(id) else {
                ensure(was.0 == is.0, || format!("{id} was {} and is {}", was.0, is.0))?;
                continue;
            };
            let text = if judged.action == OnStale::Cancel { "cancelled" } else { "gave up" };
            ensure(is.0["status"] == text && is.4.is_some(), || format!("{id} is {}", is.0))?;
        }
        if case.recorded {
            let recorded: Vec<(String, String, String, String)> = sqlx::query_as(
                "SELECT execution_id, action, reason, source FROM jobexec.events WHERE action IN ('Failed', 'Cancelled')",
            )
            .fetch_all(&self.world.pool)
            .await
            .unwrap();
            let mut recorded: Vec<_> =
                recorded.into_iter().map(|(a, b, c, d)| format!("{a} {b} {c} {d}")).collect();
            recorded.sort();
            let done = |how| if how == OnStale::Cancel { "Cancelled" } else { "Failed" };
            let told =
                |(id, j): (&&String, &&Judged)| format!("{id} {} {} {}", done(j.action), j.reason, j.source);
            let mut wanted: Vec<_> = ends.iter().map(told).collect();
            wanted.sort();
            ensure(recorded == wanted, || format!("recorded is\n{recorded:#?}\nand should be\n{wanted:#?}"))?;
        }
        Ok(())
    }

    async fn clear(&self, ground: &Ground, jobs: bool) {
        let schema = &ground.schema;
        let jobs = if jobs { format!(", {schema}.jobs") } else { String::new() };
        self.world
            .sql(&format!(
                "TRUNCATE {schema}.\"jobExecutions\"{jobs}, jobexec.rules, jobexec.suspects, jobexec.observations, jobexec.events, jobexec.sweeps"
            ))
            .await;
    }

    async fn fill(&self, case: &Case, rows: &[&Row], ground: &Ground, now: DateTime<Utc>) {
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

    /// Lets the operator observe the finished jobs, then ages the observations, and finishes jobs or reopens them.
    /// Returns since when each row is a suspect.
    async fn suspect(
        &self,
        case: &Case,
        rows: &[&Row],
        ground: &Ground,
        predicate: &StalenessPredicate<'_>,
    ) -> Vec<Option<i128>> {
        let shape = &SHAPES[case.shape];
        let mut suspects = vec![None; rows.len()];
        if shape.jobs.is_none() || !case.recorded {
            return suspects;
        }
        evidence::observe(&self.databases[0], predicate).await.unwrap();
        self.finish(case, ground, |job| job.was_finished).await;
        evidence::observe(&self.databases[0], predicate).await.unwrap();
        let now: DateTime<Utc> = self.world.one("SELECT statement_timestamp()").await;
        for (place, row) in rows.iter().enumerate() {
            let since = row.suspect.instant(now).unwrap();
            let began = if row.reused { "'2001-01-01Z'" } else { "began_at" };
            let aged = format!(
                "UPDATE jobexec.suspects SET since = $1, began_at = {began} WHERE execution_id = $2 RETURNING 1"
            );
            let found = sqlx::query(AssertSqlSafe(aged)).bind(since).bind(shape.id(place));
            let found = found.fetch_optional(&self.world.pool).await.unwrap();
            if found.is_some() && !row.reused {
                suspects[place] = Some(i128::from(since.timestamp_micros()));
            }
        }
        self.finish(case, ground, |job| job.finished).await;
        suspects
    }

    /// Finishes or reopens jobs.
    async fn finish(&self, case: &Case, ground: &Ground, finished: impl Fn(&case::Job) -> bool) {
        let Some(jobs) = SHAPES[case.shape].jobs else { return };
        for (n, job) in case.jobs.iter().enumerate() {
            let status = if finished(job) { "failed" } else { "running" };
            self.world
                .sql(&format!(
                    "UPDATE {}.jobs SET status = '{status}' WHERE id::text = '{}'",
                    ground.schema,
                    layout::key(jobs.id, n).replace('\'', "''")
                ))
                .await;
        }
    }

    /// Lets the operator observe rows that run without a start, then ages that. Returns since when each row is observed
    /// doing so.
    async fn see(&self, case: &Case, rows: &[&Row], predicate: &StalenessPredicate<'_>) -> Vec<Option<i128>> {
        let shape = &SHAPES[case.shape];
        let mut seen = vec![None; rows.len()];
        observations::update_running_without_start(&self.databases[0], predicate).await.unwrap();
        let now: DateTime<Utc> = self.world.one("SELECT statement_timestamp()").await;
        for (place, row) in rows.iter().enumerate() {
            let since = row.suspect.instant(now).unwrap();
            let aged = sqlx::query(
                "UPDATE jobexec.observations SET since = $1, detail = CASE WHEN $3 THEN '1' ELSE detail END
                 WHERE kind = 'RunningWithoutStart' AND execution_id = $2 RETURNING 1",
            );
            let aged = aged.bind(since).bind(shape.id(place)).bind(row.reused);
            let found = aged.fetch_optional(&self.world.pool).await.unwrap();
            seen[place] = found.filter(|_| !row.reused).map(|_| i128::from(since.timestamp_micros()));
        }
        seen
    }

    /// Lets rows be observed paused earlier, or now, and running again. Returns the duration of each pause up to now, and
    /// when the row was known to run again.
    async fn pause(
        &self,
        case: &Case,
        rows: &[&Row],
        ground: &Ground,
        now: DateTime<Utc>,
    ) -> Vec<Option<(i128, i128)>> {
        let shape = &SHAPES[case.shape];
        let mut pauses = vec![None; rows.len()];
        if !case.recorded {
            return pauses;
        }
        for (place, row) in rows.iter().enumerate() {
            let Some(start) = row.start else { continue };
            let start =
                if row.reused { "2001-01-01Z".to_owned() } else { start.of_type(shape.started_at).text(now) };
            let insert = |kind: &'static str,
                          since: DateTime<Utc>,
                          total: chrono::TimeDelta,
                          detail: Option<&'static str>| {
                sqlx::query(
                    "INSERT INTO jobexec.observations (store_id, kind, execution_id, started_at, since, total, detail) \
                     VALUES ($1, $2, $3, $4::text::timestamptz, $5, $6, $7)",
                )
                .bind(ground.store_id)
                .bind(kind)
                .bind(shape.id(place))
                .bind(start.clone())
                .bind(since)
                .bind(total)
                .bind(detail)
                .execute(&self.world.pool)
            };
            if let Some(again) = row.again {
                let since = again.instant(now).unwrap();
                insert("StartedAgain", since, chrono::TimeDelta::zero(), None).await.unwrap();
            }
            let Some((total, since, again)) = row.pauses.filter(|_| shape.pauses) else { continue };
            let since = since.instant(now).unwrap();
            insert("Paused", since, total.delta(), (!again).then_some("Resumed")).await.unwrap();
            let (since, now) = (i128::from(since.timestamp_micros()), i128::from(now.timestamp_micros()));
            let more = if again { now - since } else { 0 };
            pauses[place] = (!row.reused).then_some((total.micros() + more, if again { now } else { since }));
        }
        pauses
    }

    async fn read(&self, case: &Case, ground: &Ground) -> BTreeMap<String, Read> {
        let sql = SHAPES[case.shape].read(&ground.schema);
        let rows: Vec<Columns> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.world.pool).await.unwrap();
        rows.into_iter()
            .map(|(id, all, start, beat, made, end)| (id, (all, start, beat, made, end)))
            .collect()
    }
}

/// What judges the rows of a case, with the options of the case.
fn judge_of<'a>(
    case: &Case,
    ground: &'a Ground,
    compiled: &'a RuleSet,
    now: DateTime<Utc>,
) -> StalenessPredicate<'a> {
    StalenessPredicate {
        mapping: &ground.mapping,
        effective_rules: compiled,
        rules: if case.recorded { Rules::Table(ground.store_id) } else { Rules::Memory },
        single_active_execution: case.single_active_execution.map(case::Length::delta),
        workloads: None,
        watched: case.watched.instant(now).unwrap(),
        heartbeats_seen: None,
        evidence: case.evidence,
        asked: None,
        undecided: &[],
    }
}

/// Puts rules into effect.
async fn put(
    database: &Database,
    store_id: i64,
    compiled: &RuleSet,
    mapping: &Value,
) -> Result<(), TestCaseError> {
    rules::replace(database, store_id, compiled, &[], mapping).await.unwrap();
    let (again, _) = rules::replace(database, store_id, compiled, &[], mapping).await.unwrap();
    ensure(!again, || "rules that were just written differ".to_owned())
}

/// The stale executions by the model.
fn expected(model: &Model<'_>, shape: &Shape) -> BTreeMap<String, Judged> {
    model
        .executions
        .iter()
        .filter_map(|execution| Some((shape.id(execution.place), model.predicate(execution)?)))
        .collect()
}

/// Checks that the list has exactly these executions, with reason, source and action.
async fn the_list_is(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    expected: &BTreeMap<String, Judged>,
) -> Result<(), TestCaseError> {
    let listed = list::stale(database, predicate, 100_000).await.unwrap();
    let told = |(id, judged): (&String, &Judged)| {
        format!("{id}: {} {} {}", judged.reason, judged.source, judged.action.as_str())
    };
    let mut found: Vec<String> =
        listed.iter().map(|s| format!("{}: {} {} {}", s.id, s.reason, s.source, s.action)).collect();
    found.sort();
    let mut wanted: Vec<String> = expected.iter().map(told).collect();
    wanted.sort();
    ensure(found == wanted, || format!("the list is\n{found:#?}\nand should be\n{wanted:#?}"))
}

/// Checks the number of executions to be ended, and the next deadline. That must be known only within the horizon and only
/// for executions that are to be ended: all others wait for a poll.
async fn the_next_deadline_is(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    model: &Model<'_>,
    ends: &BTreeMap<&String, &Judged>,
) -> Result<(), TestCaseError> {
    let horizon = model.case.horizon.delta();
    let pulse = observe::pulse(database, predicate, horizon).await.unwrap();
    ensure(usize::try_from(pulse.stale).unwrap() == ends.len(), || format!("{pulse:?}, and {ends:?}"))?;
    let until = model.now + i128::from(horizon.num_microseconds().unwrap());
    let to_come = model
        .executions
        .iter()
        .filter(|execution| runs(execution) && model.action(execution) != OnStale::AlertOnly)
        // Observed pauses move with the clock.
        .filter(|execution| !execution.row.pauses.is_some_and(|(.., paused)| paused))
        .filter_map(|execution| Some((execution, model.deadline(execution)?)))
        .filter(|(_, deadline)| *deadline > model.now)
        // One that gets a grace period, since it runs again with the same start, is not stale before its end.
        .map(|(execution, deadline)| deadline.max(model.held_until(execution).unwrap_or(deadline)))
        .filter(|deadline| *deadline < until)
        .min();
    let next = pulse.next_deadline.map(|at| i128::from(at.timestamp_micros()));
    ensure(to_come.is_none_or(|deadline| next.is_some_and(|next| next <= deadline)), || {
        format!("the next deadline is {to_come:?}, not {next:?}, at {}", model.now)
    })
}

/// The rows with the times in their columns.
fn executions<'a>(rows: &[&'a Row], read: &BTreeMap<String, Read>, shape: &Shape) -> Vec<Execution<'a>> {
    let micros = |text: &Option<String>| text.as_deref().map(micros);
    let execution = |(place, row): (usize, &&'a Row)| {
        let read = &read[&shape.id(place)];
        Execution { row, place, start: micros(&read.1), heartbeat: micros(&read.2), created: micros(&read.3) }
    };
    rows.iter().enumerate().map(execution).collect()
}

/// The id of a row, and its columns.
type Columns = (String, Value, Option<String>, Option<String>, Option<String>, Option<DateTime<Utc>>);

/// A row: all of it, its start, its heartbeat, its creation, and its end.
type Read = (Value, Option<String>, Option<String>, Option<String>, Option<DateTime<Utc>>);

/// Microseconds since 1970, as Postgres prints them.
fn micros(text: &str) -> i128 {
    match text {
        "Infinity" => INFINITY,
        "-Infinity" => -INFINITY,
        text => text.split('.').next().unwrap().parse().unwrap(),
    }
}

/// The program that judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The SQL of the operator, with the rules passed to it.
    Operator,
    /// The command line, which reads the operator's rules from the database.
    CommandLine,
}

/// The store as users would write it.
fn store(case: &Case, ground: &Ground) -> ExecutionStore {
    let layout = SHAPES[case.shape].layout(&ground.schema);
    let mut spec = json!({
        "connection": {"secretRef": {"name": "db"}},
        "table": layout.table,
        "defaultTimeout": written(case.timeout),
        "gracePeriod": format!("{:?}", case.grace),
    });
    if let Some(jobs) = layout.jobs {
        spec["jobs"] = json!(jobs);
    }
    if let Some(workers) = layout.heartbeat {
        spec["heartbeat"] = json!(workers);
    }
    if let Some(heartbeat) = case.heartbeat {
        spec["heartbeatTimeout"] = json!(written(heartbeat));
    }
    if let Some(grace) = case.single_active_execution {
        spec["singleActiveExecution"] = json!({"gracePeriod": format!("{grace:?}")});
    }
    ExecutionStore::new("s", serde_json::from_value(spec).unwrap())
}

/// A limit as users write it.
fn written(limit: Limit<case::Length>) -> String {
    limit.length().map_or("Never".to_owned(), |length| format!("{length:?}"))
}

fn chrono(limit: Limit<case::Length>) -> Limit<chrono::TimeDelta> {
    Limit::of(limit.length().map(case::Length::delta))
}

fn compile(case: &Case) -> RuleSet {
    let shape = &SHAPES[case.shape];
    let base = StoreDefaults {
        timeout: Sourced::new(chrono(case.timeout), STORE),
        grace: Sourced::new(case.grace.delta(), STORE),
        heartbeat: case.heartbeat.map(|heartbeat| Sourced::new(chrono(heartbeat), STORE)),
        on_stale: Sourced::new(OnStale::Fail, STORE),
        warn: Sourced::new(Warn::After(chrono::TimeDelta::hours(1)), STORE),
        overruled: Vec::new(),
        store: STORE.to_owned(),
    };
    let overrides = case
        .overrides
        .iter()
        .map(|custom| ExecutionOverride {
            name: custom.name.clone(),
            created: custom.created,
            key: shape.id(custom.row),
            timeout: custom.timeout.map(chrono),
            extend_by: custom.extend_by.map(case::Length::delta),
            by: None,
        })
        .collect();
    let policies = case.policies.iter().map(|policy| said(case, policy)).collect();
    jobexec_operator::rules::compile(base, overrides, policies)
}

fn said(case: &Case, policy: &case::Policy) -> Policy {
    let shape = &SHAPES[case.shape];
    let dynamic = policy.dynamic.as_ref().map(|dynamic| match dynamic {
        case::HistoryTimeout::Pending => HistoryTimeout::Pending,
        case::HistoryTimeout::Known { jobs, kinds } => {
            let jobs = jobs.iter().map(|(job, timeout)| ComputedTimeout {
                job: Some(shape.job(*job)),
                type_: case.kind_of_job(*job).map(|kind| shape.kind(kind)),
                timeout: timeout.delta(),
            });
            let kinds = kinds.iter().map(|(kind, timeout)| ComputedTimeout {
                job: None,
                type_: Some(shape.kind(*kind)),
                timeout: timeout.delta(),
            });
            HistoryTimeout::Known(jobs.chain(kinds).collect())
        }
    });
    let (jobs, kinds) = policy.named.clone().unwrap_or_default();
    Policy {
        name: policy.name.clone(),
        created: policy.created,
        jobs: jobs.into_iter().map(|job| shape.job(job)).collect(),
        types: kinds.into_iter().map(|kind| shape.kind(kind)).collect(),
        all: policy.named.is_none(),
        timeout: policy.timeout.map(chrono),
        grace: policy.grace.map(case::Length::delta),
        heartbeat: policy.heartbeat.map(chrono),
        on_stale: policy.on_stale,
        warn: policy.warn.map(Warn::Percent),
        dynamic,
        notifies: false,
    }
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(why())) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sql_judges_as_the_model_does() {
    check(CASES, By::Operator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_judges_as_the_operator_does() {
    check(CASES / 3, By::CommandLine).await;
}

#[allow(clippy::result_large_err, reason = "the error is the case, to be printed")]
async fn check(cases: u32, by: By) {
    let field = Field::new().await;
    let config = Config { failure_persistence: None, max_shrink_iters: 400, ..Config::with_cases(cases) };
    let outcome = tokio::task::block_in_place(|| {
        let handle = tokio::runtime::Handle::current();
        TestRunner::new(config).run(&case::cases(), |case| handle.block_on(field.play(&case, by)))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}\n{case:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
