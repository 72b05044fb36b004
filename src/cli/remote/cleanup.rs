//! A clean-up by the operator.

use std::ops::ControlFlow;

use super::{Remote, RemoteError};
use crate::cli::cleanup::Order;
use crate::cli::{CliError, output};
use crate::db::cleanup::{Report, Row};
use crate::http::wire::{self, BODY_LIMIT, CleanUp, IDS};

const PATH: &str = "/api/system/cleanup/stale-executions";

impl Remote {
    /// Has the operator clean up, or say what that would do, and hands the rows to `told`. Many ids are several
    /// requests, between which it may say to break off.
    pub(crate) async fn clean_up(
        &mut self,
        order: &Order,
        mut told: impl FnMut(&[Row]) -> ControlFlow<()>,
    ) -> Result<Report, CliError> {
        let mut report = Report { dry_run: order.dry_run, ..Report::default() };
        for ids in portions(&order.ids) {
            let part = self.ask(order, ids).await?;
            // What was asked of those that are not told of is known, too.
            report.cleaned += part.cleaned;
            report.skipped += part.skipped;
            let rows: Vec<Row> = part.executions.into_iter().map(Row::from).collect();
            let mut counted = Report::default();
            for row in &rows {
                counted.count(row);
            }
            report.not_found += counted.not_found;
            let broken = !rows.is_empty() && told(&rows).is_break();
            if let Some(problem) = part.unavailable.into_iter().next() {
                return Err(CliError::NotDone(problem.detail));
            }
            if part.omitted > 0 {
                let more = output::count(part.omitted, "more execution");
                output::say(&format!(
                    "jobexec: {more} not printed, since the API tells of the first {IDS} only"
                ));
            }
            if broken {
                break;
            }
        }
        Ok(report)
    }

    async fn ask(&mut self, order: &Order, ids: &[String]) -> Result<wire::Report, RemoteError> {
        let wanted = CleanUp {
            max_hours: order.max_hours,
            older_than: order.older_than.clone(),
            ids: (!ids.is_empty()).then(|| ids.to_vec()),
            dry_run: Some(order.dry_run),
            store: Some(self.store.clone()),
            include_governed: order.include_governed.then_some(true),
            reason: order.suspicion,
        };
        self.client.post(PATH, &wanted).await.map_err(|error| match error {
            // A dry run does nothing that could go on.
            RemoteError::Unknown(error) if order.dry_run => *error,
            error => error,
        })
    }
}

/// The ids in portions that the API takes; one empty portion where there are none.
fn portions(ids: &[String]) -> Vec<&[String]> {
    if ids.is_empty() {
        return vec![ids];
    }
    // A byte may be six in JSON, and a quarter is left for the rest.
    let bytes = |id: &String| id.len() * 6 + 3;
    let (mut portions, mut begin, mut size) = (Vec::new(), 0, 0);
    for (place, id) in ids.iter().enumerate() {
        if place > begin && (place - begin == IDS || size + bytes(id) > BODY_LIMIT / 4 * 3) {
            portions.push(&ids[begin..place]);
            (begin, size) = (place, 0);
        }
        size += bytes(id);
    }
    portions.push(&ids[begin..]);
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ids_are_several_requests() {
        let sizes = |ids: &[String]| portions(ids).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0]);
        let numbers: Vec<String> = (0..2_500).map(|n| n.to_string()).collect();
        assert_eq!(sizes(&numbers), [1_000, 1_000, 500]);
        assert_eq!(portions(&numbers).concat(), numbers);
        let long = vec!["x".repeat(5_000); 3];
        assert_eq!(sizes(&long), [1, 1, 1]);
        assert_eq!(sizes(&["x".repeat(100_000)]), [1], "the API says that it is too long");
    }
}
