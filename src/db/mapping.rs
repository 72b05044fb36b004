//! From the names in a spec to SQL. Every identifier is quoted and every status text is an escaped literal: both
//! must stand in the text of a statement, the first because Postgres cannot bind them, the second because a bound
//! status would miss the partial index under a generic plan and would not compare with an enum.

mod paused;
mod successor;

use crate::api::filter::Test;
use crate::api::identifier::Identifier;
use crate::api::table::{Jobs, StatusText};
use crate::api::{ExecutionStoreSpec, OnStale, Phase, Table};

/// The tables that a spec names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The executions.
    pub table: Table,
    /// The jobs, if they are named.
    pub jobs: Option<Jobs>,
    /// Who may own the operator's schema beside those who always may.
    pub schema_owner: Option<String>,
    /// Whether this was read in the database, where everybody can write it who may update the table.
    pub recorded: bool,
}

impl Layout {
    /// Those of a store.
    pub fn of(spec: &ExecutionStoreSpec) -> Self {
        Self {
            table: spec.table.clone(),
            jobs: spec.jobs.clone(),
            schema_owner: spec.connection.schema_owner.clone(),
            recorded: false,
        }
    }
}

impl From<Table> for Layout {
    fn from(table: Table) -> Self {
        Self { table, jobs: None, schema_owner: None, recorded: false }
    }
}

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
    /// Whether an id may be missing, or longer than [`ID_BYTES`].
    pub unusable_ids: bool,
    /// Whether Postgres itself can compare job ids, else they are compared by their text.
    pub jobs_comparable: bool,
    /// Whether the login may read `xmin`, which tells the versions of a row apart.
    pub versions: bool,
}

/// The longest id, in bytes, of an execution that the operator handles. An entry of an index has room for 2,704 bytes, and
/// the operator's own tables have ids in theirs.
pub const ID_BYTES: u16 = 1_000;

/// By how much the clocks of those who write one row may differ. What is further apart contradicts itself.
pub const CLOCKS_MAY_DIFFER_MINUTES: u8 = 5;

/// How many characters are read of any other text of a row. What is compared, as a job with the key of a rule, is compared
/// whole, by the server.
pub const TEXT_CHARS: u16 = 256;

/// How many characters are read of a text of a record. The operator writes shorter ones.
pub const RECORD_CHARS: i32 = 1_024;

/// A table of executions whose columns are known to exist, ready to be written into statements as alias `t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    table: Table,
    jobs: Option<Jobs>,
    schema_owner: Option<String>,
    types: Types,
}

impl Mapping {
    /// A mapping onto columns of these types.
    pub fn new(layout: Layout, types: Types) -> Self {
        Self { table: layout.table, jobs: layout.jobs, schema_owner: layout.schema_owner, types }
    }

    /// The table with its schema, quoted.
    pub fn table(&self) -> String {
        qualified(&self.table)
    }

    /// The schema and the name, as Postgres knows them.
    pub fn relation(&self) -> (&str, &str) {
        (&self.table.schema.0, &self.table.name.0)
    }

    /// The condition that the record `store_id` (a parameter) is that of the table whose rows the statement is about: names may be
    /// swapped while an operator runs. Postgres evaluates it once a statement. Not true where the record is gone.
    pub fn of_record(&self, store_id: &str) -> String {
        format!(
            "(SELECT s.table_oid = {}::regclass FROM jobexec.stores AS s WHERE s.store_id = {store_id})",
            literal(&self.table())
        )
    }

