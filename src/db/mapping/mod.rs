//! From the names in a spec to SQL. Every identifier is quoted and every status text is an escaped literal: both
//! must stand in the text of a statement, the first because Postgres cannot bind them, the second because a bound
//! status would miss the partial index under a generic plan and would not compare with an enum.

mod end;
mod jobs;
mod layout;
mod paused;
mod sql;
mod statuses;
mod successor;
mod times;
mod types;

use self::sql::column;
use crate::api::Table;
use crate::api::table::Jobs;

pub use self::layout::Layout;
pub use self::sql::{
    ID_BYTES, RECORD_CHARS, TEXT_CHARS, condition, cut, filter, filtered, literal, qualified, quote, wire,
};
pub use self::types::{IdType, TimeType, Types};

/// By how much the clocks of those who write one row may differ. What is further apart contradicts itself.
pub const CLOCKS_MAY_DIFFER_MINUTES: u8 = 5;

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

    /// The column of the execution's number.
    pub fn number(&self) -> String {
        column(&self.table.columns.execution_number)
    }

    /// What is another text once anybody has written the row, as who claims it for another run does; `None`: this login may not
    /// read it. NULL: the row has none, as in a foreign table that inherits from this one, where `xmin` is 0 whoever
    /// writes it.
    pub const fn version(&self) -> Option<&'static str> {
        if self.types.versions { Some("NULLIF(t.xmin::text, '0')") } else { None }
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
}
