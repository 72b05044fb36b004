//! What a look sees by each rule at first: one probe of the index finds the few rows that are past their deadline or
//! soon will be, which answers both what is stale and when the next one is due. Only where all of them are past their
//! deadline, so that there may be more, is the rule asked again for each.

use chrono::TimeDelta;

use super::{Judge, Reason, Take, within};

/// How many rows of a rule are seen at first. Enough that most rules need no second probe, and few to read.
const FIRST: u8 = 10;

/// The rules of one scope, as the common table expressions `peek_{scope}` (k, earliest, action, id, start, unruled,
/// past) and `more_{scope}` (k).
pub(super) struct Peek {
    pub(super) scope: &'static str,
    ctes: String,
}

impl Peek {
    /// The common table expressions.
    pub(super) fn ctes(&self) -> &str {
        &self.ctes
    }

    /// The rules that this has not answered for.
    pub(super) fn rest(&self) -> String {
        let scope = self.scope;
        format!("(NOT {scope}.fixed OR {scope}.k IN (SELECT k FROM more_{scope}))")
    }

    /// The stale rows, but for those of rules in `more`.
    pub(super) fn stale(&self) -> String {
        format!(
            "SELECT id, '{reason}' AS reason, action, 0 AS place FROM peek_{scope}
             WHERE past AND unruled AND action <> 'AlertOnly' AND k NOT IN (SELECT k FROM more_{scope})",
            reason = Reason::DeadlineExceeded.as_str(),
            scope = self.scope,
        )
    }

    /// The next deadline by these rules, but for those in `more`; where other rules govern all that was seen, a time
    /// before it.
    pub(super) fn next(&self) -> String {
        format!(
            "SELECT min(next) FROM (
                 SELECT COALESCE(min(start) FILTER (WHERE unruled AND NOT past),
                                 CASE WHEN count(*) = {FIRST} THEN max(start) FILTER (WHERE NOT past) END)
                        + min(earliest) AS next
                 FROM peek_{scope} GROUP BY k) AS each",
            scope = self.scope,
        )
    }
}

impl Judge<'_> {
    /// The scopes that can be answered so: their rows come in the order of the index.
    pub(super) fn peeks(&self, take: Take) -> Vec<Peek> {
        let (m, Take::Look(horizon)) = (self.mapping, take) else { return Vec::new() };
        if !m.starts_in_order() || self.asked.is_some() {
            return Vec::new();
        }
        let mut peeks = Vec::new();
        if m.indexed_by_job() {
            peeks.push(self.peek("j", &m.job_key().0, &["e"], horizon));
        }
        if m.has_type_column() && m.indexed_by_type() {
            peeks.push(self.peek("y", &m.job_type(), &["e", "j"], horizon));
        }
        peeks
    }

    fn peek(&self, scope: &'static str, key: &str, others: &[&str], horizon: TimeDelta) -> Peek {
        let m = self.mapping;
        let earliest = format!("{scope}.earliest");
        let ctes = format!(
            "peek_{scope} AS MATERIALIZED (
                 SELECT {scope}.k, {earliest}, COALESCE({scope}.on_timeout, b.on_timeout) AS action, first.*
                 FROM {scope} CROSS JOIN b CROSS JOIN LATERAL (
                     SELECT {id} AS id, {start} AS start, {unruled} AS unruled, {past} AS past FROM {table} AS t
                     WHERE {key} = {scope}.k AND {running} AND {soon} ORDER BY {order} LIMIT {FIRST}) AS first
                 WHERE {scope}.moves AND {scope}.fixed),
             more_{scope} AS MATERIALIZED (
                 SELECT k FROM peek_{scope} GROUP BY k HAVING count(*) = {FIRST} AND bool_and(past))",
            id = m.id(),
            start = self.start(),
            unruled = self.unruled(others),
            past = m.started_by(&format!("statement_timestamp() - {earliest}")),
            table = m.table(),
            running = m.running(),
            soon = m.started_by(&within(horizon, &earliest)),
            order = m.started_column(),
        );
        Peek { scope, ctes }
    }
}
