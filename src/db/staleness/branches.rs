//! The ways in which an execution can be stale, each a separate query: past a deadline by the default or a rule, by other evidence,
//! or by a manual request.
//!
//! The branches are assembled here, not in `.sql` files: which columns, joins and conditions one has depends on the mapping, on the
//! rules in effect and on what is asked.

use chrono::TimeDelta;

use super::evidence::{ALL, Kind};
use super::index_probe::IndexProbe;
use super::{End, IdFilter, NEXT_PARAMETER, Rules, Selection, StalenessPredicate, Suspicion, TOTAL};
use crate::api::{Limit, OnStale};
use crate::db::ids::id_of;
use crate::db::intervals::interval;
use crate::db::manual_request::{ForceOptions, GOVERNED};
use crate::db::mapping::literal;
use crate::db::reason::Reason;

impl StalenessPredicate<'_> {
    /// Returns one query for each way in which an execution can be stale, with the columns id, reason, action and place.
    pub(super) fn branches(&self, selection: Selection) -> Vec<String> {
        let parenthesised = |branches: Vec<String>| branches.into_iter().map(|b| format!("({b})")).collect();
        if let Some(suspicion) = self.confirmed() {
            return parenthesised(self.by_confirmed_suspicion(suspicion, selection));
        }
        let checked = ALL.iter().filter(|kind| self.evidence || kind.reason() == Reason::DeadlineExceeded);
        let mut branches: Vec<String> = checked.flat_map(|kind| kind.stale(self, selection)).collect();
        branches.extend(self.by_request(selection));
        parenthesised(branches)
    }

    /// Returns the kinds of evidence by which rows can be ended.
    pub(in crate::db) fn kinds(&self) -> impl Iterator<Item = &'static dyn Kind> {
        let confirmed = self.confirmed().map(Suspicion::reason);
        let selection = Selection::LookAt(1, End::Oldest, IdFilter::Others);
        ALL.into_iter().filter(move |kind| match confirmed {
            Some(reason) => kind.reason() == reason,
            None if self.evidence => !kind.stale(self, selection).is_empty(),
            None => kind.reason() == Reason::DeadlineExceeded,
        })
    }

    /// Returns the queries for rows that are past their deadline.
    pub(super) fn past_deadline(&self, selection: Selection) -> Vec<String> {
        let index_probes = self.index_probes(selection);
        let rest = |scope| {
            index_probes.iter().find(|peek| peek.scope == scope).map_or("true".to_owned(), IndexProbe::rest)
        };
        let mut branches: Vec<String> = index_probes.iter().map(IndexProbe::stale).collect();
        branches.push(self.by_execution(selection));
        branches.extend(self.has_rules("job_rule").then(|| self.by_job(selection, &rest("job_rule"))));
        branches.extend(self.by_default(selection));
        branches.extend(self.has_rules("type_rule").then(|| self.by_type(selection, &rest("type_rule"))));
        branches.extend(self.by_row(selection));
        branches.extend(self.without_start(selection));
        branches.extend(self.by_pause(selection));
        branches
    }

    fn by_default(&self, selection: Selection) -> Option<String> {
        let m = self.mapping;
        let base = &self.effective_rules.base;
        let action = self.by_default_for(Reason::DeadlineExceeded);
        let unwanted = action == OnStale::AlertOnly && !self.shows_alerts(selection)
            || self.action.is_some_and(|wanted| wanted != self.feasible(action));
        if base.timeout.value == Limit::Never || unwanted {
            return None;
        }
        Some(format!(
            "SELECT * FROM (SELECT {id} AS id, '{reason}' AS reason, '{action}' AS action, 0 AS place FROM {table} AS execution
                            WHERE {running} AND {by_default} AND {without_rule} {selection}) AS by_default",
            id = m.id(),
            reason = Reason::DeadlineExceeded.as_str(),
            action = action.as_str(),
            table = m.table(),
            running = self.judged(),
            by_default = self.counts_by(&Self::default_cutoff()),
            without_rule = self.without_rule(&["execution_rule", "job_rule", "type_rule"]),
            selection = self.take(selection),
        ))
    }

    fn by_job(&self, selection: Selection, which: &str) -> String {
        let m = self.mapping;
        let from = format!("{} = job_rule.applies_to", m.job_key().0);
        self.by_rule(
            "job_rule",
            &format!("{} AS execution", m.table()),
            &from,
            &["execution_rule"],
            m.indexed_by_job().then_some(which),
            selection,
        )
    }

    fn by_type(&self, selection: Selection, which: &str) -> String {
        let m = self.mapping;
        let unless = ["execution_rule", "job_rule"];
        if m.has_type_column() {
            let from = format!("{} = type_rule.applies_to", m.job_type());
            self.by_rule(
                "type_rule",
                &format!("{} AS execution", m.table()),
                &from,
                &unless,
                m.indexed_by_type().then_some(which),
                selection,
            )
        } else {
            let from = format!("{} JOIN {} AS execution ON {}", m.jobs_table(), m.table(), m.of_job());
            let of_type = format!("{} = type_rule.applies_to", m.jobs_type());
            self.by_rule(
                "type_rule",
                &from,
                &of_type,
                &unless,
                m.indexed_by_job().then_some(which),
                selection,
            )
        }
    }

    fn by_execution(&self, selection: Selection) -> String {
        let m = self.mapping;
        let from = format!("{} = execution_rule.applies_to", m.id());
        self.by_rule("execution_rule", &format!("{} AS execution", m.table()), &from, &[], None, selection)
    }

    /// Returns the rows that are past their deadline by a rule in `scope`, except rows with a rule in `unless`. With an index, each
    /// rule for which `probe` is true probes its own range; without one, a single pass finds the rows of all rules.
    fn by_rule(
        &self,
        scope: &str,
        from: &str,
        of_rule: &str,
        unless: &[&str],
        probe: Option<&str>,
        selection: Selection,
    ) -> String {
        let m = self.mapping;
        let rest = |joins: &str, order: &str| {
            format!(
                "{joins} {verdict}
                 WHERE {of_rule} AND {scope}.ends AND {running} AND {earliest} AND {by_deadline} {unless_otherwise} AND {without_rule} {acts}
                 {order}",
                verdict = self.verdict_for_due(),
                running = self.judged(),
                earliest = m.started_by(&format!("statement_timestamp() - {scope}.earliest")),
                by_deadline = self.counts_by(&format!("statement_timestamp() - {TOTAL}")),
                // All other rules skip rows that have a rule or a timeout of their own.
                unless_otherwise = if scope == "execution_rule" { self.unless_otherwise() } else { String::new() },
                without_rule = self.without_rule(unless),
                acts = self.acts(Reason::DeadlineExceeded, selection),
            )
        };
        let columns = format!(
            "{} AS id, '{}' AS reason, {} AS action, 0 AS place",
            m.id(),
            Reason::DeadlineExceeded.as_str(),
            self.action_for(Reason::DeadlineExceeded)
        );
        let others = self.others(scope, unless);
        let order = self.take(selection);
        // For rows selected by id, the index on the id is better.
        let named = selection.names() || self.asked.is_some_and(|asked| asked.ids.is_some());
        if let Some(which) = probe.filter(|_| !named) {
            let limit = match selection {
                Selection::LookAt(limit, ..) | Selection::Lock(limit, ..) => format!("LIMIT {limit}"),
                // A page needs the first rows of all rules, not the first that are found.
                Selection::Look(_)
                | Selection::LookAtAll
                | Selection::LookAtThese
                | Selection::Page(_)
                | Selection::Candidates => String::new(),
            };
            // OFFSET 0 keeps the planner from turning many probes into one scan of all running rows.
            let fence = if limit.is_empty() { "OFFSET 0" } else { "" };
            format!(
                "SELECT found.* FROM {scope} CROSS JOIN LATERAL (SELECT {columns} FROM {from} {}) AS found
                 WHERE {which} {limit}",
                rest(&others, &format!("{order} {fence}")),
            )
        } else {
            format!(
                "SELECT * FROM (SELECT {columns} FROM {scope} CROSS JOIN {from} {}) AS found",
                rest(&others, &order)
            )
        }
    }

    /// Returns the joins of the rules of all scopes except `scope`, which the statement already contains. A rule in `unless` that
    /// matches the row cannot affect its deadline, because rows with such rules are excluded: it is not looked up, row by row.
    pub(super) fn others(&self, scope: &str, unless: &[&str]) -> String {
        let m = self.mapping;
        let mut joins = String::new();
        for (name, key) in
            [("execution_rule", m.id()), ("job_rule", m.job_key().0), ("type_rule", m.job_type())]
        {
            if unless.contains(&name) {
                joins.push_str(&format!(" LEFT JOIN {name} ON false"));
            } else if name != scope {
                joins.push_str(&format!(" LEFT JOIN {name} ON {name}.applies_to = {key}"));
            }
        }
        joins + " CROSS JOIN store_defaults" + &self.own_limit()
    }

    /// Returns the executions that run without a start and were seen running.
    fn without_start(&self, selection: Selection) -> Option<String> {
        if !self.sees_runs() {
            return None;
        }
        let from = self.undated();
        let more = format!(
            "{} IS NULL AND {} <= statement_timestamp()",
            self.mapping.started_column(),
            self.not_before_promised(&format!("{from} + {TOTAL}"), &from)
        );
        Some(self.by_time(&self.join_seen_running(), &more, selection))
    }

    /// Returns the executions for which pauses were observed.
    fn by_pause(&self, selection: Selection) -> Option<String> {
        if !self.sees_pauses() {
            return None;
        }
        let m = self.mapping;
        let more = format!(
            "{} IS NOT NULL AND {} <= statement_timestamp()",
            m.started_column(),
            self.not_before_promised(&format!("{} + {TOTAL}", self.dated_and_paused()), &m.started_at())
        );
        Some(self.by_time(
            &format!("JOIN observed_pause ON observed_pause.execution_id = {}", m.id()),
            &more,
            selection,
        ))
    }

    /// Joins the row `execution` to the observation of when it was first seen running without a start.
    pub(super) fn join_seen_running(&self) -> String {
        let m = self.mapping;
        format!(
            "JOIN jobexec.observations AS observation ON {} AND {} = {}",
            Self::seen_running("$4", m.version()),
            m.id(),
            id_of("observation.execution_id", m.id_type())
        )
    }

    /// Returns the time this long ago.
    pub(super) fn before(length: TimeDelta) -> String {
        format!("statement_timestamp() - interval {}", literal(&interval(length)))
    }

    pub(super) fn by_job_status(&self, selection: Selection) -> Option<String> {
        let m = self.mapping;
        let (finished, grace) = m.job_finished()?;
        let jobs = format!("JOIN {} ON {}", m.jobs_table(), m.of_job());
        let outlived =
            self.outlived_its_job().map_or(String::new(), |outlived| format!("AND {outlived} IS NOT TRUE"));
        self.confirmed_suspects(
            Reason::JobFinished,
            grace,
            &jobs,
            &format!("AND {finished} {outlived}"),
            selection,
        )
    }

    /// Returns the rows that have been certain suspects for the grace period, and for which `more` still holds.
    pub(super) fn confirmed_suspects(
        &self,
        reason: Reason,
        grace: TimeDelta,
        joins: &str,
        more: &str,
        selection: Selection,
    ) -> Option<String> {
        let m = self.mapping;
        let Rules::Table(_) = self.rules else { return None };
        let from = format!(
            "JOIN jobexec.suspects AS suspect ON suspect.store_id = $4 AND suspect.reason = '{}' AND {} = {} {joins}",
            reason.as_str(),
            m.id(),
            self.suspect_key(),
        );
        let more = format!(
            "suspect.certain AND suspect.began_at = {began} AND {since} <= statement_timestamp() {more}",
            began = m.began_at(),
            since = Self::seen_for(grace),
        );
        Some(self.by_evidence(reason, &from, &more, selection))
    }

    /// Returns the id of the `suspect` in the type of the id column.
    pub(in crate::db) fn suspect_key(&self) -> String {
        id_of("suspect.execution_id", self.mapping.id_type())
    }

    /// Returns the time at which the `suspect` has been one for the grace period.
    pub(in crate::db) fn seen_for(grace: TimeDelta) -> String {
        format!("GREATEST(suspect.since, verdict.watched) + interval {}", literal(&interval(grace)))
    }

    /// Returns the executions that a manual request ends. The action of a rule takes precedence.
    fn by_request(&self, selection: Selection) -> Vec<String> {
        let Some(ForceOptions { include_governed }) = self.forced() else { return Vec::new() };
        let alternatives = self.asked.map(|asked| self.alternatives(asked)).unwrap_or_default();
        let governed = if include_governed || selection.looks_at_all() {
            "true"
        } else {
            &format!("({GOVERNED}) IS NULL")
        };
        let action = self.action_for(Reason::ManualCleanup);
        let action = format!("CASE verdict.action WHEN 'AlertOnly' THEN 'Fail' ELSE {action} END");
        let wanted = self.wanted(&action);
        let branch = |which: &String| {
            let more = format!("{which} AND {governed} {wanted}");
            self.found(Reason::ManualCleanup, &action, &self.joined(), &more, selection)
        };
        alternatives.iter().map(branch).collect()
    }

    pub(super) fn forced(&self) -> Option<ForceOptions> {
        self.asked.and_then(|asked| asked.end)
    }

    /// Returns the executions past a deadline that does not follow from their start column.
    pub(super) fn by_time(&self, from: &str, more: &str, selection: Selection) -> String {
        let from = format!("{from} {}", self.joined_for_due());
        let more = format!("{more} {}", self.acts(Reason::DeadlineExceeded, selection));
        let action = self.action_for(Reason::DeadlineExceeded);
        self.found(Reason::DeadlineExceeded, &action, &from, &more, selection)
    }

    pub(super) fn by_evidence(&self, reason: Reason, from: &str, more: &str, selection: Selection) -> String {
        let from = format!("{from} {}", self.joined());
        let more = format!("{more} {}", self.acts(reason, selection));
        self.found(reason, &self.action_for(reason), &from, &more, selection)
    }

    /// Returns the running executions in the rows `from` for which `more` holds.
    fn found(&self, reason: Reason, action: &str, from: &str, more: &str, selection: Selection) -> String {
        let m = self.mapping;
        let place = Reason::ALL.iter().position(|r| *r == reason).unwrap_or(Reason::ALL.len());
        format!(
            "SELECT * FROM (SELECT {id} AS id, '{reason}' AS reason, {action} AS action, {place} AS place
                            FROM {table} AS execution {from}
                            WHERE {running} AND {more} {selection}) AS found",
            id = m.id(),
            reason = reason.as_str(),
            table = m.table(),
            // A manual request takes effect at once.
            running = if reason == Reason::ManualCleanup { self.judged_at_once() } else { self.judged() },
            selection = self.take(selection),
        )
    }

    fn acts(&self, reason: Reason, selection: Selection) -> String {
        if self.shows_alerts(selection) {
            return String::new();
        }
        format!("AND verdict.action <> 'AlertOnly' {}", self.wanted(&self.action_for(reason)))
    }

    /// Reports whether executions with `AlertOnly` are included among the stale ones. If a person forces the end of executions,
    /// [`Self::by_request`] finds them instead.
    fn shows_alerts(&self, selection: Selection) -> bool {
        selection.looks_at_all() && self.forced().is_none()
    }

    fn take(&self, selection: Selection) -> String {
        let m = self.mapping;
        let among = |among| {
            let (id, key) = (m.id(), m.id_type().sql());
            let ids = format!("(${NEXT_PARAMETER}::text[]::{key}[])");
            match among {
                IdFilter::Others => format!("AND {id}::{key} <> ALL {ids}"),
                IdFilter::These => format!("AND {id} = ANY {ids}"),
            }
        };
        let narrow = self
            .asked
            .map_or(String::new(), |asked| format!("AND (({}))", self.alternatives(asked).join(") OR (")));
        let (start, id) = (m.started_column(), m.id());
        match selection {
            Selection::Look(_) | Selection::LookAtAll => narrow,
            Selection::LookAtThese => narrow + " " + &among(IdFilter::These),
            Selection::Candidates => {
                format!("{narrow} AND {} = ANY (ARRAY (SELECT id FROM candidate))", m.id())
            }
            Selection::Page(limit) => format!("{narrow} ORDER BY {start}, {id} LIMIT {limit}"),
            Selection::LookAt(limit, end, which) | Selection::Lock(limit, end, which) => {
                let among = among(which);
                let order = if end == End::Newest { "DESC" } else { "ASC" };
                let lock = if matches!(selection, Selection::Lock(..)) { m.lock() } else { "" };
                format!("{narrow} {among} ORDER BY {start} {order} LIMIT {limit} {lock}")
            }
        }
    }
}
