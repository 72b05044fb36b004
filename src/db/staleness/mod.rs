//! The second half of deciding: which executions are stale, evaluated by one SQL predicate at the database's clock. The sweep, the
//! counts, the list and the explanation of one execution are all made of the parts here.
//!
//! A statement begins with the rules, split by scope into `execution_rule` (executions), `job_rule` (jobs) and `type_rule` (types)
//! with the key in the type of its column as `applies_to`, and the base as `store_defaults`. Joined to a row
//! ([`StalenessPredicate::joins`]) they give its `verdict`. Statements find the rows by index where there is one: rows
//! without a rule by their start, rows with a rule for their job or type by that and their start (see `branches`; `index_probe` for
//! reading without locks, and `next_deadline` for the time of the next check).

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

mod actions;
mod alive;
mod branches;
pub mod evidence;
mod index_probe;
mod manual_request;
mod next_deadline;
mod promise;
mod retry;
mod row_timeout;
mod suspects;
mod time;

pub use super::reason::Reason;
pub use super::suspicion::{NotAsked, Suspicion, UnknownSuspicion};
pub use retry::RetryLimits;
pub(in crate::db) use retry::attempts_before;
pub(in crate::db) use time::Times;

use super::Mapping;
use super::ids::sane;
use super::intervals::interval;
use super::manual_request::ManualRequest;
use super::mapping::{clamp_timestamp, literal};
use super::rules::columns::{base_parameter, parameter};
use super::rules::settings::{self, ARE_SANE, NAMES, TYPED};
use crate::api::OnStale;
use crate::rules::{RuleSet, Scope, UNLIMITED};

/// The place from which the rules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// The table `jobexec.rules`, with this store id.
    Table(i64),
    /// The rules in effect, from memory: the operator's tables do not exist. Then evidence that needs stored state does not count:
    /// conditions that must last for a while, and lost heartbeats, which may have to be held.
    Memory,
}

/// The predicate for one store.
#[derive(Clone, Copy, Debug)]
pub struct StalenessPredicate<'a> {
    /// The table.
    pub mapping: &'a Mapping,
    /// The rules in effect.
    pub effective_rules: &'a RuleSet,
    /// The place from which the rules are read.
    pub rules: Rules,
    /// The time for which a later execution of a job must have run before an earlier one is stale; `None`: the executions of a job
    /// may overlap.
    pub single_active_execution: Option<TimeDelta>,
    /// The time for which a Kubernetes workload must be seen failed or gone before its execution is stale; `None`: the store does
    /// not check workloads.
    pub workloads: Option<TimeDelta>,
    /// The time since which the store has been observed without a gap: evidence of life counts from then.
    pub watched: DateTime<Utc>,
    /// The time of the last check whether to hold lost heartbeats: a heartbeat lost since then counts only after the next check.
    /// `None`: every heartbeat lost by now counts.
    pub heartbeats_seen: Option<DateTime<Utc>>,
    /// Only executions with this action; `None`: with any.
    pub action: Option<OnStale>,
    /// True to check evidence other than deadlines as well, which costs more.
    pub evidence: bool,
    /// The manual request, in addition to the rules; `None`: the operator itself checks all executions.
    pub asked: Option<&'a ManualRequest>,
    /// The records of other tables or stores in which people granted something. Executions that were given more time in them, and
    /// not in the table's own record, are left alone.
    pub undecided: &'a [i64],
    /// Whether the operator may retry executions now.
    pub retries: RetryLimits,
}

/// The ways in which [`StalenessPredicate::ctes`] selects the stale rows.
#[derive(Clone, Copy, Debug)]
pub enum Selection {
    /// Reads all rows that a sweep would end, and looks ahead for this long.
    Look(TimeDelta),
    /// Reads all rows, including those that keep running (`AlertOnly`).
    LookAtAll,
    /// Reads the rows of [`IdFilter::These`], including those that keep running.
    LookAtThese,
    /// Reads up to this many rows for each rule, the longest running first, including those that keep running.
    Page(u32),
    /// Reads up to this many rows for each rule, from one end.
    LookAt(u32, End, IdFilter),
    /// Locks up to this many rows for each rule, from one end, and skips rows that another transaction holds.
    Lock(u32, End, IdFilter),
    /// Reads those of the common table expression `candidate` (id) that a sweep would end.
    Candidates,
}

impl Selection {
    const fn looks_at_all(self) -> bool {
        matches!(self, Self::LookAtAll | Self::LookAtThese | Self::Page(_))
    }

    const fn names(self) -> bool {
        matches!(self, Self::LookAtThese | Self::Candidates)
    }
}

