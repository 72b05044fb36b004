//! The times of a row as instants, and conditions on them that an index serves.

use super::sql::{clamp_timestamp, column, literal};
use super::types::TimeType;
use super::{CLOCKS_MAY_DIFFER_MINUTES, Mapping};

impl Mapping {
    /// Returns the start in the type of its column, which indexes use.
    pub fn started_column(&self) -> String {
        column(&self.layout.table.columns.started_at)
    }

    /// Returns the end in the type of its column.
    pub fn completed_column(&self) -> String {
        column(&self.layout.table.columns.completed_at)
    }

    /// Returns the SQL type of the start column.
    pub const fn start_type(&self) -> &'static str {
        match self.types.started_at {
            TimeType::Instant => "timestamptz",
            TimeType::Local => "timestamp",
        }
    }

    /// Reports whether some times are local, so that their instants depend on the time zone of the mapping.
    pub fn has_local_times(&self) -> bool {
        let types = &self.types;
        let own = [
            Some(types.started_at),
            Some(types.completed_at),
            types.created_at,
            types.heartbeat_at,
            types.checkpoint_at,
            types.deadline_at,
            types.scheduled_at,
        ];
        own.into_iter()
            .chain(types.related.map(|related| related.time))
            .any(|time| time == Some(TimeType::Local))
    }

    /// Returns the start as an instant. A local time that a clock showed twice is read as the later instant, so that no deadline
    /// comes too early.
    pub fn started_at(&self) -> String {
        self.instant(&self.started_column(), self.types.started_at)
    }

    /// Returns the time that distinguishes a run from other runs of the same row: its start, or its creation if that is mapped and
    /// it has no start. `StalenessPredicate` decides from when the run counts.
    pub fn began_at(&self) -> String {
        match self.created_at() {
            Some(created) => format!("COALESCE({}, {created})", self.started_at()),
            None => self.started_at(),
        }
    }

    /// Returns the creation as an instant, if it is mapped.
    pub fn created_at(&self) -> Option<String> {
        let created = self.layout.table.columns.created_at.as_ref()?;
        Some(self.instant(&column(created), self.types.created_at?))
    }

    /// Returns the condition that the start is before the creation by more than clocks may differ, if the creation is mapped.
    pub fn started_before_created(&self) -> String {
        let before = |created: String| {
            format!(
                "{} <= {} - interval '{CLOCKS_MAY_DIFFER_MINUTES} minutes'",
                self.started_at(),
                clamp_timestamp(&created)
            )
        };
        self.created_at().map_or("false".to_owned(), before)
    }

    /// Returns the time of the last checkpoint as an instant, if it is mapped.
    pub fn checkpoint_at(&self) -> Option<String> {
        let (name, type_) = self.layout.table.columns.checkpoint_at.as_ref().zip(self.types.checkpoint_at)?;
        Some(self.instant(&column(name), type_))
    }

    /// Returns the last heartbeat as an instant, if executions send some: a checkpoint of this run is one, too.
    pub fn heartbeat_at(&self) -> Option<String> {
        let own = self.own_heartbeat().map(|(name, type_)| self.instant(&name, type_));
        // One from before the start is that of an earlier attempt: a live run that has written none yet would seem silent by it.
        let checkpoint = self.checkpoint_heartbeat().map(|(name, type_)| {
            let at = self.instant(&name, type_);
            format!("CASE WHEN {at} > {} THEN {at} END", self.started_at())
        });
        match (own, checkpoint) {
            (Some(own), Some(checkpoint)) => Some(format!("GREATEST({own}, {checkpoint})")),
            (own, checkpoint) => own.or(checkpoint),
        }
    }

    /// Returns the condition that the last heartbeat is not after `cutoff`, built like [`Self::started_by`].
    pub fn heartbeat_by(&self, cutoff: &str) -> Option<String> {
        let by = |(name, type_): (String, TimeType)| self.by(&name, type_, cutoff);
        let narrow = match (self.own_heartbeat(), self.checkpoint_heartbeat()) {
            (own, None) => return own.map(by),
            (None, Some(checkpoint)) => by(checkpoint),
            (Some(own), Some(checkpoint)) => {
                format!("({} OR {} IS NULL AND {})", by(own.clone()), own.0, by(checkpoint))
            }
        };
        // The first half narrows the search by index; the second half decides.
        Some(format!("({narrow} AND {} <= ({cutoff}))", self.heartbeat_at()?))
    }

    /// Returns the column of heartbeats and its type.
    fn own_heartbeat(&self) -> Option<(String, TimeType)> {
        self.layout.table.columns.heartbeat_at.as_ref().map(column).zip(self.types.heartbeat_at)
    }

    /// Returns the column of the time of the checkpoint and its type, if checkpoints count as heartbeats: those of workers count
    /// instead where there are some.
    fn checkpoint_heartbeat(&self) -> Option<(String, TimeType)> {
        let counts = self.layout.heartbeat.is_none();
        self.layout
            .table
            .columns
            .checkpoint_at
            .as_ref()
            .filter(|_| counts)
            .map(column)
            .zip(self.types.checkpoint_at)
    }

    /// Returns the end as an instant.
    pub fn completed_at(&self) -> String {
        self.instant(&self.completed_column(), self.types.completed_at)
    }

    /// Returns the condition that the end is not after `cutoff`, built like [`Self::started_by`].
    pub fn completed_by(&self, cutoff: &str) -> String {
        self.by(&self.completed_column(), self.types.completed_at, cutoff)
    }

    /// Returns the condition that the end is after `cutoff`, so that an index on the end serves it.
    pub fn completed_after(&self, cutoff: &str) -> String {
        let column = self.completed_column();
        match self.types.completed_at {
            TimeType::Instant => format!("{column} > ({cutoff})"),
            TimeType::Local => {
                format!("{column} > (({cutoff}) AT TIME ZONE {})", literal(&self.layout.table.time_zone))
            }
        }
    }

    /// Reports whether an index on all rows begins with the end.
    pub const fn indexed_by_end(&self) -> bool {
        self.types.indexed_by_end
    }

    /// Returns the condition that the start is not after `cutoff`, an SQL expression for an instant. An index on the start column
    /// serves it: the other side is a stable expression in the type of the column.
    pub fn started_by(&self, cutoff: &str) -> String {
        self.by(&self.started_column(), self.types.started_at, cutoff)
    }

    pub(in crate::db) fn by(&self, column: &str, type_: TimeType, cutoff: &str) -> String {
        let zone = literal(&self.layout.table.time_zone);
        match type_ {
            TimeType::Instant => format!("{column} <= ({cutoff})"),
            TimeType::Local if self.fixed_zone() => format!("{column} <= (({cutoff}) AT TIME ZONE {zone})"),
            // When clocks are set back, a later instant can have an earlier local time. The first half narrows the search by index,
            // with more slack than any clock change; the second half decides.
            TimeType::Local => format!(
                "({column} <= (({cutoff}) AT TIME ZONE {zone}) + interval '3 hours' AND {} <= ({cutoff}))",
                self.instant(column, type_)
            ),
        }
    }

    /// Reports whether the order of the start column is the order of the instants.
    pub fn starts_in_order(&self) -> bool {
        self.types.started_at == TimeType::Instant || self.fixed_zone()
    }

    /// Returns a column as an instant. Local times at the ends of Postgres' range have no instant in zones ahead of or behind UTC,
    /// and converting them is an error: they are treated as infinite.
    pub(in crate::db) fn instant(&self, column: &str, type_: TimeType) -> String {
        let zone = literal(&self.layout.table.time_zone);
        match type_ {
            TimeType::Instant => column.to_owned(),
            TimeType::Local if self.fixed_zone() => format!("({column} AT TIME ZONE {zone})"),
            TimeType::Local => format!(
                "CASE WHEN {column} > '294276-01-01' THEN 'infinity' WHEN {column} < '4712-01-01 BC' THEN '-infinity' \
                 ELSE {column} AT TIME ZONE {zone} END"
            ),
        }
    }

    /// Returns an instant as a column of this type stores it.
    pub(in crate::db) fn stored(&self, instant: &str, type_: TimeType) -> String {
        match type_ {
            TimeType::Instant => instant.to_owned(),
            TimeType::Local => format!("({instant}) AT TIME ZONE {}", literal(&self.layout.table.time_zone)),
        }
    }

    fn fixed_zone(&self) -> bool {
        matches!(self.layout.table.time_zone.as_str(), "UTC" | "Etc/UTC" | "GMT" | "Z")
    }
}
