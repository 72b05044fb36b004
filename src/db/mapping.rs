//! From the names in a spec to SQL. Every identifier is quoted and every status text is an escaped literal: both
//! must stand in the text of a statement, the first because Postgres cannot bind them, the second because a bound
//! status would miss the partial index under a generic plan and would not compare with an enum.

use crate::api::table::{Identifier, StatusText};
use crate::api::{Phase, Table};

/// The type of a table's id column, as far as comparing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdType {
    /// smallint, integer or bigint.
    Integer,
    /// uuid.
    Uuid,
    /// text or varchar.
    Text,
}

impl IdType {
    /// The SQL type that an id's text is cast to before it is compared with the column.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Uuid => "uuid",
            Self::Text => "text",
        }
    }

    /// The text as Postgres prints the same id, or `None` when no row can have this id.
    pub fn canonical(self, id: &str) -> Option<String> {
        match self {
            Self::Integer => id.parse::<i64>().ok().map(|n| n.to_string()),
            Self::Uuid => uuid::Uuid::try_parse(id).ok().map(|u| u.to_string()),
            Self::Text => (!id.contains('\0')).then(|| id.to_owned()),
        }
    }
}

/// The type of a column that holds a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeType {
    /// timestamptz: an instant.
    Instant,
    /// timestamp: a local time in the zone of the mapping.
    Local,
}

/// The types that the catalog tells about the mapped columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types {
    /// Of the id.
    pub id: IdType,
    /// Of the start.
    pub started_at: TimeType,
    /// Of the end.
    pub completed_at: TimeType,
    /// How many characters the error column holds, where that is limited.
    pub error_limit: Option<i32>,
}

/// A table of executions whose columns are known to exist, ready to be written into statements as alias `t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    table: Table,
    types: Types,
}

impl Mapping {
    /// A mapping onto columns of these types.
    pub fn new(table: Table, types: Types) -> Self {
        Self { table, types }
    }

    /// The table with its schema, quoted.
    pub fn table(&self) -> String {
        qualified(&self.table)
    }

    /// The schema and the name, as Postgres knows them.
    pub fn relation(&self) -> (&str, &str) {
        (&self.table.schema.0, &self.table.name.0)
    }

    /// The type of the ids.
    pub const fn id_type(&self) -> IdType {
        self.types.id
    }

    /// The id column.
    pub fn id(&self) -> String {
        column(&self.table.columns.id)
    }

    /// The job id column.
    pub fn job_id(&self) -> String {
        column(&self.table.columns.job_id)
    }

    /// The column of the execution's number.
    pub fn number(&self) -> String {
        column(&self.table.columns.execution_number)
    }

    /// The status column.
    pub fn status(&self) -> String {
        column(&self.table.columns.status)
    }

    /// The start as the column has it: what indexes are on.
    pub fn started_column(&self) -> String {
        column(&self.table.columns.started_at)
    }

    /// The end as the column has it.
    pub fn completed_column(&self) -> String {
        column(&self.table.columns.completed_at)
    }

    /// The start as an instant. A local time that a clock showed twice is read as the later instant, so that no
    /// deadline comes too early.
    pub fn started_at(&self) -> String {
        self.instant(&self.started_column(), self.types.started_at)
    }

    /// The end as an instant.
    pub fn completed_at(&self) -> String {
        self.instant(&self.completed_column(), self.types.completed_at)
    }

    /// The condition that an execution runs, as the partial index has it.
    pub fn running(&self) -> String {
        self.status_in(&self.table.statuses.running)
    }

    /// The condition that an execution waits.
    pub fn scheduled(&self) -> String {
        self.status_in(&self.table.statuses.scheduled)
    }

    /// The condition that an execution has ended.
    pub fn finished(&self) -> String {
        let s = &self.table.statuses;
        self.status_in(&[s.completed.as_slice(), &s.failed, &s.cancelled].concat())
    }

    /// The condition that an execution has a status of the mapping.
    pub fn mapped(&self) -> String {
        let s = &self.table.statuses;
        self.status_in(&[s.scheduled.as_slice(), &s.running, &s.completed, &s.failed, &s.cancelled].concat())
    }

