//! Decide, second half: which executions are stale, judged by one SQL predicate at the database's clock. The sweep,
//! the counts, the list and the look at one execution are all made of the parts here.
//!
//! A statement begins with the rules, split by scope into `e` (executions), `j` (jobs) and `y` (types) with the key in
//! the type of its column as `k`, and the base as `b`. Joined to a row ([`Judge::joins`]) they give its verdict
//! ([`VERDICT`]). The rows are found by index where there is one: those that no rule is about by their start, those of
//! a job or a type by that and their start.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

mod next;
mod peek;
mod reason;

pub use reason::Reason;

use super::Mapping;
use peek::Peek;

use super::asked::{Asked, Forced, GOVERNED};
use super::mapping::{IdType, literal, wire};
use super::rules::{self, COLUMNS, TYPES};
use crate::api::OnTimeout;
use crate::policy::Compiled;

/// Where the rules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// From `jobexec.rules`, under this store id.
    Table(i32),
    /// From what is in force: the operator's tables are not there. Then evidence that must be seen for a while before
    /// it counts is not.
    Memory,
}

/// The predicate for one store.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The table.
    pub mapping: &'a Mapping,
    /// What is in force.
    pub in_force: &'a Compiled,
    /// Where the rules are read.
    pub rules: Rules,
    /// Where executions of a job come one after the other: how long a later one must have run before an earlier one
    /// is stale.
    pub sequential: Option<TimeDelta>,
    /// Where executions are run by Kubernetes workloads: how long one must be seen failed or gone before its execution is
    /// stale.
    pub workloads: Option<TimeDelta>,
    /// Since when the store has been looked at without a gap: evidence of life counts from then.
    pub watched: DateTime<Utc>,
    /// Whether to ask for other evidence than deadlines, which costs more.
    pub evidence: bool,
    /// What a person asks beside the rules; `None`: the operator itself looks, at all executions.
    pub asked: Option<&'a Asked>,
}

/// How [`Judge::ctes`] takes the stale rows.
#[derive(Clone, Copy, Debug)]
pub enum Take {
    /// Only look at all that would be ended, and at what comes within so long.
    Look(TimeDelta),
    /// Only look at all, those too that are to run on (`AlertOnly`).
    LookAtAll,
    /// Only look at those of [`Among::These`], those too that are to run on.
    LookAtThese,
    /// Only look at up to so many by each rule, the longest running first, those too that are to run on.
    Page(u32),
    /// Only look at up to so many by each rule, from one end.
    LookAt(u32, End, Among),
    /// Lock up to so many by each rule, from one end, passing over rows that another transaction holds.
    Lock(u32, End, Among),
}

impl Take {
    const fn looks_at_all(self) -> bool {
        matches!(self, Self::LookAtAll | Self::LookAtThese | Self::Page(_))
    }

    const fn names(self) -> bool {
        matches!(self, Self::LookAtThese)
    }
}

/// Among which rows to take. The ids are in the text array that the caller binds at [`NEXT_PARAMETER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// All but these.
    Others,
    /// These.
    These,
}

/// From which end of the stale executions to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The longest running first.
    Oldest,
    /// The shortest running first.
    Newest,
}

/// The first parameter that is free for the caller of [`Judge::bind`].
pub const NEXT_PARAMETER: u8 = 5;

/// What the rules come to for a row that [`Judge::joins`] has joined them to, as far as its deadline goes.
macro_rules! due {
    () => {
        "CASE WHEN e.timeout IS NOT NULL THEN e.timeout \
              WHEN j.timeout_rank <= COALESCE(y.timeout_rank, 99) THEN j.timeout \
              ELSE COALESCE(y.timeout, b.timeout) END AS timeout, \
         COALESCE(e.extend_by, interval '0') AS extend_by, \
         COALESCE(j.grace, y.grace, b.grace) AS grace, \
         COALESCE(j.on_timeout, y.on_timeout, b.on_timeout) AS action"
    };
}

