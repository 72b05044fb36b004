//! Whether the operator can have executions run again. A reason why it cannot is no reason not to end them.

use super::problem::Problem;
use super::rights::{grant, lacks};
use super::types::fits;
use crate::api::identifier::Identifier;
use crate::api::retry::RetryMethod;
use crate::db::Layout;
use crate::db::catalog::{Column, Relation};
use crate::db::columns::{insert_columns, retry_columns};
use crate::db::mapping::{cleared, copied, qualified, quote, written_anew};

/// Columns, whether the login has a right on one, its name, and what it is for.
type Right<'a> = (Vec<&'a Identifier>, fn(&Column) -> bool, &'static str, &'static str);

/// Returns the first reason why the operator can retry no execution, if the table has it do so.
pub(super) fn problem(layout: &Layout, executions: &Relation, role: &str) -> Option<Problem> {
    let method = layout.table.retry.as_ref()?.method;
    if method == RetryMethod::Trigger {
        return None;
    }
    let why = of_statuses(layout, executions).or_else(|| match method {
        RetryMethod::InPlace => of_set_back(layout, executions),
        RetryMethod::NewExecution => of_new_rows(layout, executions),
        RetryMethod::Trigger => None,
    });
    if let Some(why) = why {
        return Some(Problem::Unretryable(why));
    }
    let rights: [Right<'_>; 3] = [
        (retry_columns(layout), |column| column.update, "UPDATE", "UPDATE the columns of a retry"),
        (insert_columns(layout), |column| column.insert, "INSERT", "INSERT the row of a retry"),
        (insert_columns(layout), |column| column.select, "SELECT", "SELECT the columns that a retry copies"),
    ];
    let table = qualified(&layout.table);
    let (columns, _, right, what) =
        rights.into_iter().find(|(columns, has, ..)| lacks(executions, columns, *has))?;
    let fix = grant(right, &columns, &table, role);
    Some(Problem::Privilege { role: role.to_owned(), what, table, fix })
}

fn of_statuses(layout: &Layout, executions: &Relation) -> Option<String> {
    let statuses = &layout.table.statuses;
    let Some(text) = statuses.scheduled.first() else {
        return Some(
            "spec.table.statuses.scheduled is empty, so that there is no status for them".to_owned(),
        );
    };
    let status = executions.columns.get(&layout.table.columns.status.0)?;
    (!fits(status, text)).then(|| {
        format!(
            "the column {} is too short for {:?} of spec.table.statuses.scheduled",
            quote(&status.name),
            text.0
        )
    })
}

/// Returns why a row cannot be set back: a column that is to be cleared may not be NULL.
fn of_set_back(layout: &Layout, executions: &Relation) -> Option<String> {
    let cleared = cleared(layout).into_iter().chain([&layout.table.columns.completed_at]);
    let required = cleared
        .into_iter()
        .find(|name| executions.columns.get(&name.0).is_some_and(|column| column.required))?;
    Some(format!(
        "the column {} is NOT NULL, so that it cannot be cleared: run ALTER TABLE {} ALTER {} DROP NOT NULL, or set \
         spec.table.retry.method to NewExecution",
        quote(&required.0),
        qualified(&layout.table),
        quote(&required.0)
    ))
}

/// Returns why a row cannot be inserted.
fn of_new_rows(layout: &Layout, executions: &Relation) -> Option<String> {
    let c = &layout.table.columns;
    if c.execution_number.is_none() && c.retry_of.is_none() {
        return Some(
            "a new row is found by spec.table.columns.executionNumber or retryOf: set one of them".to_owned(),
        );
    }
    of_written(layout, executions)
        .or_else(|| of_copied(layout, executions))
        .or_else(|| of_others(layout, executions))
}

/// Returns why the operator cannot write its own columns of a new row.
fn of_written(layout: &Layout, executions: &Relation) -> Option<String> {
    let mut new = written_anew(layout);
    let computed =
        new.iter().find(|name| executions.columns.get(&name.0).is_some_and(|column| column.generated));
    if let Some(computed) = computed {
        let named = quote(&computed.0);
        return Some(format!("the column {named} is generated, so that the operator cannot write it"));
    }
    new.sort_by(|a, b| a.0.cmp(&b.0));
    let twice = new.windows(2).find(|two| two[0] == two[1])?;
    let named = quote(&twice[0].0);
    Some(format!("spec.table.columns names the column {named} twice, and a new row needs one for each"))
}

/// Returns why columns cannot be copied to a new row.
fn of_copied(layout: &Layout, executions: &Relation) -> Option<String> {
    let (c, table) = (&layout.table.columns, qualified(&layout.table));
    let optional = [c.error.as_ref(), c.heartbeat_at.as_ref()];
    let own: Vec<&Identifier> = [&c.id, &c.status, &c.started_at, &c.completed_at]
        .into_iter()
        .chain(optional.into_iter().flatten())
        .collect();
    copied(layout).into_iter().find_map(|name| {
        let named = quote(&name.0);
        let named_there = layout.table.retry.iter().any(|retry| retry.copy_columns.contains(name));
        let out = if named_there {
            "take it out of spec.table.retry.copyColumns"
        } else {
            "name another one in spec.table.columns"
        };
        match executions.columns.get(&name.0) {
            None => Some(format!("{table} has no column {named}: correct spec.table.retry.copyColumns")),
            Some(column) if column.generated => {
                Some(format!("the column {named} is generated, so that it cannot be copied: {out}"))
            }
            Some(_) if own.contains(&name) => Some(format!(
                "the operator or the worker writes the column {named}, so that it cannot be copied: {out}"
            )),
            Some(_) => None,
        }
    })
}

/// Returns why a new row lacks something. Only Postgres knows which values a view gives to a new row.
fn of_others(layout: &Layout, executions: &Relation) -> Option<String> {
    let given = insert_columns(layout);
    let missing = |name: &str| given.iter().all(|given| given.0 != name);
    let required = executions
        .columns
        .values()
        .filter(|_| !executions.is_view())
        .find(|column| column.required && !column.has_default && missing(&column.name))?;
    let named = quote(&required.name);
    Some(if layout.table.columns.id.0 == required.name {
        format!(
            "the column {named} has no default, so that a new row gets no id: give it one, for example an identity"
        )
    } else {
        format!(
            "the column {named} is NOT NULL and has no default, so that a new row needs a value for it: name it in \
             spec.table.retry.copyColumns"
        )
    })
}
