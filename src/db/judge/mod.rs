//! Decide, second half: which executions are stale, judged by one SQL predicate at the database's clock. The sweep,
//! the counts, the list and the look at one execution are all made of the parts here.
//!
//! A statement begins with the rules, split by scope into `e` (executions), `j` (jobs) and `y` (types) with the key in
//! the type of its column as `k`, and the base as `b`. Joined to a row ([`Judge::joins`]) they give its verdict
//! ([`VERDICT`]). The rows are found by index where there is one: those that no rule is about by their start, those of
//! a job or a type by that and their start (`branches`; `peek` for a look, and `next` for when to look again).

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

mod alive;
mod asked;
mod branches;
mod next;
mod peek;
mod promise;
mod suspects;
mod time;

pub use super::reason::Reason;
pub use super::suspicion::{NotAsked, Suspicion, UnknownSuspicion};
pub(in crate::db) use time::Times;

use super::Mapping;
use super::asked::Asked;
use super::ids::sane;
use super::intervals::interval;
use super::mapping::{literal, wire};
use super::rules::columns::{COLUMNS, SANE, TYPES, base_parameter, parameter};
use crate::rules::{Compiled, Scope};

/// Where the rules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// From `jobexec.rules`, under this store id.
    Table(i64),
    /// From what is in force: the operator's tables are not there. Then evidence for which something must be kept does not count: what
    /// is seen for a while, and lost heartbeats, which may have to be held.
    Memory,
}

/// The predicate for one store.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The table.
    pub mapping: &'a Mapping,
    /// What is in force.
    pub effective_rules: &'a Compiled,
    /// Where the rules are read.
    pub rules: Rules,
    /// Where executions of a job come one after the other: how long a later one must have run before an earlier one
    /// is stale.
    pub single_active_execution: Option<TimeDelta>,
    /// Where executions are run by Kubernetes workloads: how long one must be seen failed or gone before its execution is
    /// stale.
    pub workloads: Option<TimeDelta>,
    /// Since when the store has been looked at without a gap: evidence of life counts from then.
    pub watched: DateTime<Utc>,
    /// When it was last seen whether lost heartbeats are to be held: what is lost since then waits until that is seen again.
    /// `None`: what is lost by now counts.
    pub heartbeats_seen: Option<DateTime<Utc>>,
    /// Whether to ask for other evidence than deadlines, which costs more.
    pub evidence: bool,
    /// What a person asks beside the rules; `None`: the operator itself looks, at all executions.
    pub asked: Option<&'a Asked>,
    /// The records of other tables or stores in which people granted something: the executions that were given more time in them,
    /// and not in the table's own record, are left alone.
    pub undecided: &'a [i64],
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
         COALESCE(j.on_stale, y.on_stale, b.on_stale) AS action"
    };
}

/// The same as text. Where it is enough the statement is shorter, which is parsed and planned each time.
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
    COALESCE(j.on_stale_source, y.on_stale_source, b.on_stale_source) AS action_source, \
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
    "(r.timeout IS NOT NULL OR r.extend_by IS NOT NULL OR r.grace IS NOT NULL OR r.on_stale IS NOT NULL)";

