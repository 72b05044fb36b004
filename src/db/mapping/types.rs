//! The types of the mapped columns.

/// The type of an id column, as far as comparing goes.
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
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the catalog")]
pub struct Types {
    /// Of the id.
    pub id: IdType,
    /// Of the start.
    pub started_at: TimeType,
    /// Of the end.
    pub completed_at: TimeType,
    /// Of the job id; `None`: another one, compared by its text and without an index.
    pub job_id: Option<IdType>,
    /// Whether the job type is a text, so that an index on it serves.
    pub job_type_is_text: bool,
    /// Of the heartbeat.
    pub heartbeat_at: Option<TimeType>,
    /// Of the creation.
    pub created_at: Option<TimeType>,
    /// Whether an index on running executions begins with the job id.
    pub indexed_by_job: bool,
    /// Whether an index on running executions begins with the job type.
    pub indexed_by_type: bool,
    /// Whether an index on all rows begins with the end.
    pub indexed_by_end: bool,
    /// Whether there is a text for cancelled executions that fits the column.
    pub can_cancel: bool,
    /// Whether ending an execution changes a column that a foreign key could refer to.
    pub ends_keys: bool,
    /// Whether the ids of the table of jobs are compared as they are, else by their text.
    pub jobs_alike: bool,
    /// Of the time when a job finished.
    pub job_finished_at: Option<TimeType>,
    /// How many characters the error column holds, where that is limited.
    pub error_limit: Option<i32>,
    /// Whether an id may be missing, or longer than [`ID_BYTES`](super::ID_BYTES).
    pub unusable_ids: bool,
    /// Whether Postgres itself can compare job ids, else they are compared by their text.
    pub jobs_comparable: bool,
    /// Whether the login may read `xmin`, which tells the versions of a row apart.
    pub versions: bool,
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