    /// Who may own the operator's schema beside those who always may.
    pub fn schema_owner(&self) -> Option<&str> {
        self.schema_owner.as_deref()
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

    /// The job id as it is shown: its text, cut.
    pub fn job_shown(&self) -> String {
        cut(&self.job_id())
    }

    /// The job type as it is shown: its text, cut.
    pub fn type_shown(&self) -> String {
        cut(&self.job_type())
    }

    /// The status as it is read: its text, cut. All texts of the mapping are shorter.
    pub fn status_shown(&self) -> String {
        cut(&self.status())
    }

    /// The job id as it is compared with the key of a rule, and the SQL type of that.
    pub fn job_key(&self) -> (String, &'static str) {
        match self.types.job_id {
            Some(type_) => (self.job_id(), type_.sql()),
            None => (format!("{}::text", self.job_id()), "text"),
        }
    }

    /// The type of job ids, where it is one of those that ids have.
    pub const fn job_id_type(&self) -> Option<IdType> {
        self.types.job_id
    }

    /// Whether an index on running executions begins with the job id.
    pub const fn indexed_by_job(&self) -> bool {
        self.types.indexed_by_job
    }

    /// Whether an index on running executions begins with the job type.
    pub const fn indexed_by_type(&self) -> bool {
        self.types.indexed_by_type
    }

    /// Whether job types are known.
    pub fn knows_types(&self) -> bool {
        self.table.columns.job_type.is_some() || self.jobs.as_ref().is_some_and(|j| j.columns.type_.is_some())
    }

    /// The job type of a row as text, NULL where none is known.
    pub fn job_type(&self) -> String {
        match (&self.table.columns.job_type, &self.jobs) {
            (Some(type_), _) if self.types.job_type_is_text => column(type_),
            (Some(type_), _) => format!("{}::text", column(type_)),
            (None, Some(jobs)) if jobs.columns.type_.is_some() => {
                format!("(SELECT {} FROM {} WHERE {})", self.jobs_type(), self.jobs_table(), self.of_job())
            }
            _ => "NULL::text".to_owned(),
        }
    }

    /// Whether the job type is a column of the executions themselves.
    pub fn has_type_column(&self) -> bool {
        self.table.columns.job_type.is_some()
    }

    /// The table of jobs as alias `p`, where it is named.
    pub fn jobs_table(&self) -> String {
        self.jobs
            .as_ref()
            .map_or(String::new(), |jobs| format!("{}.{} AS p", quote(&jobs.schema.0), quote(&jobs.name.0)))
    }

    /// The type of a job as text.
    pub fn jobs_type(&self) -> String {
        let type_ = self.jobs.as_ref().and_then(|jobs| jobs.columns.type_.as_ref());
        type_.map_or("NULL::text".to_owned(), |type_| format!("p.{}::text", quote(&type_.0)))
    }

    /// The condition that a job is a row's.
    pub fn of_job(&self) -> String {
        let id = self.jobs.as_ref().map_or(String::new(), |jobs| format!("p.{}", quote(&jobs.columns.id.0)));
        if self.types.jobs_alike {
            format!("{id} = {}", self.job_id())
        } else {
            format!("{id}::text = {}::text", self.job_id())
        }
    }

    /// The condition that a job is finished, and how long it must be seen so.
    pub fn job_finished(&self) -> Option<(String, chrono::TimeDelta)> {
        let jobs = self.jobs.as_ref()?;
        let status = format!("p.{}", quote(&jobs.columns.status.0));
        Some((condition(&status, &jobs.finished), jobs.grace_period.to_chrono()))
    }

    /// When a job finished as an instant, where that is mapped.
    pub fn job_finished_at(&self) -> Option<String> {
        let finished_at = self.jobs.as_ref()?.columns.finished_at.as_ref()?;
        Some(self.instant(&format!("p.{}", quote(&finished_at.0)), self.types.job_finished_at?))
    }

    /// A short text that is another one where something else makes a job finished, as an SQL expression.
    pub fn job_finished_digest(&self) -> String {
        let finished = self.job_finished().map_or(String::new(), |(finished, _)| finished);
        let all = format!("{} {} {finished}", self.jobs_table(), self.of_job());
        format!("hashtextextended({}, 0)::text", literal(&all))
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

    /// The SQL type of the start column.
    pub const fn start_type(&self) -> &'static str {
        match self.types.started_at {
            TimeType::Instant => "timestamptz",
            TimeType::Local => "timestamp",
        }
    }

    /// Whether times are local ones, so that it depends on the zone of the mapping which instants they are.
    pub fn has_local_times(&self) -> bool {
        let types = &self.types;
        let all = [
            Some(types.started_at),
            Some(types.completed_at),
            types.created_at,
            types.heartbeat_at,
            types.job_finished_at,
        ];
        all.contains(&Some(TimeType::Local))
    }

    /// The start as an instant. A local time that a clock showed twice is read as the later instant, so that no
    /// deadline comes too early.
    pub fn started_at(&self) -> String {
        self.instant(&self.started_column(), self.types.started_at)
    }

    /// What tells a run from others of the same row: its start, or its creation where that is mapped and it has no start. Its
    /// time counts from what [`super::Judge`] says.
    pub fn began_at(&self) -> String {
        match self.created_at() {
            Some(created) => format!("COALESCE({}, {created})", self.started_at()),
            None => self.started_at(),
        }
    }

    /// The creation as an instant, where it is mapped.
    pub fn created_at(&self) -> Option<String> {
        let created = self.table.columns.created_at.as_ref()?;
        Some(self.instant(&column(created), self.types.created_at?))
    }

    /// What is another text once anybody has written the row, as who claims it for another run does; `None`: this login may not
    /// read it. NULL: the row has none, as in a foreign table that inherits from this one, where `xmin` is 0 whoever
    /// writes it.
    pub const fn version(&self) -> Option<&'static str> {
        if self.types.versions { Some("NULLIF(t.xmin::text, '0')") } else { None }
    }

