//! Tries what the operator would do to a table, without doing it: finds rows by their start, and ends one in a transaction that is
//! rolled back.

use std::fmt;

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::api::OnStale;
use crate::api::retry::RetryMethod;
use crate::db::connect::LOGIN_PATH;
use crate::db::ending::Ending;
use crate::db::sweep::announced;
use crate::db::{Database, DbError, Mapping};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be.
    Good(String),
    /// It has to be mended.
    Bad(String),
    /// It could not be tried.
    NotTried(String),
}

/// The form for a list of checks.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(what) => write!(f, "ok          {what}"),
            Self::Bad(what) => write!(f, "FAILED      {what}"),
            Self::NotTried(what) => write!(f, "NOT TESTED  {what}"),
        }
    }
}

/// Tries the table of a mapping. It writes nothing, but locks a running execution for a moment.
///
/// # Errors
/// Those of the database, except an error of the trial itself, which is a finding.
pub async fn rehearse(database: &Database, mapping: &Mapping) -> Result<Vec<Finding>, DbError> {
    let mut findings = vec![by_index(database, mapping).await?];
    let actions = [
        (OnStale::Fail, true),
        (OnStale::Cancel, mapping.can_cancel()),
        (OnStale::Retry, mapping.retry_method() == Some(RetryMethod::Trigger)),
    ];
    for (action, _) in actions.into_iter().filter(|(_, possible)| *possible) {
        findings.push(ended(database, mapping, action).await?);
    }
    Ok(findings)
}

/// Checks that an index finds running executions in the order of their start. Without scans of whole tables the plan shows whether
/// there is one, however small the tables are.
async fn by_index(database: &Database, m: &Mapping) -> Result<Finding, DbError> {
    let sql = format!(
        "EXPLAIN (FORMAT JSON) SELECT {id} FROM {table} AS execution WHERE {running} AND {start} IS NOT NULL ORDER BY {start} LIMIT 100",
        id = m.id(),
        table = m.table(),
        running = m.running(),
        start = m.started_column(),
    );
    let mut tx = database.read().await?;
    sqlx::raw_sql("SET LOCAL enable_seqscan = off").execute(&mut *tx).await?;
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
    tx.rollback().await?;
    Ok(match whole(&plan) {
        None => Finding::Good("an index finds running executions in the order of their start".to_owned()),
        Some(node) => Finding::Bad(format!(
            "no index finds running executions in the order of their start ({node}): create one on the start, for rows that run"
        )),
    })
}

/// Returns the first part of a plan that reads a whole table or sorts.
fn whole(plan: &Value) -> Option<String> {
    match plan {
        Value::Object(node) => {
            let kind = node.get("Node Type").and_then(Value::as_str).unwrap_or_default();
            if kind.contains("Seq Scan") || kind == "Sort" {
                let relation = node.get("Relation Name").and_then(Value::as_str).unwrap_or_default();
                return Some(format!("{kind} {relation}").trim_end().to_owned());
            }
            node.values().find_map(whole)
        }
        Value::Array(nodes) => nodes.iter().find_map(whole),
        _ => None,
    }
}

/// Ends an execution, and undoes it.
async fn ended(database: &Database, m: &Mapping, action: OnStale) -> Result<Finding, DbError> {
    let sql = format!(
        include_str!("rehearse.sql"),
        id = m.id(),
        table = m.table(),
        running = m.running(),
        start = m.started_column(),
        lock = m.lock(),
        assignments = m.end_assignments(action, "Rehearsal: rolled back by jobexec adapter check"),
        ending = m.ending(),
        login_path = LOGIN_PATH,
        action = announced(action),
    );
    let name = action.as_str();
    let mut tx = database.write().await?;
    let tried: Result<Option<(String, bool, Option<String>)>, _> =
        sqlx::query_as(AssertSqlSafe(sql)).persistent(false).fetch_optional(&mut *tx).await;
    // A commit would run what is deferred until then.
    let deferred = match &tried {
        Ok(Some(_)) => sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *tx).await.map(drop),
        _ => Ok(()),
    };
    tx.rollback().await?;
    let tried = deferred.and(tried);
    Ok(match tried.map_err(DbError::from) {
        Err(error) if error.answered() => Finding::Bad(format!("{name}: {error}")),
        Err(error) => return Err(error),
        Ok(None) => Finding::NotTried(format!("{name}: no execution runs that nobody locks")),
        Ok(Some((id, false, _))) => {
            Finding::Bad(format!("{name}: a trigger leaves the execution {id} unchanged"))
        }
        Ok(Some((id, true, None))) if action == OnStale::Cancel => {
            Finding::Good(format!("{name}: the worker of execution {id} would be asked to stop"))
        }
        Ok(Some((id, true, None))) => Finding::Bad(format!("{name}: the execution {id} keeps running")),
        Ok(Some((id, true, Some(ending)))) => {
            let done = Ending::parse(&ending).map_or("completed", Ending::word);
            Finding::Good(format!("{name}: the execution {id} would be {done}"))
        }
    })
}