impl<'a> Judge<'a> {
    /// The predicate of a store that has no evidence beside heartbeats and jobs, for the operator itself.
    #[must_use]
    pub const fn new(
        mapping: &'a Mapping,
        effective_rules: &'a Compiled,
        rules: Rules,
        watched: DateTime<Utc>,
    ) -> Self {
        Self {
            mapping,
            effective_rules,
            rules,
            single_active_execution: None,
            workloads: None,
            watched,
            heartbeats_seen: None,
            evidence: true,
            asked: None,
            undecided: &[],
        }
    }

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
                format!(
                    "SELECT {COLUMNS}, {} FROM jobexec.rules WHERE store_id = $4 AND scope <> 'store' AND {SANE}",
                    Self::promised_columns()
                )
            }
            Rules::Memory => format!("SELECT * FROM jsonb_to_recordset($4::jsonb) AS r ({TYPES})"),
        };
        let pauses = self.pauses().map_or(String::new(), |pauses| format!(", {pauses}"));
        let again = self.held().map_or(String::new(), |again| format!(", {again}"));
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
                 SELECT b.*{held} FROM jsonb_to_record($3::jsonb) AS b ({TYPES}, store text, watched timestamptz)
                 -- Named in every statement, so that their types are known.
                 WHERE $1::interval IS NOT NULL AND $2::interval IS NOT NULL),
             rule AS MATERIALIZED ({rules}),
             e AS MATERIALIZED {e},
             j AS MATERIALIZED {j},
             y AS MATERIALIZED {y}{pauses}{again}",
            held = self.heartbeats_held(),
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

    /// The same, and as `v` no more than its deadline needs.
    fn joined_for_due(&self) -> String {
        format!("{} CROSS JOIN LATERAL (SELECT {DUE}) AS v", self.others("", &[]))
    }

    /// The common table expressions of [`Self::rules`], and `stale` (id, reason, action).
    pub fn ctes(&self, take: Take) -> String {
        let peeks = self.peeks(take);
        let branches = self.branches(take, &peeks);
        let several = self.evidence || self.forced().is_some() || self.confirmed().is_some();
        let own = match (take, self.rules) {
            (Take::Lock(..), Rules::Table(_)) => format!("WHERE {}", self.mapping.of_record("$4")),
            _ => String::new(),
        };
        let found = format!("({}) AS found {own}", branches.join(" UNION ALL "));
        let stale = if branches.len() > 1 && several {
            format!("SELECT DISTINCT ON (id) id, reason, action FROM {found} ORDER BY id, place")
        } else {
            format!("SELECT id, reason, action FROM {found}")
        };
        let first: String = peeks.iter().map(|peek| format!(", {}", peek.ctes())).collect();
        format!("{}{first}, stale AS MATERIALIZED ({stale})", self.rules())
    }

    /// Binds what the parts above refer to.
    pub fn bind<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let base = &self.effective_rules.base;
        let query = query.bind(base.timeout.value).bind(base.grace.value).bind(base_parameter(
            base,
            self.watched,
            self.asked,
        ));
        match self.rules {
            Rules::Table(store_id) => query.bind(store_id),
            Rules::Memory => query.bind(parameter(&self.effective_rules.rules)),
        }
    }

    /// Whether a rule can be about jobs, or types: what is in force says so, and a statement that leaves out what no rule is about
    /// takes a fraction of the time to plan, which is most of what it takes. A person may give an execution a rule at any time.
    fn has_rules(&self, scope: &str) -> bool {
        let of = |wanted| self.effective_rules.rules.iter().any(|rule| rule.scope == wanted);
        match scope {
            "j" => of(Scope::Job),
            "y" => self.mapping.knows_types() && of(Scope::Type),
            _ => true,
        }
    }

    /// The condition that no rule of these scopes has a say in the row's deadline, nor a pause. Each is a hashed subplan, which keeps
    /// the order of the index; with NOT EXISTS the planner sorts all stale rows.
    fn unruled(&self, scopes: &[&str]) -> String {
        let m = self.mapping;
        let mut conditions = Vec::new();
        for (scope, key) in [("e", m.id()), ("j", m.job_key().0), ("y", m.job_type())] {
            if scopes.contains(&scope) && self.has_rules(scope) {
                conditions
                    .push(format!("({key} IN (SELECT r.k FROM {scope} AS r WHERE r.moves)) IS NOT TRUE"));
            }
        }
        conditions.extend(self.unpaused());
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    }

    /// An execution that started by then is stale by default. `statement_timestamp()` is stable, so an index on the
    /// start serves; `clock_timestamp()` would make it a filter.
    fn default_cutoff() -> String {
        "statement_timestamp() - $1::interval - $2::interval".to_owned()
    }
}

/// The start of what has run for `total` within `horizon` from now, or has already.
fn within(horizon: TimeDelta, total: &str) -> String {
    format!("statement_timestamp() + interval {} - {total}", literal(&interval(horizon)))
}
