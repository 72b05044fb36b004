//! How the table has an execution run again.

use super::sql::{column, condition, literal, quote};
use super::{Layout, Mapping, each_once};
use crate::api::identifier::Identifier;
use crate::api::retry::RetryMethod;

/// The row that retries another one.
pub(in crate::db) struct NewRow {
    /// What it needs of the row `execution` that it retries, as columns: `copy_0` and so on, and `job_key`, which is compared.
    pub(in crate::db) copies: String,
    /// Its columns, quoted.
    pub(in crate::db) columns: String,
    /// Their values, over the row `numbered`, which has the copies.
    pub(in crate::db) values: String,
    /// The text by which the new row as `created` is found again, and the same for the row `numbered`.
    pub(in crate::db) created_key: String,
    pub(in crate::db) numbered_key: &'static str,
    /// The query for the highest number of each job in `wanted`.
    pub(in crate::db) latest: String,
}

impl Mapping {
    /// Returns how the table has an execution run again, if it does.
    pub fn retry_method(&self) -> Option<RetryMethod> {
        self.layout.table.retry.as_ref().map(|retry| retry.method)
    }

    /// Reports whether the operator itself has executions run again, which needs a record.
    pub fn retries_by_operator(&self) -> bool {
        matches!(self.retry_method(), Some(RetryMethod::InPlace | RetryMethod::NewExecution))
    }

    /// Reports whether a row says when it may start, so that the next attempt can be written before it is due.
    pub fn has_schedule(&self) -> bool {
        self.layout.table.columns.scheduled_at.is_some()
    }

    /// Returns the number of the attempt that a row itself has; NULL if that is not mapped.
    pub fn attempt(&self) -> String {
        self.layout.table.columns.attempt.as_ref().map_or("NULL::bigint".to_owned(), column)
    }

    /// Returns the number of the attempt that counts, of the row's `own` and the one by the records. Where a row is used for one run
    /// after the other, only the row itself knows of a success in between.
    pub(in crate::db) fn counted_attempt(&self, own: &str, recorded: &str) -> String {
        match self.retry_method() {
            Some(RetryMethod::InPlace) => format!("COALESCE({own}, {recorded})"),
            _ => format!("GREATEST({own}, {recorded})"),
        }
    }

    /// Returns the assignments that set a row back, so that it starts again at `due_at` (an instant). Its error is assigned apart.
    pub fn retry_assignments(&self, due_at: &str) -> String {
        let c = &self.layout.table.columns;
        let mut set = vec![
            format!("{} = {}", quote(&c.status.0), self.scheduled_text()),
            format!("{} = NULL", quote(&c.completed_at.0)),
        ];
        set.extend(cleared(&self.layout).into_iter().map(|name| format!("{} = NULL", quote(&name.0))));
        if let Some(name) = &c.paused_seconds {
            set.push(format!("{} = 0", quote(&name.0)));
        }
        if let Some((name, type_)) = c.scheduled_at.as_ref().zip(self.types.scheduled_at) {
            set.push(format!("{} = {}", quote(&name.0), self.stored(due_at, type_)));
        }
        if let Some(name) = &c.attempt {
            set.push(format!("{} = COALESCE({}, 0) + 1", quote(&name.0), column(name)));
        }
        set.join(", ")
    }

    /// Returns the row that retries another one.
    pub(in crate::db) fn new_row(&self) -> NewRow {
        let c = &self.layout.table.columns;
        let mut row: Vec<(&Identifier, String)> = vec![(&c.status, self.scheduled_text())];
        if let Some(number) = &c.execution_number {
            row.push((number, "numbered.next_number".to_owned()));
        }
        if let Some((name, type_)) = c.scheduled_at.as_ref().zip(self.types.scheduled_at) {
            row.push((name, self.stored("numbered.due_at", type_)));
        }
        if let Some(name) = &c.attempt {
            row.push((name, "numbered.next_attempt".to_owned()));
        }
        if let Some(name) = &c.retry_of {
            row.push((name, "numbered.id".to_owned()));
        }
        if let Some((name, type_)) = c.created_at.as_ref().zip(self.types.created_at) {
            row.push((name, self.stored("statement_timestamp()", type_)));
        }
        let mut copies = vec![format!("{} AS job_key", self.job_key().0)];
        let copied: Vec<&Identifier> = copied(&self.layout)
            .into_iter()
            .filter(|name| row.iter().all(|(other, _)| other != name))
            .collect();
        for (n, name) in copied.into_iter().enumerate() {
            copies.push(format!("{} AS copy_{n}", column(name)));
            row.push((name, format!("numbered.copy_{n}")));
        }
        let (columns, values): (Vec<_>, Vec<_>) =
            row.into_iter().map(|(name, value)| (quote(&name.0), value)).unzip();
        let (created_key, numbered_key) = self.found_again();
        NewRow {
            copies: copies.join(", "),
            columns: columns.join(", "),
            values: values.join(", "),
            created_key,
            numbered_key,
            latest: self.latest(),
        }
    }

