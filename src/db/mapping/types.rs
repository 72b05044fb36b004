//! The types of the mapped columns.

use super::layout::RelatedTable;

/// The type of an id column, as far as comparisons depend on it.
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
    /// Returns the SQL type to which an id's text is cast before it is compared with the column.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Uuid => "uuid",
            Self::Text => "text",
        }
    }

    /// Returns the id in the form in which Postgres prints it; `None` if no row can have this id.
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

/// The types and indexes of the mapped columns, from the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the catalog")]
pub struct Types {
    /// The type of the id.
    pub id: IdType,
    /// The type of the start.
    pub started_at: TimeType,
    /// The type of the end.
    pub completed_at: TimeType,
    /// The type of the job id; `None`: another type, compared by its text and without an index.
    pub job_id: Option<IdType>,
    /// True if the job type is a text, so that an index on it serves.
    pub job_type_is_text: bool,
    /// The type of the heartbeat.
    pub heartbeat_at: Option<TimeType>,
    /// The type of the time of the checkpoint.
    pub checkpoint_at: Option<TimeType>,
    /// The type of the creation.
    pub created_at: Option<TimeType>,
    /// True if the timeout of a row is an interval; otherwise it is a number of seconds.
    pub timeout_is_interval: bool,
    /// The type of the deadline of a row.
    pub deadline_at: Option<TimeType>,
    /// The type of the time before which an execution does not start.
    pub scheduled_at: Option<TimeType>,
    /// True if an index on running executions begins with the job id.
    pub indexed_by_job: bool,
    /// True if an index on all rows begins with the job id.
    pub job_leads: bool,
    /// True if an index on running executions begins with the job type.
    pub indexed_by_type: bool,
    /// True if an index on all rows begins with the end.
    pub indexed_by_end: bool,
    /// True if there is a text for cancelled executions that fits the column.
    pub can_cancel: bool,
    /// True if ending an execution changes a column that a foreign key could refer to.
    pub ends_keys: bool,
    /// The types of the tables that are only read, in the order of [`RelatedTable`].
    pub related: [RelatedTypes; RelatedTable::COUNT],
    /// The number of characters that fit in the error column, if that is limited.
    pub error_limit: Option<i32>,
    /// True if an id may be missing, or longer than [`ID_BYTES`](super::ID_BYTES).
    pub unusable_ids: bool,
    /// True if Postgres itself can compare job ids; otherwise they are compared by their text.
    pub jobs_comparable: bool,
    /// True if the login may read `xmin`, which distinguishes the versions of a row.
    pub versions: bool,
}

impl Types {
    /// Returns the types of a table that is only read.
    pub const fn of(&self, table: RelatedTable) -> RelatedTypes {
        self.related[table as usize]
    }
}

/// The types of the columns of a related table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelatedTypes {
    /// True if its key is compared in its own type, instead of by its text.
    pub alike: bool,
    /// The type of its time.
    pub time: Option<TimeType>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
