//! Compares the list, the next deadline, the sweep and the command line with what the model expects.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use jobexec_operator::api::OnStale;
use jobexec_operator::db::sweep::{self, Known, Sweep, Trigger};
use jobexec_operator::db::{Database, Ledger, StalenessPredicate, list, observe};
use proptest::test_runner::TestCaseError;
use serde_json::Value;

use super::case::Case;
use super::ensure;
use super::field::{Field, Ground, Read};
use super::layout::SHAPES;
use super::model::{Judged, Model, runs};

impl Field {
    /// Checks that the command line, which uses only the database, gives the same result.
    pub(super) async fn told_by_command(
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
            // Either this table knows no retry, or the operator decides when they run again.
            OnStale::Fail | OnStale::Retry => format!("{id}: Failed {} {}", j.reason, j.source),
        };
        let mut wanted: Vec<String> = expected.iter().map(wanted).collect();
        wanted.sort();
        ensure(told == wanted, || format!("the command line says\n{told:#?}\nand should say\n{wanted:#?}"))
    }

    /// Checks that a sweep ends exactly the expected executions, and records why.
    pub(super) async fn sweep(
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
            let again = is_set_back(case, judged);
            let text = match judged.action {
                OnStale::Cancel => "cancelled",
                _ if again => "scheduled",
                _ => "gave up",
            };
            ensure(is.0["status"] == text && is.4.is_some() != again, || format!("{id} is {}", is.0))?;
        }
        if case.recorded {
            let recorded: Vec<(String, String, String, String)> = sqlx::query_as(
                "SELECT execution_id, action, reason, source FROM jobexec.events WHERE action IN ('Failed', 'Cancelled', 'Retried')",
            )
            .fetch_all(&self.world.pool)
            .await
            .unwrap();
            let mut recorded: Vec<_> =
                recorded.into_iter().map(|(a, b, c, d)| format!("{a} {b} {c} {d}")).collect();
            recorded.sort();
            let told = |(id, j): (&&String, &&Judged)| {
                let done = match j.action {
                    OnStale::Cancel => "Cancelled",
                    _ if is_set_back(case, j) => "Retried",
                    _ => "Failed",
                };
                let reason = if j.exhausted { "RetriesExhausted" } else { j.reason };
                format!("{id} {done} {reason} {}", j.source)
            };
            let mut wanted: Vec<_> = ends.iter().map(told).collect();
            wanted.sort();
            ensure(recorded == wanted, || format!("recorded is\n{recorded:#?}\nand should be\n{wanted:#?}"))?;
        }
        Ok(())
    }
}

/// Reports whether the row of an execution is set back, so that it runs again.
fn is_set_back(case: &Case, judged: &Judged) -> bool {
    judged.action == OnStale::Retry && SHAPES[case.shape].retries() && case.recorded && !judged.waits
}

/// Checks that the list has exactly these executions, with reason, source and action.
pub(super) async fn the_list_is(
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
pub(super) async fn the_next_deadline_is(
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
