//! The job of a row, and the table of jobs as alias `job`.

use super::Mapping;
use super::layout::RelatedTable;
use super::sql::{EXECUTION, column, condition, cut, literal, quote};
use super::types::IdType;

impl Mapping {
    /// Returns the job id column.
    pub fn job_id(&self) -> String {
        column(&self.layout.table.columns.job_id)
    }

    /// Returns the job id for output: its text, truncated.
    pub fn job_shown(&self) -> String {
        cut(&self.job_id())
    }

    /// Returns the job type for output: its text, truncated.
    pub fn type_shown(&self) -> String {
        cut(&self.job_type())
    }

    /// Returns the job id in the form in which it is compared with the key of a rule, and the SQL type of that.
    pub fn job_key(&self) -> (String, &'static str) {
        match self.types.job_id {
            Some(type_) => (self.job_id(), type_.sql()),
            None => (format!("{}::text", self.job_id()), "text"),
        }
    }

    /// Returns the type of job ids, if it is one of the types of ids.
    pub const fn job_id_type(&self) -> Option<IdType> {
        self.types.job_id
    }

    /// Reports whether an index on running executions begins with the job id.
    pub const fn indexed_by_job(&self) -> bool {
        self.types.indexed_by_job
    }

    /// Reports whether an index on running executions begins with the job type.
    pub const fn indexed_by_type(&self) -> bool {
        self.types.indexed_by_type
    }

    /// Reports whether job types are known.
    pub fn knows_types(&self) -> bool {
        self.layout.table.columns.job_type.is_some()
            || self.layout.jobs.as_ref().is_some_and(|j| j.columns.type_.is_some())
    }

    /// Returns the job type of a row as text; NULL if it is unknown.
    pub fn job_type(&self) -> String {
        match (&self.layout.table.columns.job_type, &self.layout.jobs) {
            (Some(type_), _) if self.types.job_type_is_text => column(type_),
            (Some(type_), _) => format!("{}::text", column(type_)),
            (None, Some(jobs)) if jobs.columns.type_.is_some() => {
                format!("(SELECT {} FROM {} WHERE {})", self.jobs_type(), self.jobs_table(), self.of_job())
            }
            _ => "NULL::text".to_owned(),
        }
    }

    /// Reports whether the job type is a column of the executions themselves.
    pub fn has_type_column(&self) -> bool {
        self.layout.table.columns.job_type.is_some()
    }

    /// Returns the table of jobs as alias `job`, if one is mapped.
    pub fn jobs_table(&self) -> String {
        self.jobs_as("job")
    }

    fn jobs_as(&self, alias: &str) -> String {
        self.layout.jobs.as_ref().map_or(String::new(), |jobs| {
            format!("{}.{} AS {alias}", quote(&jobs.schema.0), quote(&jobs.name.0))
        })
    }

    /// Returns the type of a job as text.
    pub fn jobs_type(&self) -> String {
        let type_ = self.layout.jobs.as_ref().and_then(|jobs| jobs.columns.type_.as_ref());
        type_.map_or("NULL::text".to_owned(), |type_| format!("job.{}::text", quote(&type_.0)))
    }

    /// Returns the condition that a job belongs to a row.
    pub fn of_job(&self) -> String {
        self.of_job_as("job.", EXECUTION)
    }

    /// Returns the condition that a job belongs to a row, with these prefixes of their columns.
    fn of_job_as(&self, job: &str, row: &str) -> String {
        let id = self
            .layout
            .jobs
            .as_ref()
            .map_or(String::new(), |jobs| format!("{job}{}", quote(&jobs.columns.id.0)));
        let job_id = format!("{row}{}", quote(&self.layout.table.columns.job_id.0));
        if self.types.of(RelatedTable::Jobs).alike {
            format!("{id} = {job_id}")
        } else {
            format!("{id}::text = {job_id}::text")
        }
    }

    /// Returns the condition that a job is finished, and how long it must be seen finished.
    pub fn job_finished(&self) -> Option<(String, chrono::TimeDelta)> {
        Some((self.finished_as("job.")?, self.layout.jobs.as_ref()?.grace_period.to_chrono()))
    }

    /// Returns the condition that a job is finished, with this prefix of its columns.
    fn finished_as(&self, job: &str) -> Option<String> {
        let jobs = self.layout.jobs.as_ref()?;
        Some(condition(&format!("{job}{}", quote(&jobs.columns.status.0)), &jobs.finished))
    }

    /// Returns when a job finished as an instant, if that is mapped.
    pub fn job_finished_at(&self) -> Option<String> {
        let finished_at = self.layout.jobs.as_ref()?.columns.finished_at.as_ref()?;
        Some(self.instant(&format!("job.{}", quote(&finished_at.0)), self.types.of(RelatedTable::Jobs).time?))
    }

    /// Returns an SQL expression for a short text that changes with the condition for a finished job. It is stored, so it depends on
    /// the mapping alone: another name of an alias in statements must not void what was observed before.
    pub fn job_finished_digest(&self) -> String {
        let finished = self.finished_as("p.").unwrap_or_default();
        let all = format!("{} {} {finished}", self.jobs_as("p"), self.of_job_as("p.", "t."));
        format!("hashtextextended({}, 0)::text", literal(&all))
    }

    /// Returns the condition that the job id `other` of another row is the row's. It uses only operators of Postgres itself.
    pub(super) fn same_job(&self, other: &str) -> String {
        if self.types.jobs_comparable {
            format!("{other} = {}", self.job_id())
        } else {
            format!("{other}::text = {}::text", self.job_id())
        }
    }
}
