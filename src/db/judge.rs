//! Decide, second half: which executions are stale, judged by one SQL predicate at the database's clock. The sweep,
//! the counts and the look at one execution are all made of the parts here.

use chrono::TimeDelta;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::Mapping;
use crate::policy::Rule;

/// What governs an execution that no rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// How long it may run.
    pub timeout: TimeDelta,
    /// What is added before it is failed.
    pub grace: TimeDelta,
    /// The object that says so, for example `ExecutionStore/jobs`.
    pub source: String,
}

/// Where the rules are read.
#[derive(Clone, Debug)]
pub enum Rules<'a> {
    /// From `jobexec.rules`, under this store id.
    Table(i32),
    /// From memory: the operator's tables are not there.
    Memory(&'a [Rule]),
}

/// The predicate for one store.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    /// The table.
    pub mapping: &'a Mapping,
    /// What governs when no rule does.
    pub defaults: &'a Defaults,
    /// The rules.
    pub rules: Rules<'a>,
}

/// How [`Judge::ctes`] takes the stale rows.
#[derive(Clone, Copy, Debug)]
pub enum Take {
    /// Only look at all of them.
    Look,
    /// Only look at up to so many by each rule, from one end.
    LookAt(u32, End, Among),
    /// Lock up to so many by each rule, from one end, passing over rows that another transaction holds.
    Lock(u32, End, Among),
}

/// Among which rows to take. The ids are in the text array that the caller binds at [`Judge::next_parameter`].
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