    /// The condition that the start is before the creation by more than clocks may differ, where that is mapped.
    pub fn started_before_created(&self) -> String {
        let before = |created: String| {
            format!(
                "{} <= {} - interval '{CLOCKS_MAY_DIFFER_MINUTES} minutes'",
                self.started_at(),
                wire(&created)
            )
        };
        self.created_at().map_or("false".to_owned(), before)
    }

    /// The last heartbeat as an instant, where it is mapped.
    pub fn heartbeat_at(&self) -> Option<String> {
        let heartbeat = self.table.columns.heartbeat_at.as_ref()?;
        Some(self.instant(&column(heartbeat), self.types.heartbeat_at?))
    }

    /// The workload of a row as `Kind/name`, where it is mapped.
    pub fn workload(&self) -> Option<String> {
        let workload = format!("{}::text", column(self.table.columns.workload.as_ref()?));
        Some(format!(
            "CASE WHEN strpos({workload}, '/') > 0 THEN {workload} ELSE 'Job/' || NULLIF({workload}, '') END"
        ))
    }

    /// Who runs a row, as a text that is the same for all rows of one worker: the worker, else the workload, else nobody but
    /// the row itself.
    pub fn worker(&self) -> String {
        let worker = self.table.columns.worker.as_ref();
        let worker = worker.map(|name| format!("'worker ' || NULLIF({}::text, '')", column(name)));
        let workload = self.workload().map(|workload| format!("'workload ' || {workload}"));
        let known: Vec<String> = worker.into_iter().chain(workload).collect();
        let row = format!("'execution ' || {}::text", self.id());
        format!("COALESCE({})", known.into_iter().chain([row]).collect::<Vec<_>>().join(", "))
    }

    /// The address of the owner of a row, where it is mapped. A text that is longer than any address is none: cut it would be
    /// somebody else's.
    pub fn owner(&self) -> String {
        let Some(owner) = self.table.columns.owner.as_ref() else { return "NULL::text".to_owned() };
        let owner = format!("btrim({}::text)", column(owner));
        format!("CASE WHEN length({owner}) <= {TEXT_CHARS} THEN NULLIF({owner}, '') END")
    }

    /// The condition that the last heartbeat is not after `cutoff`, built like [`Self::started_by`].
    pub fn heartbeat_by(&self, cutoff: &str) -> Option<String> {
        let heartbeat = self.table.columns.heartbeat_at.as_ref()?;
        Some(self.by(&column(heartbeat), self.types.heartbeat_at?, cutoff))
    }

    /// The end as an instant.
    pub fn completed_at(&self) -> String {
        self.instant(&self.completed_column(), self.types.completed_at)
    }

    /// The condition that the end is not after `cutoff`, built like [`Self::started_by`].
    pub fn completed_by(&self, cutoff: &str) -> String {
        self.by(&self.completed_column(), self.types.completed_at, cutoff)
    }

    /// The condition that the end is after `cutoff`, so that an index on the end serves it.
    pub fn completed_after(&self, cutoff: &str) -> String {
        let column = self.completed_column();
        match self.types.completed_at {
            TimeType::Instant => format!("{column} > ({cutoff})"),
            TimeType::Local => {
                format!("{column} > (({cutoff}) AT TIME ZONE {})", literal(&self.table.time_zone))
            }
        }
    }

