//! The translation of the names in a spec to SQL. Every identifier is quoted and every status text is an escaped literal. Both must
//! be part of the statement's text: Postgres cannot bind identifiers, and a bound status would miss the partial index under a
//! generic plan and would not compare with an enum.

mod end;
mod jobs;
mod layout;
mod paused;
mod retry;
mod row_timeout;
mod sql;
mod statuses;
mod successor;
mod times;
mod types;
mod workers;

pub(super) use self::sql::{column, in_schema};

pub use self::layout::{AdapterUse, Layout, RelatedTable};
pub(super) use self::layout::{Related, each_once, related};
pub(super) use self::retry::{NewRow, cleared, copied, written_anew};
pub use self::sql::{
    EXECUTION, ID_BYTES, RECORD_CHARS, TEXT_CHARS, clamp_timestamp, condition, cut, filter, filtered,
    literal, qualified, quote,
};
pub use self::types::{IdType, RelatedTypes, TimeType, Types};

/// The number of minutes by which the clocks of the writers of one row may differ. Times that are further apart contradict each
/// other.
pub const CLOCKS_MAY_DIFFER_MINUTES: u8 = 5;

/// A table of executions whose columns are known to exist, ready to be written into statements as alias `execution`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    layout: Layout,
    types: Types,
}

impl Mapping {
    /// Creates a mapping onto columns of these types.
    pub fn new(layout: Layout, types: Types) -> Self {
        // Where the names come from makes no difference to a statement.
        Self { layout: Layout { recorded: false, ..layout }, types }
    }

    /// Returns the tables that the spec names.
    pub(in crate::db) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the types of the mapped columns.
    pub(in crate::db) const fn types(&self) -> &Types {
        &self.types
    }

    /// Returns the table with its schema, quoted.
    pub fn table(&self) -> String {
        qualified(&self.layout.table)
    }

    /// Returns the schema and the name, unquoted, as in Postgres' catalog.
    pub fn relation(&self) -> (&str, &str) {
        (&self.layout.table.schema.0, &self.layout.table.name.0)
    }

    /// Returns the condition that the record `store_id` (a parameter) belongs to the table whose rows the statement reads: names
    /// may be swapped while an operator runs. Postgres evaluates it once for each statement. It is not true if the record is gone.
    pub fn of_record(&self, store_id: &str) -> String {
        format!(
            "(SELECT store.table_oid = {}::regclass FROM jobexec.stores AS store WHERE store.store_id = {store_id})",
            literal(&self.table())
        )
    }

    /// Returns the condition that rows may be ended now: the record `store_id`, if there is one, belongs to the table, and the
    /// triggers of the adapter, if there is one, are enabled. Without them the end of an execution would be another than the job
    /// system's. Postgres evaluates it once for each statement.
    pub fn may_end(&self, store_id: Option<&str>) -> Option<String> {
        let of_record = store_id.map(|store_id| self.of_record(store_id));
        let complete = self.layout.adapter.as_ref().and_then(|used| used.adapter).map(|adapter| {
            let triggers: Vec<String> = adapter
                .created
                .iter()
                .filter_map(|object| {
                    let (on_table, function) = object.trigger.as_ref()?;
                    Some(format!("({}, {}, {})", literal(&object.name), literal(on_table), literal(function)))
                })
                .collect();
            format!(
                include_str!("enabled_triggers.sql"),
                schema = literal(&self.layout.table.schema.0),
                triggers = triggers.join(", "),
                count = triggers.len(),
            )
        });
        let both: Vec<String> = of_record.into_iter().chain(complete).collect();
        (!both.is_empty()).then(|| both.join(" AND "))
    }

    /// Returns the additional permitted owner of the operator's schema.
    pub fn schema_owner(&self) -> Option<&str> {
        self.layout.schema_owner.as_deref()
    }

    /// Returns the type of the ids.
    pub const fn id_type(&self) -> IdType {
        self.types.id
    }

    /// Returns the id column.
    pub fn id(&self) -> String {
        column(&self.layout.table.columns.id)
    }

    /// Returns the execution's number; NULL if executions have none.
    pub fn number(&self) -> String {
        self.layout.table.columns.execution_number.as_ref().map_or("NULL::bigint".to_owned(), column)
    }

    /// Returns an expression for the version of a row, which changes with every write to the row, for example by a worker that
    /// claims it for another run. `None`: this login may not read it. NULL: the row has no version, as in a foreign table that
    /// inherits from this one, where every write leaves `xmin` at 0.
    pub const fn version(&self) -> Option<&'static str> {
        if self.types.versions { Some("NULLIF(execution.xmin::text, '0')") } else { None }
    }

    /// Returns the workload of a row as `Kind/name`, if it is mapped.
    pub fn workload(&self) -> Option<String> {
        let workload = format!("{}::text", column(self.layout.table.columns.workload.as_ref()?));
        Some(format!(
            "CASE WHEN strpos({workload}, '/') > 0 THEN {workload} ELSE 'Job/' || NULLIF({workload}, '') END"
        ))
    }

    /// Returns the address of the owner of a row; NULL if it is not mapped. A text longer than any address counts as none:
    /// truncated, it would be somebody else's address.
    pub fn owner(&self) -> String {
        let Some(owner) = self.layout.table.columns.owner.as_ref() else { return "NULL::text".to_owned() };
        let owner = format!("btrim({}::text)", column(owner));
        format!("CASE WHEN length({owner}) <= {TEXT_CHARS} THEN NULLIF({owner}, '') END")
    }
}
