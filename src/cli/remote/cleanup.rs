//! Clean-ups by the operator.

use std::ops::ControlFlow;

use super::{Remote, RemoteError};
use crate::cli::queries::CleanupRequest;
use crate::cli::{CliError, output};
use crate::db::cleanup::{Report, Row};
use crate::http::types::{self, BODY_LIMIT, CleanUp, MAX_IDS};

const PATH: &str = "/api/system/cleanup/stale-executions";

impl Remote {
    /// Makes the operator clean up, or report what that would do, and passes the rows to `on_page`. Many ids take several
    /// requests; `on_page` may stop in between.
    pub(crate) async fn clean_up(
        &mut self,
        request: &CleanupRequest,
        mut on_page: impl FnMut(&[Row]) -> ControlFlow<()>,
    ) -> Result<Report, CliError> {
        let mut report = Report { dry_run: request.dry_run, ..Report::default() };
        for ids in chunks(&request.ids) {
            let part = self.ask(request, ids).await?;
            // The totals include executions that the response does not list.
            report.cleaned += part.cleaned;
            report.skipped += part.skipped;
            let rows: Vec<Row> = part.executions.into_iter().map(Row::from).collect();
            let mut counted = Report::default();
            for row in &rows {
                counted.count(row);
            }
            report.not_found += counted.not_found;
            let broken = !rows.is_empty() && on_page(&rows).is_break();
            if let Some(problem) = part.unavailable.into_iter().next() {
                return Err(CliError::NotDone(problem.detail));
            }
            if part.omitted > 0 {
                let more = output::count(part.omitted, "more execution");
                output::eprint(&format!(
                    "jobexec: {more} not printed, because the API lists only the first {MAX_IDS}"
                ));
            }
            if broken {
                break;
            }
        }
        Ok(report)
    }

    async fn ask(&mut self, request: &CleanupRequest, ids: &[String]) -> Result<types::Report, RemoteError> {
        let body = CleanUp {
            max_hours: request.max_hours,
            older_than: request.older_than.clone(),
            ids: (!ids.is_empty()).then(|| ids.to_vec()),
            dry_run: Some(request.dry_run),
            store: Some(self.store.clone()),
            include_governed: request.include_governed.then_some(true),
            reason: request.suspicion,
        };
        self.client.post(PATH, &body).await.map_err(|error| error.of_request(request.dry_run))
    }
}

/// Splits ids into chunks that the API accepts; one empty chunk if there are none.
fn chunks(ids: &[String]) -> Vec<&[String]> {
    if ids.is_empty() {
        return vec![ids];
    }
    // A byte may take six in JSON; a quarter of the limit is left for the rest of the body.
    let bytes = |id: &String| id.len() * 6 + 3;
    let (mut chunks, mut begin, mut size) = (Vec::new(), 0, 0);
    for (place, id) in ids.iter().enumerate() {
        if place > begin && (place - begin == MAX_IDS || size + bytes(id) > BODY_LIMIT / 4 * 3) {
            chunks.push(&ids[begin..place]);
            (begin, size) = (place, 0);
        }
        size += bytes(id);
    }
    chunks.push(&ids[begin..]);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ids_are_several_requests() {
        let sizes = |ids: &[String]| chunks(ids).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0]);
        let numbers: Vec<String> = (0..2_500).map(|n| n.to_string()).collect();
        assert_eq!(sizes(&numbers), [1_000, 1_000, 500]);
        assert_eq!(chunks(&numbers).concat(), numbers);
        let long = vec!["x".repeat(5_000); 3];
        assert_eq!(sizes(&long), [1, 1, 1]);
        assert_eq!(sizes(&["x".repeat(100_000)]), [1], "the API says that it is too long");
    }
}
