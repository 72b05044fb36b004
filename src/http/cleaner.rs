//! One clean-up of one store. It goes on when its client has gone.

use std::ops::ControlFlow;
use std::time::Duration;

use chrono::TimeDelta;

use super::app::{App, Turn};
use super::problem::Problem;
use super::ready::Ready;
use super::stores::{Door, Open, StoreName};
use crate::boundary::{Panicked, Place, caught};
use crate::controllers::Context;
use crate::db::Judge;
use crate::db::cleanup::{self, Options, Row};
use crate::db::judge::Suspicion;
use crate::metrics::End;

/// How many rows are told of.
pub(super) const TOLD: usize = 1_000;

/// The name of the API in records.
const SOURCE: &str = "HttpApi";

/// How long to wait until the figures say what was done, so that who asks for them next sees it.
const FIGURES: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) older_than: Option<TimeDelta>,
    pub(super) ids: Vec<String>,
    pub(super) include_governed: bool,
    pub(super) suspicion: Option<Suspicion>,
    pub(super) dry_run: bool,
    pub(super) actor: String,
}

impl Order {
    /// With the ids as the table writes them.
    pub(super) fn in_words_of(&self, open: &Open) -> Result<Self, Problem> {
        let mut ids = Vec::with_capacity(self.ids.len());
        for id in &self.ids {
            let id = open.id(id)?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(Self { ids, ..self.clone() })
    }
}

/// What it came to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) cleaned: u64,
    pub(super) skipped: u64,
    /// The first of them.
    pub(super) rows: Vec<Row>,
    /// How many more there are.
    pub(super) omitted: u64,
    /// Why it did not go on.
    pub(super) broken: Option<Problem>,
}

/// Cleans up; the turn is held until all is done. Only a dry run ends with its client.
pub(super) async fn run(
    app: &App,
    open: Open,
    door: Door,
    order: Order,
    turn: Option<Turn>,
) -> Result<(StoreName, Outcome), Problem> {
    let context = app.context.clone();
    let outcome = if order.dry_run {
        let _reading = open.turn().await?;
        Box::pin(judged(&context, open.clone(), order)).await
    } else {
        let open = open.clone();
        let task = app.tasks.spawn(caught(Place::Request, async move {
            let outcome = write(&context, open.clone(), order).await;
            if outcome.cleaned > 0 && !context.stop.is_cancelled() {
                show(&context, &open.name, door).await;
            }
            drop(turn);
            outcome
        }));
        let outcome = task.await.unwrap_or(Err(Panicked(Place::Request)));
        outcome.map_err(|panicked| Problem::Internal(panicked.to_string()))?
    };
    match outcome.broken {
        Some(problem) if outcome.rows.is_empty() => Err(problem),
        broken => Ok((open.name, Outcome { broken, ..outcome })),
    }
}

/// Has the figures taken anew, and waits a little for them.
async fn show(context: &Context, store: &StoreName, door: Door) {
    let handle = match door {
        Door::Own(Some(handle)) => handle,
        Door::Own(None) => return,
        Door::Other(other) => return other.reader.note_change(),
    };
    let mut latest = handle.latest();
    handle.note_change();
    context.nudge_store(&store.namespace, &store.name);
    let told = async {
        tokio::select! {
            told = latest.changed() => told.is_ok(),
            () = context.stop.cancelled() => false,
        }
    };
    if !tokio::time::timeout(FIGURES, told).await.unwrap_or(false) {
        tracing::debug!(%store, "the figures come later");
    }
}

/// Cleans up for good.
async fn write(context: &Context, open: Open, order: Order) -> Outcome {
    // Of two connections the other one is the operator's.
    let session = open.session.clone();
    let few = session.database.connections() <= 2;
    let _reading = if few { Some(session.database.reading().await) } else { None };
    Box::pin(judged(context, open, order)).await
}

/// Makes ready and cleans up. A dry run does so too: what it tells of is what would be done, or why nothing would be.
async fn judged(context: &Context, open: Open, order: Order) -> Outcome {
    let Ready { open, store, evidence } = match open.ready(context).await {
        Ok(ready) => ready,
        Err(problem) => return Outcome { broken: Some(problem), ..Outcome::default() },
    };
    let judge = open.session.judge(&open.in_force).with_evidence(evidence);
    if let Some(Err(not_asked)) = order.suspicion.map(|suspicion| judge.suspects(suspicion)) {
        let broken = Some(Problem::EvidenceNotAsked(not_asked.to_string()));
        return Outcome { broken, ..Outcome::default() };
    }
    // A person who corrects the spec meanwhile means the rest of it too.
    let changed = || (!context.is_current(&store)).then(|| open.changed(context));
    clean(context, &open, &judge, order, changed).await
}

async fn clean(
    context: &Context,
    open: &Open,
    judge: &Judge<'_>,
    order: Order,
    changed: impl Fn() -> Option<Problem>,
) -> Outcome {
    let options = Options {
        older_than: order.older_than,
        ids: order.ids,
        include_governed: order.include_governed,
        suspicion: order.suspicion,
        dry_run: order.dry_run,
        source: SOURCE,
        actor: Some(order.actor),
    };
    let mut outcome = Outcome::default();
    let mut broken = None;
    let cleaned = cleanup::run(&open.session.database, judge, &open.session.ledger, &options, |rows| {
        if !options.dry_run {
            open.session.tally.ended(rows.iter().filter_map(end));
        }
        for row in rows {
            outcome.count(row);
            if !options.dry_run && row.skipped.is_none() {
                log(&open.name, row, options.actor.as_deref());
            }
        }
        broken = if context.stop.is_cancelled() { Some(Problem::Stopping) } else { changed() };
        if broken.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .await;
    let failed = match cleaned {
        Ok((_, fault)) => {
            open.session.note_fault(fault);
            None
        }
        Err(error) => Some(open.failed(error)),
    };
    outcome.broken = broken.or(failed);
    outcome
}

/// What is counted of a row, if it was ended. A person is late by nobody's clock.
fn end(row: &Row) -> Option<End<'_>> {
    let reason = row.reason.as_deref().filter(|_| row.skipped.is_none())?;
    Some(End { reason, cancelled: row.action.as_deref() == Some("Cancelled"), lag: None })
}

impl Outcome {
    fn count(&mut self, row: &Row) {
        match row.skipped {
            None => self.cleaned += 1,
            Some(_) => self.skipped += 1,
        }
        if self.rows.len() < TOLD {
            self.rows.push(row.clone());
        } else {
            self.omitted += 1;
        }
    }
}

/// For those who keep no records in the database.
fn log(store: &StoreName, row: &Row, actor: Option<&str>) {
    tracing::info!(
        %store,
        execution = row.id,
        job = row.job_id,
        number = row.execution_number,
        action = row.action.as_deref(),
        reason = row.reason,
        actor,
        "ended an execution for a caller"
    );
}