    /// Whether an index on all rows begins with the end.
    pub const fn indexed_by_end(&self) -> bool {
        self.types.indexed_by_end
    }

    /// The condition that an execution runs, as the partial index has it.
    pub fn running(&self) -> String {
        self.status_in(&self.table.statuses.running)
    }

    /// The condition that an execution runs and is not [left alone](Self::handled).
    pub fn judged(&self) -> String {
        self.only_handled(self.running())
    }

    /// The condition that a row has an id that is short enough to be recorded; `None`: all have. Other rows are left alone.
    pub fn handled(&self) -> Option<String> {
        self.types.unusable_ids.then(|| format!("octet_length({}::text) <= {ID_BYTES}", self.id()))
    }

    /// `condition`, and that the row is not [left alone](Self::handled).
    pub fn only_handled(&self, condition: String) -> String {
        match self.handled() {
            Some(handled) => format!("({condition}) AND {handled}"),
            None => condition,
        }
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
        let all = [
            s.scheduled.as_slice(),
            &s.running,
            &s.paused,
            &s.completed,
            &s.failed,
            &s.cancelled,
            &s.ignored,
        ];
        self.status_in(&all.concat())
    }

    /// The condition that the start is not after `cutoff`, an SQL expression for an instant. It is built so that an
    /// index on the start column serves it: a stable expression on the other side, in the type of the column.
    pub fn started_by(&self, cutoff: &str) -> String {
        self.by(&self.started_column(), self.types.started_at, cutoff)
    }

    fn by(&self, column: &str, type_: TimeType, cutoff: &str) -> String {
        let zone = literal(&self.table.time_zone);
        match type_ {
            TimeType::Instant => format!("{column} <= ({cutoff})"),
            TimeType::Local if self.fixed_zone() => format!("{column} <= (({cutoff}) AT TIME ZONE {zone})"),
            // Where clocks are set back a later instant can have an earlier local time: the first half narrows by
            // index with more slack than any clock change, the second decides.
            TimeType::Local => format!(
                "({column} <= (({cutoff}) AT TIME ZONE {zone}) + interval '3 hours' AND {} <= ({cutoff}))",
                self.instant(column, type_)
            ),
        }
    }

    /// The condition that the job id `other` of another row is the row's. Only operators of Postgres itself are used.
    fn same_job(&self, other: &str) -> String {
        if self.types.jobs_comparable {
            format!("{other} = {}", self.job_id())
        } else {
            format!("{other}::text = {}::text", self.job_id())
        }
    }

    /// Whether the order of the start column is the order of the instants.
    pub fn starts_in_order(&self) -> bool {
        self.types.started_at == TimeType::Instant || self.fixed_zone()
    }

    /// The condition that an execution has ended well.
    pub fn completed(&self) -> String {
        self.status_in(&self.table.statuses.completed)
    }

    /// The condition that an execution has failed.
    pub fn failed(&self) -> String {
        self.status_in(&self.table.statuses.failed)
    }

    /// The condition that an execution was cancelled.
    pub fn cancelled(&self) -> String {
        self.status_in(&self.table.statuses.cancelled)
    }

    /// Whether an execution can be cancelled: the mapping has a text for it, and the column room.
    pub const fn can_cancel(&self) -> bool {
        self.types.can_cancel
    }