/// The same as text. Where it is enough the statement is shorter: one that does not fit into a TLS record (16 KiB) is
/// sent in two parts, and the second one waits for an acknowledgement, which a server may delay by 40 ms.
const DUE: &str = due!();

/// All that the rules come to for a row that [`Judge::joins`] has joined them to.
pub const VERDICT: &str = concat!(
    due!(),
    ", CASE WHEN e.timeout IS NOT NULL THEN e.timeout_source \
         WHEN j.timeout_rank <= COALESCE(y.timeout_rank, 99) THEN j.timeout_source \
         ELSE COALESCE(y.timeout_source, b.timeout_source) END AS timeout_source, \
    COALESCE(j.grace_source, y.grace_source, b.grace_source) AS grace_source, \
    COALESCE(j.heartbeat, y.heartbeat, b.heartbeat) AS heartbeat, \
    COALESCE(j.heartbeat_source, y.heartbeat_source, b.heartbeat_source) AS heartbeat_source, \
    COALESCE(j.on_timeout_source, y.on_timeout_source, b.on_timeout_source) AS action_source, \
    CASE WHEN j.warn_source IS NOT NULL THEN j.warn_after WHEN y.warn_source IS NOT NULL THEN y.warn_after \
         ELSE b.warn_after END AS warn_after, \
    CASE WHEN j.warn_source IS NOT NULL THEN j.warn_percent WHEN y.warn_source IS NOT NULL THEN y.warn_percent \
         ELSE b.warn_percent END AS warn_percent, \
    COALESCE(j.warn_source, y.warn_source, b.warn_source) AS warn_source, \
    b.store AS store, b.watched AS watched"
);

/// After how long a row is warned of by its verdict `v`.
pub const WARN: &str = "COALESCE(v.warn_after, v.timeout * (v.warn_percent / 100.0))";

/// How long a row may run by its verdict `v`.
const TOTAL: &str = "(v.timeout + v.extend_by + v.grace)";

/// Whether rule `r` has a say in whether, when and how a deadline counts.
const MOVES: &str =
    "(r.timeout IS NOT NULL OR r.extend_by IS NOT NULL OR r.grace IS NOT NULL OR r.on_timeout IS NOT NULL)";

impl<'a> Judge<'a> {
    /// The same, on behalf of a person.
    #[must_use]
    pub const fn asked(self, asked: &'a Asked) -> Self {
        Self { asked: Some(asked), ..self }
    }

    /// The same, asking for all evidence or only for deadlines.
    #[must_use]
    pub const fn with_evidence(self, evidence: bool) -> Self {
        Self { evidence, ..self }
    }

