//! `jobexec trends`: prints health counts over time.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::backend::{Backend, BackendArgs};
use super::output::{Column, Format, Output, Printer, Style, optional};
use super::queries::{Samples, TrendsQuery};
use super::{CliError, positive_duration, retained_duration};
use crate::api::{Duration, duration};
use crate::db::samples::{self, Point};

/// Default limit of lines: as many as people can read.
const DEFAULT_LINES: i32 = 48;

/// The options of `jobexec trends`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The operator stores counts once a minute and keeps them for 30 days. A line shows the maximum of each count in its
interval, and how many executions the operator or a person ended in it. A line of dashes is an interval without counts: no
operator ran, or it could not count. JSON and YAML omit such lines.

Examples:
  jobexec trends                       the last day, half an hour per line, oldest first
  jobexec trends --since 2h --step 1m
  jobexec trends --since 7d -o json"
)]
pub(super) struct Args {
    /// How far to look back: at most 30d.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = retained_duration)]
    since: Duration,
    /// The interval of a line: at least 1m, and long enough for at most 1500 lines. By default whole minutes, for at most 48
    /// lines.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    step: Option<Duration>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Prints samples, oldest first.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    if args.output.format == Format::Name {
        return Err(CliError::Usage("-o name: a sample has no name; leave it out or use -o json".to_owned()));
    }
    let since = args.since.to_chrono();
    let step = samples::step(since, args.step.as_ref().map(Duration::to_chrono), DEFAULT_LINES);
    let query = TrendsQuery { since, step: step.map_err(|error| CliError::Usage(format!("--{error}")))? };
    let mut store = Backend::open(args.backend).await?;
    let samples = store.trends(&query).await?;
    let people = args.output.format.is_for_people();
    let all = if people { with_gaps(&samples, query) } else { lines(&samples.points, query.step) };
    let mut printer = Printer::new(args.output, columns(), |_: &Line| None);
    printer.rows(&all)?;
    printer.end(
        "No samples of that time: the operator stores counts once it has managed the store for a minute.",
    )?;
    store.close().await;
    Ok(())
}

/// A line of the table: a point, or an interval without samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Line {
    #[serde(flatten)]
    point: Option<Point>,
    #[serde(skip)]
    at: DateTime<Utc>,
    /// The length of the interval.
    #[serde(skip)]
    length: TimeDelta,
}

/// Returns the points as lines.
fn lines(points: &[Point], step: TimeDelta) -> Vec<Line> {
    points.iter().map(|point| Line { point: Some(*point), at: point.at, length: step }).collect()
}

/// Returns the points as lines, with a line for each gap before, between and after them. The current step, and the step in
/// which the requested time begins, may have no sample yet.
fn with_gaps(samples: &Samples, TrendsQuery { since, step }: TrendsQuery) -> Vec<Line> {
    let (mut all, mut next) = (Vec::new(), floor(samples.now - since, step) + step);
    let gap = |from: DateTime<Utc>, to: DateTime<Utc>| {
        (from < to).then(|| Line { point: None, at: from, length: to - from })
    };
    for line in lines(&samples.points, step) {
        all.extend(gap(next, line.at));
        next = line.at + step;
        all.push(line);
    }
    if !all.is_empty() {
        all.extend(gap(next, floor(samples.now, step)));
    }
    all
}

/// Returns the start of the step that contains this time. Steps are counted from the epoch, as in the database.
fn floor(at: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    let past = at.timestamp().rem_euclid(step.num_seconds().max(1));
    DateTime::from_timestamp(at.timestamp() - past, 0).unwrap_or(at)
}

/// A column of this table.
type C = Column<Line>;

fn columns() -> Vec<C> {
    vec![
        C::new("AT", |line, output| output.time(line.at)),
        C::new("FOR", |line, _| duration::format(line.length)),
        C::new("RUNNING", |line, _| optional(line.point.map(|point| point.running))),
        C::new("SCHEDULED", |line, _| optional(line.point.and_then(|point| point.scheduled))),
        C::new("LONG-RUNNING", |line, _| optional(line.point.map(|point| point.long_running))),
        C::new("STALE", |line, _| optional(line.point.map(|point| point.stale))),
        C::new("FAILED", |line, _| optional(line.point.map(|point| point.failed))).styled(|line| {
            if line.point.is_some_and(|point| point.failed > 0) { Style::Bad } else { Style::Plain }
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines for samples at these minutes of an hour; gaps have a question mark.
    fn rendered(minutes: &[u32], now: &str, since: i64, step: i64) -> String {
        let time = |text: &str| format!("2026-01-01T10:{text}Z").parse::<DateTime<Utc>>().unwrap();
        let points = minutes.iter().map(|m| Point { at: time(&format!("{m:02}:00")), ..Point::default() });
        let samples = Samples { points: points.collect(), now: time(now) };
        let query = TrendsQuery { since: TimeDelta::minutes(since), step: TimeDelta::minutes(step) };
        let text = |line: &Line| {
            let mark = if line.point.is_none() { "?" } else { "" };
            format!("{}+{}{mark}", line.at.format("%M"), line.length.num_minutes())
        };
        with_gaps(&samples, query).iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn gaps_are_shown_once_and_partial_steps_are_optional() {
        assert_eq!(rendered(&[], "30:10", 10, 1), "");
        assert_eq!(rendered(&[28, 29], "30:10", 2, 1), "28+1 29+1");
        // The current minute, and the minute that is only partly requested, may have samples.
        assert_eq!(rendered(&[28, 29, 30], "30:10", 2, 1), "28+1 29+1 30+1");
        assert_eq!(rendered(&[20, 25], "30:10", 11, 5), "20+5 25+5");
        assert_eq!(rendered(&[10, 25], "40:10", 35, 5), "10+5 15+10? 25+5 30+10?");
        assert_eq!(rendered(&[25], "40:10", 35, 5), "10+15? 25+5 30+10?");
    }
}