    /// Returns the text by which a new row as `created` is found again, and the same for `numbered`.
    fn found_again(&self) -> (String, &'static str) {
        let c = &self.layout.table.columns;
        let created = |name: &Identifier| format!("created.{}", quote(&name.0));
        match (&c.retry_of, &c.execution_number) {
            (Some(retry_of), _) => (format!("{}::text", created(retry_of)), "numbered.id::text"),
            (None, Some(number)) => (
                format!("jsonb_build_array({}::text, {})::text", created(&c.job_id), created(number)),
                "jsonb_build_array(numbered.job_key::text, numbered.next_number)::text",
            ),
            // A problem that keeps retries waiting.
            (None, None) => ("NULL::text".to_owned(), "''"),
        }
    }

    /// Returns the query for the highest number of each job in `wanted`: by an index on the job, if there is one.
    fn latest(&self) -> String {
        let (table, number, (job, _)) = (self.table(), self.number(), self.job_key());
        if self.types.job_leads && self.types.job_id.is_some() {
            format!(
                "SELECT one.job_key AS job, (SELECT max({number}) FROM {table} AS execution WHERE {job} = one.job_key) AS number \
                 FROM (SELECT DISTINCT job_key FROM wanted) AS one"
            )
        } else {
            format!(
                "SELECT {job} AS job, max({number}) AS number FROM {table} AS execution \
                 WHERE {job} IN (SELECT job_key FROM wanted) GROUP BY {job}"
            )
        }
    }

    /// Returns the id of a new row as alias `created`.
    pub(in crate::db) fn created_id(&self) -> String {
        format!("created.{}", quote(&self.layout.table.columns.id.0))
    }

    /// Returns the condition that another execution of the job of the row `execution` waits, runs or is paused.
    pub(in crate::db) fn has_active_sibling(&self) -> String {
        let (c, statuses) = (&self.layout.table.columns, &self.layout.table.statuses);
        let other = |name: &Identifier| format!("other.{}", quote(&name.0));
        let active = [statuses.scheduled.as_slice(), &statuses.running, &statuses.paused].concat();
        format!(
            "EXISTS (SELECT FROM {} AS other WHERE {}{} AND {})",
            self.table(),
            self.same_job(&other(&c.job_id)),
            self.and_filter("other."),
            condition(&other(&c.status), &active),
        )
    }

    fn scheduled_text(&self) -> String {
        // A mapping without one is a problem that keeps retries waiting.
        literal(self.layout.table.statuses.scheduled.first().map_or("scheduled", |text| text.0.as_str()))
    }
}

/// Returns the columns that are cleared when a row is set back, beside its end.
pub(in crate::db) fn cleared(layout: &Layout) -> Vec<&Identifier> {
    let c = &layout.table.columns;
    [Some(&c.started_at), c.heartbeat_at.as_ref(), c.workload.as_ref(), c.worker.as_ref()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the columns that the operator writes to a row that retries another one, beside its status.
pub(in crate::db) fn written_anew(layout: &Layout) -> Vec<&Identifier> {
    let c = &layout.table.columns;
    [&c.execution_number, &c.scheduled_at, &c.attempt, &c.retry_of, &c.created_at]
        .into_iter()
        .filter_map(Option::as_ref)
        .collect()
}

/// Returns the columns whose values a row that retries another one gets from it.
pub(in crate::db) fn copied(layout: &Layout) -> Vec<&Identifier> {
    let c = &layout.table.columns;
    let own = [
        Some(&c.job_id),
        c.job_type.as_ref(),
        c.owner.as_ref(),
        c.checkpoint.as_ref(),
        c.checkpoint_at.as_ref(),
    ]
    .into_iter()
    .flatten();
    let filtered = layout.table.filter.iter().map(|condition| &condition.column);
    let named = layout.table.retry.iter().flat_map(|retry| &retry.copy_columns);
    each_once(own.chain(filtered).chain(named))
}