    /// The common table expressions `b`, `e`, `j` and `y`, without the `WITH`. They use the parameters that
    /// [`Self::bind`] binds.
    pub fn rules(&self) -> String {
        let rules = match self.rules {
            Rules::Table(_) => {
                format!("SELECT {COLUMNS} FROM jobexec.rules WHERE store_id = $4 AND scope <> 'store'")
            }
            Rules::Memory => format!("SELECT * FROM jsonb_to_recordset($4::jsonb) AS r ({TYPES})"),
        };
        let by = |scope: &str, type_: &str| {
            // A key that is no id of this table (its type was changed) must not make the cast fail.
            format!(
                "(SELECT * FROM (SELECT CASE WHEN {} THEN key::{type_} END AS k, r.*, {MOVES} AS moves FROM rule AS r \
                 WHERE scope = '{scope}') AS r WHERE k IS NOT NULL)",
                sane("key", type_)
            )
        };
        format!(
            "b AS MATERIALIZED (
                 SELECT * FROM jsonb_to_record($3::jsonb) AS b ({TYPES}, store text, watched timestamptz)
                 -- Named in every statement, so that their types are known.
                 WHERE $1::interval IS NOT NULL AND $2::interval IS NOT NULL),
             rule AS MATERIALIZED ({rules}),
             e AS MATERIALIZED {e},
             j AS MATERIALIZED {j},
             y AS MATERIALIZED {y}",
            e = by("execution", self.mapping.id_type().sql()),
            j = by("job", self.mapping.job_key().1),
            y = by("type", "text"),
        )
    }

    /// The joins of the rules to a row with this id, job (as [`Mapping::job_key`] has it) and type, and its verdict as
    /// `v`.
    pub fn joins(id: &str, job: &str, type_: &str) -> String {
        format!(
            "LEFT JOIN e ON e.k = {id} LEFT JOIN j ON j.k = {job} LEFT JOIN y ON y.k = {type_} \
             CROSS JOIN b CROSS JOIN LATERAL (SELECT {VERDICT}) AS v"
        )
    }

    /// The joins of the rules to the row `t`.
    pub fn joined(&self) -> String {
        let m = self.mapping;
        Self::joins(&m.id(), &m.job_key().0, &m.job_type())
    }

    /// The common table expressions of [`Self::rules`], and `stale` (id, reason, action).
    pub fn ctes(&self, take: Take) -> String {
        let peeks = self.peeks(take);
        let branches = self.branches(take, &peeks);
        let stale = if branches.len() > 1 && (self.evidence || self.forced().is_some()) {
            format!(
                "SELECT DISTINCT ON (id) id, reason, action FROM ({}) AS found ORDER BY id, place",
                branches.join(" UNION ALL ")
            )
        } else {
            format!("SELECT id, reason, action FROM ({}) AS found", branches.join(" UNION ALL "))
        };
        let first: String = peeks.iter().map(|peek| format!(", {}", peek.ctes())).collect();
        format!("{}{first}, stale AS MATERIALIZED ({stale})", self.rules())
    }

    /// The ways in which an execution can be stale: each a query for id, reason, action and place.
    fn branches(&self, take: Take, peeks: &[Peek]) -> Vec<String> {
        let rest =
            |scope| peeks.iter().find(|peek| peek.scope == scope).map_or("true".to_owned(), Peek::rest);
        let mut branches: Vec<String> = peeks.iter().map(Peek::stale).collect();
        branches.extend([self.by_job(take, &rest("j")), self.by_execution(take)]);
        branches.extend(self.by_default(take));
        if self.mapping.knows_types() {
            branches.push(self.by_type(take, &rest("y")));
        }
        branches.extend(self.without_start(take));
        if self.evidence {
            branches.extend(self.by_heartbeat(take));
            branches.extend(self.by_job_status(take));
            branches.extend(self.by_successor(take));
            branches.extend(self.by_workload(take));
        }
        branches.extend(self.by_request(take));
        branches.into_iter().map(|branch| format!("({branch})")).collect()
    }

    fn by_default(&self, take: Take) -> Option<String> {
        let m = self.mapping;
        let action = self.in_force.base.on_timeout.value;
        if action == OnTimeout::AlertOnly && !self.shows_alerts(take) {
            return None;
        }
        Some(format!(
            "SELECT * FROM (SELECT {id} AS id, '{reason}' AS reason, '{action}' AS action, 0 AS place FROM {table} AS t
                            WHERE {running} AND {by_default} AND {unruled} {take}) AS by_default",
            id = m.id(),
            reason = Reason::DeadlineExceeded.as_str(),
            action = action.as_str(),
            table = m.table(),
            running = m.running(),
            by_default = m.started_by(&Self::default_cutoff()),
            unruled = self.unruled(&["e", "j", "y"]),
            take = self.take(take),
        ))
    }

    fn by_job(&self, take: Take, which: &str) -> String {
        let m = self.mapping;
        let from = format!("{} = j.k", m.job_key().0);
        self.by_rule(
            "j",
            &format!("{} AS t", m.table()),
            &from,
            &["e"],
            m.indexed_by_job().then_some(which),
            take,
        )
    }

    fn by_type(&self, take: Take, which: &str) -> String {
        let m = self.mapping;
        let unless = ["e", "j"];
        if m.has_type_column() {
            let from = format!("{} = y.k", m.job_type());
            self.by_rule(
                "y",
                &format!("{} AS t", m.table()),
                &from,
                &unless,
                m.indexed_by_type().then_some(which),
                take,
            )
        } else {
            let from = format!("{} JOIN {} AS t ON {}", m.jobs_table(), m.table(), m.of_job());
            let of_type = format!("{} = y.k", m.jobs_type());
            self.by_rule("y", &from, &of_type, &unless, m.indexed_by_job().then_some(which), take)
        }
    }

    fn by_execution(&self, take: Take) -> String {
        let m = self.mapping;
        let from = format!("{} = e.k", m.id());
        self.by_rule("e", &format!("{} AS t", m.table()), &from, &[], None, take)
    }

    /// The rows of each rule in `scope` that are past their deadline, but for those of rules in `unless`. By an index
    /// each rule for which `probe` is true probes its own range of it; without one all are found in one pass.
    fn by_rule(
        &self,
        scope: &str,
        from: &str,
        of_rule: &str,
        unless: &[&str],
        probe: Option<&str>,
        take: Take,
    ) -> String {
        let m = self.mapping;
        let rest = |joins: &str, order: &str| {
            format!(
                "{joins} CROSS JOIN LATERAL (SELECT {DUE}) AS v
                 WHERE {of_rule} AND {scope}.moves AND {running} AND {earliest} AND {by_deadline} AND {unruled} {acts}
                 {order}",
                running = m.running(),
                earliest = m.started_by(&format!("statement_timestamp() - {scope}.earliest")),
                by_deadline = m.started_by(&format!("statement_timestamp() - {TOTAL}")),
                unruled = self.unruled(unless),
                acts = self.acts(take),
            )
        };
        let columns = format!(
            "{} AS id, '{}' AS reason, v.action AS action, 0 AS place",
            m.id(),
            Reason::DeadlineExceeded.as_str()
        );
        let others = self.others(scope, unless);
        let order = self.take(take);
        // Of rows that are named, the index on their ids is the better one.
        let named = take.names() || self.asked.is_some_and(|asked| asked.ids.is_some());
        if let Some(which) = probe.filter(|_| !named) {
            let limit = match take {
                Take::LookAt(limit, ..) | Take::Lock(limit, ..) => format!("LIMIT {limit}"),
                // Of a page the first of all count, not the first that are found.
                Take::Look(_) | Take::LookAtAll | Take::LookAtThese | Take::Page(_) => String::new(),
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

    /// The joins of the rules of other scopes than `scope`, which is there already. Of `unless` only rules that have no
    /// say in deadlines can be about the row: they are not looked for, as that would be done once for each stale row.
    fn others(&self, scope: &str, unless: &[&str]) -> String {
        let m = self.mapping;
        let mut joins = String::new();
        for (name, key) in [("e", m.id()), ("j", m.job_key().0), ("y", m.job_type())] {
            if unless.contains(&name) {
                joins.push_str(&format!(" LEFT JOIN {name} ON false"));
            } else if name != scope {
                joins.push_str(&format!(" LEFT JOIN {name} ON {name}.k = {key}"));
            }
        }
        joins + " CROSS JOIN b"
    }

    /// Those that run without a start, where their creation is known.
    fn without_start(&self, take: Take) -> Option<String> {
        let m = self.mapping;
        let created = m.created_at()?;
        let more = format!(
            "{} IS NULL AND {} + {TOTAL} <= statement_timestamp()",
            m.started_column(),
            wire(&created)
        );
        Some(self.by_evidence(Reason::DeadlineExceeded, "", &more, take))
    }

    fn by_heartbeat(&self, take: Take) -> Option<String> {
        let m = self.mapping;
        let shortest = self.in_force.shortest_heartbeat()?;
        let heartbeat = m.heartbeat_at()?;
        let narrow = m.heartbeat_by(&format!(
            "statement_timestamp() - interval {}",
            literal(&rules::interval(shortest))
        ))?;
        let more = format!(
            "{began} IS NOT NULL AND {narrow} AND GREATEST({heartbeat}, v.watched) + v.heartbeat <= statement_timestamp()",
            heartbeat = wire(&heartbeat),
            began = m.began_at(),
        );
        Some(self.by_evidence(Reason::HeartbeatLost, "", &more, take))
    }

    fn by_job_status(&self, take: Take) -> Option<String> {
        let m = self.mapping;
        let (finished, grace) = m.job_finished()?;
        let jobs = format!("JOIN {} ON {}", m.jobs_table(), m.of_job());
        self.by_suspicion(Reason::JobFinished, grace, &jobs, &format!("AND {finished}"), take)
    }

    fn by_workload(&self, take: Take) -> Option<String> {
        self.by_suspicion(Reason::WorkloadGone, self.workloads?, "", "", take)
    }

    /// Those that have been suspects for so long, and for which `more` still holds.
    fn by_suspicion(
        &self,
        reason: Reason,
        grace: TimeDelta,
        joins: &str,
        more: &str,
        take: Take,
    ) -> Option<String> {
        let m = self.mapping;
        let Rules::Table(_) = self.rules else { return None };
        let from = format!(
            "JOIN jobexec.suspects AS s ON s.store_id = $4 AND s.reason = '{}' AND {} = {} {joins}",
            reason.as_str(),
            m.id(),
            self.suspect_key(),
        );
        let more = format!(
            "s.began_at = {began} AND {since} <= statement_timestamp() {more}",
            began = m.began_at(),
            since = Self::seen_for(grace),
        );
        Some(self.by_evidence(reason, &from, &more, take))
    }

    fn by_successor(&self, take: Take) -> Option<String> {
        let m = self.mapping;
        let cutoff =
            format!("statement_timestamp() - interval {}", literal(&rules::interval(self.sequential?)));
        let more = format!("{} IS NOT NULL AND {}", m.began_at(), m.superseded_by(&cutoff));
        Some(self.by_evidence(Reason::Superseded, "", &more, take))
    }

    /// The id of the suspect `s` in the type of the id column.
    pub(super) fn suspect_key(&self) -> String {
        id_of("s.execution_id", self.mapping.id_type())
    }

    /// When a suspect has been one for so long.
    pub(super) fn seen_for(grace: TimeDelta) -> String {
        format!("GREATEST(s.since, v.watched) + interval {}", literal(&rules::interval(grace)))
    }

    /// Those that a person asks to have ended. What a rule says of them comes first.
    fn by_request(&self, take: Take) -> Vec<String> {
        let Some(Forced { include_governed }) = self.forced() else { return Vec::new() };
        let alternatives = self.asked.map(|asked| asked.alternatives(self.mapping)).unwrap_or_default();
        let governed =
            if include_governed || take.looks_at_all() { "true" } else { &format!("({GOVERNED}) IS NULL") };
        let action = "CASE v.action WHEN 'Cancel' THEN 'Cancel' ELSE 'Fail' END";
        let branch = |which: &String| {
            self.found(Reason::ManualCleanup, action, "", &format!("{which} AND {governed}"), take)
        };
        alternatives.iter().map(branch).collect()
    }

    fn forced(&self) -> Option<Forced> {
        self.asked.and_then(|asked| asked.end)
    }

    fn by_evidence(&self, reason: Reason, from: &str, more: &str, take: Take) -> String {
        self.found(reason, "v.action", from, &format!("{more} {}", self.acts(take)), take)
    }

    fn found(&self, reason: Reason, action: &str, from: &str, more: &str, take: Take) -> String {
        let m = self.mapping;
        let place = Reason::ALL.iter().position(|r| *r == reason).unwrap_or(Reason::ALL.len());
        format!(
            "SELECT * FROM (SELECT {id} AS id, '{reason}' AS reason, {action} AS action, {place} AS place
                            FROM {table} AS t {from} {joined}
                            WHERE {running} AND {more} {take}) AS found",
            id = m.id(),
            reason = reason.as_str(),
            table = m.table(),
            joined = self.joined(),
            running = m.running(),
            take = self.take(take),
        )
    }

    fn acts(&self, take: Take) -> &'static str {
        if self.shows_alerts(take) { "" } else { "AND v.action <> 'AlertOnly'" }
    }

    /// Whether those that are to run on are found by what makes them stale. Where a person decides they are found by that.
    fn shows_alerts(&self, take: Take) -> bool {
        take.looks_at_all() && self.forced().is_none()
    }

    fn take(&self, take: Take) -> String {
        let m = self.mapping;
        let among = |among| {
            let (id, key) = (m.id(), m.id_type().sql());
            let ids = format!("(${NEXT_PARAMETER}::text[]::{key}[])");
            match among {
                Among::Others => format!("AND {id}::{key} <> ALL {ids}"),
                Among::These => format!("AND {id} = ANY {ids}"),
            }
        };
        let narrow = self
            .asked
            .map_or(String::new(), |asked| format!("AND (({}))", asked.alternatives(m).join(") OR (")));
        let (start, id) = (m.started_column(), m.id());
        match take {
            Take::Look(_) | Take::LookAtAll => narrow,
            Take::LookAtThese => narrow + " " + &among(Among::These),
            Take::Page(limit) => format!("{narrow} ORDER BY {start}, {id} LIMIT {limit}"),
            Take::LookAt(limit, end, which) | Take::Lock(limit, end, which) => {
                let among = among(which);
                let order = if end == End::Newest { "DESC" } else { "ASC" };
                let lock = if matches!(take, Take::Lock(..)) { "FOR UPDATE OF t SKIP LOCKED" } else { "" };
                format!("{narrow} {among} ORDER BY {start} {order} LIMIT {limit} {lock}")
            }
        }
    }

    /// Binds what the parts above refer to.
    pub fn bind<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let base = &self.in_force.base;
        let query = query.bind(base.timeout.value).bind(base.grace.value).bind(rules::base_parameter(
            base,
            self.watched,
            self.asked,
        ));
        match self.rules {
            Rules::Table(store_id) => query.bind(store_id),
            Rules::Memory => query.bind(rules::parameter(&self.in_force.rules)),
        }
    }

    /// The condition that no rule of these scopes has a say in the row's deadline. Each is a hashed subplan, which keeps
    /// the order of the index; with NOT EXISTS the planner sorts all stale rows.
    fn unruled(&self, scopes: &[&str]) -> String {
        let m = self.mapping;
        let mut conditions = Vec::new();
        for (scope, key) in [("e", m.id()), ("j", m.job_key().0), ("y", m.job_type())] {
            if scopes.contains(&scope) && (scope != "y" || m.knows_types()) {
                conditions
                    .push(format!("({key} IN (SELECT r.k FROM {scope} AS r WHERE r.moves)) IS NOT TRUE"));
            }
        }
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    }

    /// An execution that started by then is stale by default. `statement_timestamp()` is stable, so an index on the
    /// start serves; `clock_timestamp()` would make it a filter.
    fn default_cutoff() -> String {
        "statement_timestamp() - $1::interval - $2::interval".to_owned()
    }
}

/// What a text says as an id of this type; null if it can be none. It is of the column's type, so that its index serves.
pub(super) fn id_of(text: &str, type_: IdType) -> String {
    format!("CASE WHEN {} THEN {text}::{sql} END", sane(text, type_.sql()), sql = type_.sql())
}

/// The condition that `text` can be cast to an id of this SQL type.
fn sane(text: &str, type_: &str) -> String {
    if type_ == IdType::Integer.sql() {
        // A regular expression takes ten times as long, and there may be a thousand rules: only where it must decide.
        format!(
            "CASE WHEN length({text}) < 19 AND {text} > '' AND translate({text}, '0123456789', '') = '' THEN true \
             WHEN {text} ~ '^-?[0-9]{{1,19}}$' \
             THEN {text}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 ELSE false END"
        )
    } else if type_ == IdType::Uuid.sql() {
        format!("{text} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'")
    } else {
        "true".to_owned()
    }
}

/// The start of what has run for `total` within `horizon` from now, or has already.
fn within(horizon: TimeDelta, total: &str) -> String {
    format!("statement_timestamp() + interval {} - {total}", literal(&rules::interval(horizon)))
}