/// The rows from which to select. The ids are in the text array that the caller binds at [`NEXT_PARAMETER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdFilter {
    /// All rows except these.
    Others,
    /// Only these rows.
    These,
}

/// The end of the stale executions at which to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The longest running first.
    Oldest,
    /// The shortest running first.
    Newest,
}

/// The first parameter that is free for the caller of [`StalenessPredicate::bind`].
pub const NEXT_PARAMETER: u8 = 5;

/// The settings for the deadline of a row other than its timeout.
const GRACE_AND_ACTION: &str = "COALESCE(execution_rule.extend_by, interval '0') AS extend_by, \
     COALESCE(job_rule.grace, type_rule.grace, store_defaults.grace) AS grace, \
     COALESCE(job_rule.on_stale, type_rule.on_stale, store_defaults.on_stale) AS action";

/// The time after which a row gets a long-running warning, by its `verdict`; NULL: none.
pub const WARN: &str = "COALESCE(verdict.warn_after, verdict.timeout * (verdict.warn_percent / 100.0))";

/// The time for which a row may run, by its `verdict`; NULL: without a deadline.
const TOTAL: &str = "(verdict.timeout + verdict.extend_by + verdict.grace)";

/// The condition that executions under `rule`, whatever other rules they have, can be past their deadline: rules without a timeout
/// are left out of the search.
const ENDS: &str = "rule.earliest < interval '1000000 hours'";

/// The condition that `rule` affects whether, when or how a deadline counts.
const AFFECTS_DEADLINE: &str = "(rule.timeout_source IS NOT NULL OR rule.extend_by IS NOT NULL OR rule.grace IS NOT NULL OR rule.on_stale IS NOT NULL OR rule.retry IS NOT NULL)";

