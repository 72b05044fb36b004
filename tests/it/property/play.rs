//! Plays one case: fills its tables, lets rules and observations change, and has the result compared with the model.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use jobexec_operator::api::OnStale;
use jobexec_operator::db::staleness::Rules;
use jobexec_operator::db::{Database, StalenessPredicate, promise, rules, stores};
use jobexec_operator::rules::RuleSet;
use proptest::test_runner::TestCaseError;
use serde_json::Value;

use super::case::{self, Case, Row};
use super::comparison::{the_list_is, the_next_deadline_is};
use super::field::{Field, Ground, Read};
use super::layout::{SHAPES, Shape};
use super::model::{Execution, INFINITY, Judged, Model, STORE};
use super::spec::{compile, store};
use super::{By, ensure};

impl Field {
    pub(super) async fn play(&self, case: &Case, predicate: By) -> Result<(), TestCaseError> {
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
        action: None,
        evidence: case.evidence,
        asked: None,
        undecided: &[],
        retries: jobexec_operator::db::staleness::RetryLimits::NONE,
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

/// The rows with the times in their columns.
fn executions<'a>(rows: &[&'a Row], read: &BTreeMap<String, Read>, shape: &Shape) -> Vec<Execution<'a>> {
    let micros = |text: &Option<String>| text.as_deref().map(micros);
    let execution = |(place, row): (usize, &&'a Row)| {
        let read = &read[&shape.id(place)];
        let (start, created) = (micros(&read.1), micros(&read.3));
        let heartbeat = shape.heartbeat(start, micros(&read.2), created);
        Execution { row, place, start, heartbeat, created }
    };
    rows.iter().enumerate().map(execution).collect()
}

/// Microseconds since 1970, as Postgres prints them.
fn micros(text: &str) -> i128 {
    match text {
        "Infinity" => INFINITY,
        "-Infinity" => -INFINITY,
        text => text.split('.').next().unwrap().parse().unwrap(),
    }
}