    /// The condition that the start is not after `cutoff`, an SQL expression for an instant. It is built so that an
    /// index on the start column serves it: a stable expression on the other side, in the type of the column.
    pub fn started_by(&self, cutoff: &str) -> String {
        let start = self.started_column();
        let zone = literal(&self.table.time_zone);
        match self.types.started_at {
            TimeType::Instant => format!("{start} <= ({cutoff})"),
            TimeType::Local if self.fixed_zone() => format!("{start} <= (({cutoff}) AT TIME ZONE {zone})"),
            // Where clocks are set back a later instant can have an earlier local time: the first half narrows by
            // index with more slack than any clock change, the second decides.
            TimeType::Local => format!(
                "{start} <= (({cutoff}) AT TIME ZONE {zone}) + interval '3 hours' AND {} <= ({cutoff})",
                self.started_at()
            ),
        }
    }

    /// Whether the order of the start column is the order of the instants.
    pub fn starts_in_order(&self) -> bool {
        self.types.started_at == TimeType::Instant || self.fixed_zone()
    }

    /// The assignments that fail an execution at the database's now.
    pub fn fail_assignments(&self, explanation: &str) -> String {
        let columns = &self.table.columns;
        let now = match self.types.completed_at {
            TimeType::Instant => "statement_timestamp()".to_owned(),
            TimeType::Local => {
                format!("statement_timestamp() AT TIME ZONE {}", literal(&self.table.time_zone))
            }
        };
        let failed = self.table.statuses.failed.first().map_or("failed", |s| s.0.as_str());
        let mut set = format!(
            "{} = {}, {} = {now}",
            quote(&columns.status.0),
            literal(failed),
            quote(&columns.completed_at.0)
        );
        if let Some(error) = &columns.error {
            let limit =
                self.types.error_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            let explanation: String = explanation.chars().take(limit).collect();
            set.push_str(&format!(", {} = {}", quote(&error.0), literal(&explanation)));
        }
        set
    }

    /// The phase that a status text stands for.
    pub fn phase(&self, status: &str) -> Phase {
        let s = &self.table.statuses;
        [
            (&s.scheduled, Phase::Scheduled),
            (&s.running, Phase::Running),
            (&s.completed, Phase::Completed),
            (&s.failed, Phase::Failed),
            (&s.cancelled, Phase::Cancelled),
        ]
        .into_iter()
        .find(|(texts, _)| texts.iter().any(|t| t.0 == status))
        .map_or(Phase::Unmapped, |(_, phase)| phase)
    }

    fn instant(&self, column: &str, type_: TimeType) -> String {
        match type_ {
            TimeType::Instant => column.to_owned(),
            TimeType::Local => format!("({column} AT TIME ZONE {})", literal(&self.table.time_zone)),
        }
    }

    fn fixed_zone(&self) -> bool {
        matches!(self.table.time_zone.as_str(), "UTC" | "Etc/UTC" | "GMT" | "Z")
    }

    fn status_in(&self, texts: &[StatusText]) -> String {
        condition(&self.status(), texts)
    }
}

/// `column IN (…)` with one literal a text; never true without texts.
pub fn condition(column: &str, texts: &[StatusText]) -> String {
    match texts {
        [] => "false".to_owned(),
        [one] => format!("{column} = {}", literal(&one.0)),
        many => {
            format!("{column} IN ({})", many.iter().map(|t| literal(&t.0)).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The table with its schema, quoted.
pub fn qualified(table: &Table) -> String {
    format!("{}.{}", quote(&table.schema.0), quote(&table.name.0))
}

/// An instant that the client can hold: the far ends of Postgres' range, infinity among them, are cut to the years
/// 1 and 9999. NULL stays NULL, which `LEAST` and `GREATEST` alone would pass over.
pub fn wire(instant: &str) -> String {
    format!(
        "CASE WHEN {instant} IS NOT NULL \
         THEN LEAST(GREATEST({instant}, '0001-01-01Z'::timestamptz), '9999-12-31Z'::timestamptz) END"
    )
}

/// A quoted identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn column(name: &Identifier) -> String {
    format!("t.{}", quote(&name.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(quote("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'; drop"), "E'\\\\''; drop'");
    }

    #[test]
    fn ids_are_brought_to_the_form_that_postgres_prints() {
        assert_eq!(IdType::Integer.canonical("+039").as_deref(), Some("39"));
        assert_eq!(IdType::Integer.canonical("39; drop"), None);
        assert_eq!(IdType::Integer.canonical("9223372036854775808"), None);
        assert_eq!(
            IdType::Uuid.canonical("A0EEBC999C0B4EF8BB6D6BB9BD380A11").as_deref(),
            Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
        );
        assert_eq!(IdType::Uuid.canonical("39"), None);
        assert_eq!(IdType::Text.canonical("a b"), Some("a b".to_owned()));
    }
}