impl<'a> StalenessPredicate<'a> {
    /// Returns the predicate of the operator itself for a store whose only evidence is deadlines, heartbeats and jobs.
    #[must_use]
    pub const fn new(
        mapping: &'a Mapping,
        effective_rules: &'a RuleSet,
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
            action: None,
            evidence: true,
            asked: None,
            undecided: &[],
            retries: RetryLimits::NONE,
        }
    }

    /// Returns the predicate with this manual request.
    #[must_use]
    pub const fn asked(self, asked: &'a ManualRequest) -> Self {
        Self { asked: Some(asked), ..self }
    }

    /// Returns the predicate that checks all evidence, or only deadlines.
    #[must_use]
    pub const fn with_evidence(self, evidence: bool) -> Self {
        Self { evidence, ..self }
    }

    /// Returns the common table expressions `store_defaults`, `execution_rule`, `job_rule` and `type_rule`, without the `WITH`.
    /// They use the parameters that [`Self::bind`] binds.
    pub fn rules(&self) -> String {
        let rules = match self.rules {
            Rules::Table(_) => {
                format!(
                    "SELECT {}, {} FROM jobexec.rules WHERE store_id = $4 AND scope <> 'store' AND {}",
                    *NAMES,
                    Self::promised_columns(),
                    *ARE_SANE
                )
            }
            Rules::Memory => format!("SELECT * FROM jsonb_to_recordset($4::jsonb) AS rule ({})", *TYPED),
        };
        let of_scope = |scope: &str, type_: &str| {
            format!(
                include_str!("rules_of_scope.sql"),
                is_sane = sane("key", type_),
                type_ = type_,
                moves = AFFECTS_DEADLINE,
                ends = ENDS,
                scope = scope,
            )
        };
        let part = |part: Option<String>| part.map_or(String::new(), |part| format!(",\n{part}"));
        format!(
            include_str!("rules.sql"),
            heartbeats_held = self.heartbeats_held(),
            typed_columns = *TYPED,
            rules = rules,
            execution_rules = of_scope("execution", self.mapping.id_type().sql()),
            job_rules = of_scope("job", self.mapping.job_key().1),
            type_rules = of_scope("type", "text"),
            observed_pauses = part(self.pauses()),
            running_again = part(self.held()),
        )
    }

    /// Returns the joins of the rules to a row with this id, job (in the form of [`Mapping::job_key`]) and type, and its verdict as
    /// `verdict`. `own_limit`: the join of `own` (until, began, start), if rows can have a timeout of their own. A statement that
    /// needs only the settings for the deadline leaves the others out: it is parsed and planned each time.
    pub fn joins(&self, id: &str, job: &str, type_: &str, own_limit: &str) -> String {
        let settings = format!(
            "{}, {}, {}, store_defaults.store AS store, store_defaults.watched AS watched",
            self.due(),
            self.timeout_source(),
            *settings::VERDICT
        );
        format!(
            include_str!("rules_of_row.sql"),
            id = id,
            job = job,
            type_ = type_,
            own_limit = own_limit,
            settings = settings
        )
    }

    /// Returns the joins of the rules to the row `execution`.
    pub fn joined(&self) -> String {
        let m = self.mapping;
        self.joins(&m.id(), &m.job_key().0, &m.job_type(), &self.own_limit())
    }

    /// Returns the joins of the rules to the row `execution`, with only the settings for its deadline as `verdict`.
    fn joined_for_due(&self) -> String {
        format!("{} {}", self.others("", &[]), self.verdict_for_due())
    }

    /// Returns the join of the `verdict` of the row `execution`, with only the settings for its deadline.
    fn verdict_for_due(&self) -> String {
        format!("CROSS JOIN LATERAL (SELECT {}) AS verdict", self.due())
    }

    /// Returns the common table expressions of [`Self::rules`], and `stale` (id, reason, action).
    pub fn ctes(&self, selection: Selection) -> String {
        let index_probes = self.index_probes(selection);
        let branches = self.branches(selection);
        let several = self.evidence || self.forced().is_some() || self.confirmed().is_some();
        let record = matches!(self.rules, Rules::Table(_)).then_some("$4");
        let may_end = match selection {
            Selection::Lock(..) => self.mapping.may_end(record),
            _ => None,
        };
        let own = may_end.map_or(String::new(), |may_end| format!("WHERE {may_end}"));
        let found = format!("({}) AS found {own}", branches.join(" UNION ALL "));
        let stale = if branches.len() > 1 && several {
            let order = self.most_cautious_first();
            format!("SELECT DISTINCT ON (id) id, reason, action FROM {found} ORDER BY id, {order}place")
        } else {
            format!("SELECT id, reason, action FROM {found}")
        };
        let stale = match selection {
            Selection::Lock(..) | Selection::LookAt(..) => self.unless_otherwise_stale(stale),
            _ => stale,
        };
        let first: String = index_probes.iter().map(|peek| format!(",\n{}", peek.ctes())).collect();
        format!("{}{first},\nstale AS MATERIALIZED ({stale})", self.rules())
    }

    /// Binds the parameters that the parts above refer to.
    pub fn bind<'q>(&self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let base = &self.effective_rules.base;
        // Without a default timeout, no statement compares with it.
        let timeout = base.timeout.value.length().unwrap_or(UNLIMITED);
        let query =
            query.bind(timeout).bind(base.grace.value).bind(base_parameter(base, self.watched, self.asked));
        match self.rules {
            Rules::Table(store_id) => query.bind(store_id),
            Rules::Memory => query.bind(parameter(&self.effective_rules.rules)),
        }
    }

    /// Reports whether a rule can apply to jobs or types, by the rules in effect. Leaving out scopes without rules cuts the time to
    /// plan a statement, which is most of its time, to a fraction. Executions always count: a person may give one a rule at any
    /// time.
    fn has_rules(&self, scope: &str) -> bool {
        let of = |wanted| self.effective_rules.rules.iter().any(|rule| rule.scope == wanted);
        match scope {
            "job_rule" => of(Scope::Job),
            "type_rule" => self.mapping.knows_types() && of(Scope::Type),
            _ => true,
        }
    }

    /// Returns the condition that neither a rule of these scopes nor a timeout of its own nor a pause affects the deadline of the row.
    /// Each scope is a hashed subplan, which keeps the order of the index; with NOT EXISTS the planner sorts all stale rows.
    fn without_rule(&self, scopes: &[&str]) -> String {
        let m = self.mapping;
        let mut conditions = Vec::new();
        for (scope, key) in
            [("execution_rule", m.id()), ("job_rule", m.job_key().0), ("type_rule", m.job_type())]
        {
            if scopes.contains(&scope) && self.has_rules(scope) {
                conditions.push(format!(
                    "({key} IN (SELECT rule.applies_to FROM {scope} AS rule WHERE rule.moves)) IS NOT TRUE"
                ));
            }
        }
        // A rule for an execution applies to rows with a timeout of their own, too.
        conditions.extend(self.without_row_timeout().filter(|_| !scopes.is_empty()));
        conditions.extend(self.unpaused());
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    }

    /// Returns the latest start of an execution that is stale by default. `statement_timestamp()` is stable, so that an index on
    /// the start serves; `clock_timestamp()` would make it a filter.
    fn default_cutoff() -> String {
        "statement_timestamp() - $1::interval - $2::interval".to_owned()
    }
}

/// Returns the latest start of an execution that will have run for `total` within `horizon` from now, or already has.
fn within(horizon: TimeDelta, total: &str) -> String {
    format!("statement_timestamp() + interval {} - {total}", literal(&interval(horizon)))
}
