//! The specification, row by row: which executions are stale, why, by which source, and what happens to them. It contains
//! no SQL and does not know how policies are compiled.

use chrono::{DateTime, Utc};
use jobexec_operator::api::retry::RetryReason;
use jobexec_operator::api::{Limit, OnStale};

use super::case::{Case, HistoryTimeout, Job, Length, Policy, Retry, Row, Status, When};
use super::layout::SHAPES;

/// Later than everything else.
pub(super) const INFINITY: i128 = i128::MAX / 4;

/// A row of the table, with the times in its columns in microseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Execution<'a> {
    pub(super) row: &'a Row,
    pub(super) place: usize,
    pub(super) start: Option<i128>,
    pub(super) heartbeat: Option<i128>,
    pub(super) created: Option<i128>,
}

/// The expected judgement of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) reason: &'static str,
    pub(super) source: String,
    pub(super) action: OnStale,
    /// True if it would be retried, and its attempts are used up.
    pub(super) exhausted: bool,
    /// True if its retry waits until its worker is known to be gone.
    pub(super) waits: bool,
}

/// One case at one moment.
pub(super) struct Model<'a> {
    pub(super) case: &'a Case,
    pub(super) executions: Vec<Execution<'a>>,
    pub(super) now: i128,
    /// The same as `now`.
    pub(super) at: DateTime<Utc>,
    pub(super) watched: i128,
    /// Since when the job of an execution has been observed finished, by the index of its row.
    pub(super) suspects: Vec<Option<i128>>,
    /// Since when an execution is observed running without a start, by the index of its row.
    pub(super) seen: Vec<Option<i128>>,
    /// The duration of observed pauses, and when it was known to run again, by the index of its row.
    pub(super) pauses: Vec<Option<(i128, i128)>>,
    /// The deadline by the earlier rules, and the extension, by the index of its row.
    pub(super) promised: Vec<Option<(i128, Length)>>,
    /// True if the operator has tables of its own to record that in.
    pub(super) remembers: bool,
}

/// The ways a policy selects an execution, the most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Job,
    Kind,
    All,
}

/// The source of values from the store.
pub(super) const STORE: &str = "ExecutionStore/s";