    /// The clause that locks the rows `t` that are to be ended, but for those that another transaction holds. It is the lock
    /// that the update takes itself. A stronger one would pass over rows that others only refer to, as a worker does that
    /// writes its log to a table with a foreign key, and would have those wait.
    pub const fn lock(&self) -> &'static str {
        if self.types.ends_keys {
            "FOR UPDATE OF t SKIP LOCKED"
        } else {
            "FOR NO KEY UPDATE OF t SKIP LOCKED"
        }
    }

    /// The assignments that end an execution at the database's now, failed or cancelled.
    pub fn end_assignments(&self, how: OnStale, explanation: &str) -> String {
        let columns = &self.table.columns;
        let now = match self.types.completed_at {
            TimeType::Instant => "statement_timestamp()".to_owned(),
            TimeType::Local => {
                format!("statement_timestamp() AT TIME ZONE {}", literal(&self.table.time_zone))
            }
        };
        let statuses = &self.table.statuses;
        let text = match how {
            OnStale::Cancel => statuses.cancelled.first().map_or("cancelled", |s| s.0.as_str()),
            _ => statuses.failed.first().map_or("failed", |s| s.0.as_str()),
        };
        let mut set = format!(
            "{} = {}, {} = {now}",
            quote(&columns.status.0),
            literal(text),
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
            (&s.paused, Phase::Paused),
            (&s.completed, Phase::Completed),
            (&s.failed, Phase::Failed),
            (&s.cancelled, Phase::Cancelled),
            (&s.ignored, Phase::Ignored),
        ]
        .into_iter()
        .find(|(texts, _)| texts.iter().any(|t| t.0 == status))
        .map_or(Phase::Unmapped, |(_, phase)| phase)
    }

    /// A column as an instant. Local times at the ends of what Postgres can hold have none in zones before or behind UTC, and
    /// asking for it is an error: they are taken for infinite.
    fn instant(&self, column: &str, type_: TimeType) -> String {
        let zone = literal(&self.table.time_zone);
        match type_ {
            TimeType::Instant => column.to_owned(),
            TimeType::Local if self.fixed_zone() => format!("({column} AT TIME ZONE {zone})"),
            TimeType::Local => format!(
                "CASE WHEN {column} > '294276-01-01' THEN 'infinity' WHEN {column} < '4712-01-01 BC' THEN '-infinity' \
                 ELSE {column} AT TIME ZONE {zone} END"
            ),
        }
    }

    fn fixed_zone(&self) -> bool {
        matches!(self.table.time_zone.as_str(), "UTC" | "Etc/UTC" | "GMT" | "Z")
    }

    /// The condition that a row has one of these statuses, and is one of the application's.
    fn status_in(&self, texts: &[StatusText]) -> String {
        filtered(condition(&self.status(), texts), &self.table, "t.")
    }

    /// The condition that a row is one of the application's executions: it passes `table.filter`. Without a filter all are.
    /// Conditions on statuses hold it already.
    pub fn exists(&self) -> String {
        filter(&self.table, "t.").unwrap_or_else(|| "true".to_owned())
    }

    /// Whether there may be rows that are no executions.
    pub fn has_filter(&self) -> bool {
        !self.table.filter.is_empty()
    }

    /// The same of the rows of an alias, to be put behind another condition.
    fn and_filter(&self, alias: &str) -> String {
        filter(&self.table, alias).map_or(String::new(), |filter| format!(" AND {filter}"))
    }

    /// The condition that a row runs or waits, also where it is not one of the application's at present.
    pub fn unfinished_anywhere(&self) -> String {
        let statuses = &self.table.statuses;
        condition(
            &self.status(),
            &[statuses.running.as_slice(), &statuses.scheduled, &statuses.paused].concat(),
        )
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

/// The condition that a row passes the filter of a table, if it has one. `alias` is put before the columns. Values are literals
/// of no type, which Postgres reads as the column's.
pub fn filter(table: &Table, alias: &str) -> Option<String> {
    let conditions: Vec<String> = table
        .filter
        .iter()
        .map(|condition| {
            let column = format!("{alias}{}", quote(&condition.column.0));
            match condition.test() {
                Some(Test::OneOf([one])) => format!("{column} = {}", literal(&one.0)),
                Some(Test::OneOf(values)) => {
                    let values: Vec<String> = values.iter().map(|value| literal(&value.0)).collect();
                    format!("{column} IN ({})", values.join(", "))
                }
                Some(Test::IsNull) => format!("{column} IS NULL"),
                Some(Test::NotNull) => format!("{column} IS NOT NULL"),
                // Refused when the store is opened.
                None => "false".to_owned(),
            }
        })
        .collect();
    (!conditions.is_empty()).then(|| conditions.join(" AND "))
}

/// A condition on a row, and that it passes the filter of the table.
pub fn filtered(condition: String, table: &Table, alias: &str) -> String {
    match filter(table, alias) {
        Some(filter) => format!("({condition} AND {filter})"),
        None => condition,
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

/// The first characters of the text of an SQL expression: enough to show, and no more than [`TEXT_CHARS`].
pub fn cut(expression: &str) -> String {
    format!("left({expression}::text, {TEXT_CHARS})")
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