impl Judge<'_> {
    /// The common table expressions `rule` (key, timeout, grace, source) and `stale` (id), without the `WITH`.
    /// They use the parameters that [`Self::bind`] binds.
    pub fn ctes(&self, take: Take) -> String {
        let m = self.mapping;
        let (table, id, running, start) = (m.table(), m.id(), m.running(), m.started_column());
        let by_default = m.started_by(&Self::default_cutoff());
        let by_rule = m.started_by(&Self::rule_cutoff());
        let key = m.id_type().sql();
        let take = match take {
            Take::Look => String::new(),
            Take::LookAt(limit, end, among) | Take::Lock(limit, end, among) => {
                let ids = format!("(${}::text[]::{key}[])", self.next_parameter());
                let among = match among {
                    Among::Others => format!("AND {id}::{key} <> ALL {ids}"),
                    Among::These => format!("AND {id} = ANY {ids}"),
                };
                let order = if end == End::Newest { "DESC" } else { "ASC" };
                let lock = if matches!(take, Take::Lock(..)) { "FOR UPDATE OF t SKIP LOCKED" } else { "" };
                format!("{among} ORDER BY {start} {order} LIMIT {limit} {lock}")
            }
        };
        format!(
            "rule AS MATERIALIZED ({rules}),
             by_default AS MATERIALIZED (
                 SELECT {id} AS id FROM {table} AS t
                 WHERE {running} AND {by_default} AND {unruled} {take}),
             by_rule AS MATERIALIZED (
                 SELECT {id} AS id FROM rule AS r JOIN {table} AS t ON {id} = r.key::{key}
                 WHERE {running} AND {by_rule} {take}),
             stale AS (SELECT id FROM by_default UNION ALL SELECT id FROM by_rule)",
            rules = self.rule_query(),
            unruled = self.unruled(),
        )
    }

    /// The earliest deadline still to come of a running execution, as a scalar subquery; needs [`Self::ctes`].
    pub fn next_deadline(&self) -> String {
        let m = self.mapping;
        let (table, id, running, key) = (m.table(), m.id(), m.running(), m.id_type().sql());
        // Cut to the year 9999 before the timeout is added, so that no start can make the sum overflow.
        let start = format!("({})", super::mapping::wire(&m.started_at()));
        // The first by the index, unless clock changes make instants come in another order than local times.
        let (first, in_order) = if m.starts_in_order() {
            (format!("{start} + $1 + $2"), format!("ORDER BY {} LIMIT 1", m.started_column()))
        } else {
            (format!("min({start} + $1 + $2)"), String::new())
        };
        format!(
            "(SELECT min(deadline) FROM (
                 (SELECT {first} AS deadline FROM {table} AS t
                  WHERE {running} AND NOT ({by_default}) AND {unruled} {in_order})
                 UNION ALL
                 SELECT min({start} + COALESCE(r.timeout, $1) + COALESCE(r.grace, $2)) FROM rule AS r
                 JOIN {table} AS t ON {id} = r.key::{key} WHERE {running} AND NOT ({by_rule})) AS next)",
            unruled = self.unruled(),
            by_default = m.started_by(&Self::default_cutoff()),
            by_rule = m.started_by(&Self::rule_cutoff()),
        )
    }

    /// Timeout, grace, source and deadline of a row whose start is the instant `start`, where `r` is its rule or
    /// all NULL: four columns of those names.
    pub fn verdict(start: &str) -> String {
        format!(
            "COALESCE(r.timeout, $1) AS timeout, COALESCE(r.grace, $2) AS grace, COALESCE(r.source, $3) AS source, \
             ({}) + COALESCE(r.timeout, $1) + COALESCE(r.grace, $2) AS deadline",
            super::mapping::wire(start)
        )
    }

    /// The query behind the common table expression `rule`.
    pub fn rule_query(&self) -> String {
        let columns = "SELECT key, timeout, grace, source";
        // A key that is no id of this table (its id type was changed) must not make the cast below fail.
        let sane = match self.mapping.id_type() {
            super::mapping::IdType::Integer => {
                "CASE WHEN key ~ '^-?[0-9]{1,19}$' \
                 THEN key::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 ELSE false END"
            }
            super::mapping::IdType::Uuid => "key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
            super::mapping::IdType::Text => "true",
        };
        match self.rules {
            Rules::Table(_) => {
                format!("{columns} FROM jobexec.rules WHERE store_id = $4 AND scope = 'execution' AND {sane}")
            }
            Rules::Memory(_) => format!(
                "{columns} FROM unnest($4::text[], $5::interval[], $6::interval[], $7::text[]) \
                 AS rules (key, timeout, grace, source) WHERE {sane}"
            ),
        }
    }

    /// Binds what the parts above refer to. The first parameter that is free for the caller is `$next`, where
    /// `next` is [`Self::next_parameter`].
    pub fn bind<'q>(&'q self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        let query = query.bind(self.defaults.timeout).bind(self.defaults.grace).bind(&self.defaults.source);
        match self.rules {
            Rules::Table(store_id) => query.bind(store_id),
            Rules::Memory(rules) => query
                .bind(rules.iter().map(|r| r.key.clone()).collect::<Vec<_>>())
                .bind(rules.iter().map(|r| r.timeout).collect::<Vec<_>>())
                .bind(rules.iter().map(|r| r.grace).collect::<Vec<_>>())
                .bind(rules.iter().map(|r| r.source.clone()).collect::<Vec<_>>()),
        }
    }

    /// See [`Self::bind`].
    pub const fn next_parameter(&self) -> u8 {
        match self.rules {
            Rules::Table(_) => 5,
            Rules::Memory(_) => 8,
        }
    }

    fn unruled(&self) -> String {
        // A hashed subplan, which keeps the order of the index; with NOT EXISTS the planner sorts all stale rows.
        format!("{}::text NOT IN (SELECT r.key FROM rule AS r)", self.mapping.id())
    }

    /// An execution that started by then is stale by default. `statement_timestamp()` is stable, so an index on the
    /// start serves; `clock_timestamp()` would make it a filter.
    fn default_cutoff() -> String {
        // $3 is named so that its type is known in statements that do not print the source.
        "statement_timestamp() - $1::interval - $2::interval".to_owned()
    }

    fn rule_cutoff() -> String {
        "statement_timestamp() - COALESCE(r.timeout, $1) - COALESCE(r.grace, $2)".to_owned()
    }
}