impl Model<'_> {
    /// Judges an execution; `None`: it is not stale.
    pub(super) fn predicate(&self, execution: &Execution<'_>) -> Option<Judged> {
        let from =
            self.counts_from(execution).filter(|_| runs(execution) && self.case.exists(execution.row))?;
        let row = execution.row;
        if self.is_held(execution) {
            return None;
        }
        let silence = self.said(row, |p| p.heartbeat).or(self.case.heartbeat.map(|h| (h, STORE.to_owned())));
        let silence = silence.and_then(|(limit, source)| Some((limit.length()?, source)));
        let silent = |times: i128| {
            execution.heartbeat.zip(silence.clone()).filter(|(last, (silence, _))| {
                let alive = (*last).max(from).max(self.watched).max(self.resumed(execution));
                self.remembers && self.held_from(alive) + times * silence.micros() <= self.now
            })
        };
        let (timeout, source) = self.timeout(execution);
        let due = self.due(execution, from, timeout).is_some_and(|due| due <= self.now);
        let mut reasons: Vec<(&'static str, String)> =
            due.then_some(("DeadlineExceeded", source)).into_iter().collect();
        if self.case.evidence {
            let lost = silent(1).map(|(_, (_, source))| source);
            let (by_worker, by_itself) =
                if SHAPES[self.case.shape].of_workers { (lost, None) } else { (None, lost) };
            reasons.extend(by_itself.map(|source| ("HeartbeatLost", source)));
            reasons.extend(self.job_is_finished(execution).then(|| ("JobFinished", STORE.to_owned())));
            reasons.extend(self.is_superseded(execution).then(|| ("Superseded", STORE.to_owned())));
            reasons.extend(by_worker.map(|source| ("WorkerLost", source)));
        }
        let at_once = self.said(row, |p| p.retry.clone()).is_some();
        let waits = !at_once && silent(3).is_none();
        let judged = reasons.into_iter().map(|(reason, source)| {
            let (action, exhausted) = self.action_for(execution, reason);
            Judged { reason, source, action, exhausted, waits }
        });
        // One that is stale for several reasons is retried only if each of them allows it. Otherwise the first counts.
        judged.min_by_key(|judged| judged.action == OnStale::Retry || judged.exhausted)
    }

    /// The action for a stale execution.
    pub(super) fn action(&self, execution: &Execution<'_>) -> OnStale {
        self.said(execution.row, |p| p.on_stale).map_or(OnStale::Fail, |(action, _)| action)
    }

    /// The action for an execution that is stale for this reason, and whether it is that of its last attempt.
    fn action_for(&self, execution: &Execution<'_>, reason: &str) -> (OnStale, bool) {
        let action = self.action(execution);
        if action != OnStale::Retry || !SHAPES[self.case.shape].retries() || !self.remembers {
            return (action, false);
        }
        let death = [RetryReason::HeartbeatLost, RetryReason::WorkerLost, RetryReason::WorkloadGone];
        let retry = self.said(execution.row, |p| p.retry.clone()).map(|(retry, _)| retry);
        let retry = retry.unwrap_or(Retry { reasons: death.to_vec(), cancels: false, exhausted: false });
        if retry.reasons.iter().any(|retried| retried.as_str() == reason) {
            return (if retry.exhausted { OnStale::Fail } else { OnStale::Retry }, retry.exhausted);
        }
        (if retry.cancels { OnStale::Cancel } else { OnStale::Fail }, false)
    }

    /// The start of the first hold after the last sign of life.
    fn held_from(&self, alive: i128) -> i128 {
        let began = self
            .case
            .held
            .iter()
            .filter_map(|hold| hold.instant(self.at))
            .map(|at| i128::from(at.timestamp_micros()));
        began.filter(|at| *at > alive && *at <= self.now).min().unwrap_or(alive)
    }

    /// The deadline of an execution, if it runs and has one.
    pub(super) fn deadline(&self, execution: &Execution<'_>) -> Option<i128> {
        let from =
            self.counts_from(execution).filter(|_| runs(execution) && self.case.exists(execution.row))?;
        self.due(execution, from, self.timeout(execution).0)
    }

    /// Its deadline by the rules, or the promise at its extension, if that is later and the present extension is not
    /// shorter. `None`: it has none.
    fn due(&self, execution: &Execution<'_>, from: i128, timeout: Limit<i128>) -> Option<i128> {
        let extension = self.wished(execution, |w| w.extend_by).map(|(by, _)| by);
        let promised = self.promised.get(execution.place).copied().flatten();
        let promised = promised.filter(|(_, by)| extension.is_some_and(|now| now >= *by));
        let due = from + self.allowed(execution, timeout.length()?);
        Some(promised.map_or(due, |(promised, _)| due.max(promised)))
    }

    /// The promise by the present rules, and the extension it comes from.
    pub(super) fn promise(&self, execution: &Execution<'_>) -> Option<(i128, Length)> {
        let row = execution.row;
        let begun = runs(execution) || (row.status == Some(Status::Paused) && SHAPES[self.case.shape].pauses);
        let (by, _) = self.wished(execution, |w| w.extend_by).filter(|(by, _)| *by > Length(0))?;
        // Starts at the ends of time get no promise.
        let endless = matches!(row.start, Some(start) if !matches!(start, When::Ago(_)));
        let from = self.counts_from(execution).filter(|_| begun && !endless && self.case.exists(row))?;
        // Without a deadline, none is promised.
        Some((from + self.allowed(execution, self.timeout(execution).0.length()?), by))
    }

    /// The time when it began: the later of start and creation; without a start, not before it was observed running.
    fn began(&self, execution: &Execution<'_>) -> Option<i128> {
        let start = execution.start.or(self.seen[execution.place])?;
        Some(start.max(execution.created.unwrap_or(-INFINITY)))
    }

    /// The same plus the duration of its pauses.
    fn counts_from(&self, execution: &Execution<'_>) -> Option<i128> {
        let from = self.began(execution)?;
        if execution.start.is_none() {
            return Some(from);
        }
        let said = execution.row.paused.filter(|_| SHAPES[self.case.shape].paused_seconds.is_some());
        let seen = self.pauses[execution.place].map_or(0, |(length, _)| length);
        Some(from + said.map_or(0, Length::micros).max(seen))
    }

    /// Reports whether it was run again with the same start less than a grace period ago.
    fn is_held(&self, execution: &Execution<'_>) -> bool {
        self.held_until(execution).is_some()
    }

    /// The end of that grace period, before which it is not stale.
    pub(super) fn held_until(&self, execution: &Execution<'_>) -> Option<i128> {
        let row = execution.row;
        let since = row.again.filter(|_| self.remembers && !row.reused && execution.start.is_some());
        let grace = self.said(row, |p| p.grace).map_or(self.case.grace, |(grace, _)| grace);
        let since = since.and_then(|since| since.instant(self.at))?;
        Some(i128::from(since.timestamp_micros()) + grace.micros()).filter(|until| *until > self.now)
    }

    /// The time when it was known to run again after a pause, if there was one.
    fn resumed(&self, execution: &Execution<'_>) -> i128 {
        self.pauses[execution.place].filter(|_| execution.start.is_some()).map_or(-INFINITY, |(_, at)| at)
    }

    fn allowed(&self, execution: &Execution<'_>, timeout: i128) -> i128 {
        let grace = self.said(execution.row, |p| p.grace).map_or(self.case.grace, |(grace, _)| grace);
        let extend_by = self.wished(execution, |w| w.extend_by).map_or(Length(0), |(by, _)| by);
        timeout + extend_by.micros() + grace.micros()
    }

    fn timeout(&self, execution: &Execution<'_>) -> (Limit<i128>, String) {
        if let Some((own, source)) = self.wished(execution, |w| w.timeout) {
            return (micros(own), source);
        }
        if let Some((own, column)) = self.of_row(execution) {
            return (Limit::After(own), format!("column {column}"));
        }
        for way in [Way::Job, Way::Kind, Way::All] {
            // Of policies with equal rank, the first one with any timeout decides.
            let owner = self
                .policies(execution.row, way)
                .into_iter()
                .find(|policy| policy.timeout.is_some() || policy.dynamic.is_some());
            if let Some(owner) = owner
                && let Some(timeout) = self.given(owner, way, execution.row)
            {
                return (micros(timeout), source(owner));
            }
        }
        (micros(self.case.timeout), STORE.to_owned())
    }

    /// The timeout by a column of the row, and the name of that.
    fn of_row(&self, execution: &Execution<'_>) -> Option<(i128, &'static str)> {
        let shape = &SHAPES[self.case.shape];
        if shape.timeout.is_some() {
            let own = execution.row.timeout.filter(|own| *own > Length(0))?;
            return Some((own.micros(), "max_run"));
        }
        let until = self.instant(execution.row.until?.of_type(shape.deadline_at?));
        let began = self.began(execution)?;
        match until - began {
            left if left > 0 => Some((left, "until")),
            // It was over before it was first seen.
            _ if execution.start.is_none() => Some((1, "until")),
            _ => None,
        }
    }

    fn instant(&self, when: When) -> i128 {
        match when {
            When::Infinity | When::Last => INFINITY,
            When::MinusInfinity | When::First => -INFINITY,
            ago @ When::Ago(_) => {
                ago.instant(self.at).map_or(INFINITY, |at| i128::from(at.timestamp_micros()))
            }
        }
    }

    /// The timeout that a policy gives.
    fn given(&self, policy: &Policy, way: Way, row: &Row) -> Option<Limit<Length>> {
        match &policy.dynamic {
            Some(HistoryTimeout::Pending) => policy.timeout.filter(|timeout| *timeout == Limit::Never),
            Some(HistoryTimeout::Known { jobs, kinds }) => {
                // If one job has executions of several types, the longest timeout counts.
                let of_job = jobs.iter().filter(|(job, _)| row.job == Some(*job)).map(|(_, t)| *t).max();
                // Timeouts by type do not apply to jobs that are named.
                let of_kind =
                    kinds.iter().filter(|(kind, _)| way != Way::Job && self.case.kind(row) == Some(*kind));
                of_job.or(of_kind.map(|(_, t)| *t).max()).map(Limit::After).or(policy.timeout)
            }
            None => policy.timeout,
        }
    }

    /// The value of the most specific policy that has one, and its source.
    fn said<T>(&self, row: &Row, field: impl Fn(&Policy) -> Option<T>) -> Option<(T, String)> {
        [Way::Job, Way::Kind, Way::All]
            .into_iter()
            .flat_map(|way| self.policies(row, way))
            .find_map(|policy| field(policy).map(|value| (value, source(policy))))
    }

    /// The policies that select an execution in this way, the older first, then by name.
    fn policies(&self, row: &Row, way: Way) -> Vec<&Policy> {
        let kind = self.case.kind(row);
        let selects = |policy: &&Policy| match (way, &policy.named) {
            (Way::Job, Some((jobs, _))) => row.job.is_some_and(|job| jobs.contains(&job)),
            (Way::Kind, Some((_, kinds))) => kind.is_some_and(|kind| kinds.contains(&kind)),
            (Way::All, None) => true,
            _ => false,
        };
        let mut policies: Vec<_> = self.case.policies.iter().filter(selects).collect();
        policies.sort_by_key(|policy| (policy.created, &policy.name));
        policies
    }

    /// The value of the oldest object of an execution that asks for anything.
    fn wished<T>(
        &self,
        execution: &Execution<'_>,
        field: impl Fn(&super::case::ExecutionOverride) -> Option<T>,
    ) -> Option<(T, String)> {
        let of_it = self.case.overrides.iter().filter(|custom| custom.row == execution.place);
        let asking = of_it.filter(|custom| custom.timeout.is_some() || custom.extend_by.is_some());
        let custom = asking.min_by_key(|custom| (custom.created, &custom.name))?;
        Some((field(custom)?, format!("JobExecution/{}", custom.name)))
    }

    fn job_is_finished(&self, execution: &Execution<'_>) -> bool {
        let (Some(job), Some(jobs)) = (execution.row.job, SHAPES[self.case.shape].jobs) else { return false };
        let job = &self.case.jobs[usize::from(job)];
        let grace: jobexec_operator::api::Duration = jobs.grace.parse().unwrap();
        let grace = i128::from(grace.to_chrono().num_microseconds().unwrap());
        let seen = |since: i128| since.max(self.watched) + grace <= self.now;
        let certain = !job.began_finished || self.finished_meanwhile(execution, job, jobs.finished_at);
        self.remembers
            && job.listed
            && job.finished
            && certain
            && !self.outlived(execution, self.finish_of(job, jobs.finished_at))
            && self.suspects[execution.place].is_some_and(seen)
    }

    /// Reports whether an execution itself sent a heartbeat after its job had finished.
    fn outlived(&self, execution: &Execution<'_>, finish: Option<i128>) -> bool {
        let itself = execution.heartbeat.filter(|_| !SHAPES[self.case.shape].of_workers);
        itself.zip(finish).is_some_and(|(heartbeat, finish)| heartbeat > finish)
    }

    /// Reports whether the job finished after the execution began, and not in the future.
    fn finished_meanwhile(&self, execution: &Execution<'_>, job: &Job, column: Option<&str>) -> bool {
        let finish = self.finish_of(job, column).zip(self.began(execution));
        finish.is_some_and(|(ended, began)| ended > began && ended <= self.now)
    }

    /// When the job says that it finished.
    fn finish_of(&self, job: &Job, column: Option<&str>) -> Option<i128> {
        Some(self.instant(job.ended?.of_type(column?)))
    }

    /// Reports whether a later execution supersedes it, which started after it, some time ago, and ran.
    fn is_superseded(&self, execution: &Execution<'_>) -> bool {
        let row = execution.row;
        let Some(own) = self.began(execution) else { return false };
        let own = own.max(self.resumed(execution));
        let (Some(lead), Some(job), Some(number)) = (self.case.single_active_execution, row.job, row.number)
        else {
            return false;
        };
        self.executions.iter().any(|other| {
            other.row.job == Some(job)
                && self.case.exists(other.row)
                && other.row.number.is_some_and(|later| later > number)
                && other.start.is_some_and(|start| start >= own && start + lead.micros() <= self.now)
                && self.ran(other.row, lead)
        })
    }

    fn ran(&self, row: &Row, lead: Length) -> bool {
        let took = row.took.filter(|_| row.start.is_some_and(|start| matches!(start, When::Ago(_))));
        let long = took.is_some_and(|took| took >= 1_000 && i128::from(took) * 1_000 >= lead.micros());
        match row.status {
            Some(Status::Running | Status::AlsoRunning | Status::Completed) => {
                took.is_none_or(|took| took > 0)
            }
            Some(Status::Failed) => long,
            Some(Status::Paused) => SHAPES[self.case.shape].pauses && took.is_none_or(|took| took > 0),
            Some(Status::Cancelled) => SHAPES[self.case.shape].cancels && long,
            _ => false,
        }
    }
}

pub(super) fn runs(execution: &Execution<'_>) -> bool {
    execution.row.status.is_some_and(super::case::Status::runs)
}

fn micros(limit: Limit<Length>) -> Limit<i128> {
    match limit {
        Limit::After(length) => Limit::After(length.micros()),
        Limit::Never => Limit::Never,
    }
}

fn source(policy: &Policy) -> String {
    format!("ExecutionPolicy/{}", policy.name)
}
