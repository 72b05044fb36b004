//! Retries by the operator.

use std::collections::BTreeSet;

use super::{Remote, RemoteError};
use crate::cli::CliError;
use crate::cli::queries::RetryRequest;
use crate::db::cleanup::Skipped;
use crate::db::retry::{Row, Which};
use crate::http::types::RequestedRetry;

impl Remote {
    /// Makes the operator record retries, or report what they would be, one after the other.
    pub(crate) async fn retry(&mut self, request: &RetryRequest) -> Result<Vec<Row>, CliError> {
        let Which::Ids(ids) = &request.which else {
            return Err(CliError::Usage(
                "--reason needs access to the database: give --database-url instead of --store, or name the ids"
                    .to_owned(),
            ));
        };
        if !request.over.is_zero() {
            return Err(CliError::Usage(
                "--over needs access to the database: give --database-url instead of --store".to_owned(),
            ));
        }
        let query = [("now", request.now.to_string()), ("dry_run", request.dry_run.to_string())];
        let mut rows = Vec::with_capacity(ids.len());
        let mut asked = BTreeSet::new();
        for id in ids.iter().filter(|id| asked.insert(*id)) {
            let path = self.execution_path(id, "retry");
            rows.push(match self.client.post_query::<RequestedRetry>(&path, &query).await {
                Ok(retry) => retry.into(),
                Err(RemoteError::Problem(problem)) if is_of_execution(&problem.reason) => {
                    Row::skipped(id, Skipped { reason: problem.reason.into(), message: problem.detail })
                }
                Err(error) => return Err(error.of_request(request.dry_run).into()),
            });
        }
        Ok(rows)
    }
}

/// Reports whether other executions may be retried nevertheless.
fn is_of_execution(reason: &str) -> bool {
    matches!(reason, "NotRetried" | "ExecutionNotFound" | "InvalidExecutionId")
}
