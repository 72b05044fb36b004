//! `jobexec trends`

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::output::{Column, Format, Output, Printer, Style, optional};
use super::source::{Place, Source};
use super::{CliError, age, period};
use crate::api::{Duration, duration};
use crate::db::samples::{self, Point};

/// How many lines there are at most unless it is said otherwise: so many can be read.
const USUAL: i32 = 48;

/// How far back, and how finely.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The operator keeps the figures once a minute, for 30 days. A line has the most of each figure within its time, and
how many executions were failed or cancelled by the operator or a person in it. A line of dashes is a time for which
nothing was kept: there was no operator, or it could not count. JSON and YAML have no such lines.

Examples:
  jobexec trends                       the last day, half an hour a line, the oldest first
  jobexec trends --since 2h --step 1m
  jobexec trends --since 168h -o json"
)]
pub(super) struct Args {
    /// How far back: at most 720h.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = period)]
    since: Duration,
    /// How much time a line stands for: at least 1m, and so much that there are at most 1500; unless it is said, whole
    /// minutes that make at most 48.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    step: Option<Duration>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// What is asked of a store.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// How far back.
    pub(super) since: TimeDelta,
    /// How much time a point stands for.
    pub(super) step: TimeDelta,
}

/// What was kept.
pub(super) struct Kept {
    /// The oldest first; none for a time for which nothing was kept.
    pub(super) points: Vec<Point>,
    /// The moment from which it looks back.
    pub(super) now: DateTime<Utc>,
}

/// Prints what was kept, the oldest first.
pub(super) async fn run(args: Args) -> Result<(), CliError> {
    if args.output.format == Format::Name {
        return Err(CliError::Usage(
            "-o name: a sample has no name; leave it out or ask for json".to_owned(),
        ));
    }
    let since = args.since.to_chrono();
    let step = samples::step(since, args.step.as_ref().map(Duration::to_chrono), USUAL);
    let wanted = Wanted { since, step: step.map_err(|error| CliError::Usage(format!("--{error}")))? };
    let mut store = Source::open(args.place).await?;
    let kept = store.trends(&wanted).await?;
    let people = args.output.format.for_people();
    let told = if people { with_gaps(&kept, wanted) } else { lines(&kept.points, wanted.step) };
    let mut printer = Printer::new(args.output, columns(), |_: &Line| None);
    printer.rows(&told)?;
    printer.end("Nothing was kept of that time: the operator keeps the figures once it has looked at the store for a minute.")?;
    store.close().await;
    Ok(())
}

/// A line of the table: a point, or a time for which nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Line {
    #[serde(flatten)]
    point: Option<Point>,
    #[serde(skip)]
    at: DateTime<Utc>,
    /// For how much time it stands.
    #[serde(skip)]
    length: TimeDelta,
}

/// The points as lines.
fn lines(points: &[Point], step: TimeDelta) -> Vec<Line> {
    points.iter().map(|point| Line { point: Some(*point), at: point.at, length: step }).collect()
}

/// The same with a line for each time between them, before and after that is missing. Of what has just begun, and of the
/// step in which the time that was asked for begins, nothing need be there yet.
fn with_gaps(kept: &Kept, Wanted { since, step }: Wanted) -> Vec<Line> {
    let (mut told, mut next) = (Vec::new(), floor(kept.now - since, step) + step);
    let gap = |from: DateTime<Utc>, to: DateTime<Utc>| {
        (from < to).then(|| Line { point: None, at: from, length: to - from })
    };
    for line in lines(&kept.points, step) {
        told.extend(gap(next, line.at));
        next = line.at + step;
        told.push(line);
    }
    if !told.is_empty() {
        told.extend(gap(next, floor(kept.now, step)));
    }
    told
}

/// When the step began in which this moment is: steps are counted from the epoch, as the database counts them.
fn floor(at: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    let past = at.timestamp().rem_euclid(step.num_seconds().max(1));
    DateTime::from_timestamp(at.timestamp() - past, 0).unwrap_or(at)
}

/// A column of what is printed here.
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

    /// What is told of samples at these minutes of an hour, looking back from this one; gaps have a question mark.
    fn told(minutes: &[u32], now: &str, since: i64, step: i64) -> String {
        let time = |text: &str| format!("2026-01-01T10:{text}Z").parse::<DateTime<Utc>>().unwrap();
        let points = minutes.iter().map(|m| Point { at: time(&format!("{m:02}:00")), ..Point::default() });
        let kept = Kept { points: points.collect(), now: time(now) };
        let wanted = Wanted { since: TimeDelta::minutes(since), step: TimeDelta::minutes(step) };
        let text = |line: &Line| {
            let mark = if line.point.is_none() { "?" } else { "" };
            format!("{}+{}{mark}", line.at.format("%M"), line.length.num_minutes())
        };
        with_gaps(&kept, wanted).iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_missing_is_told_once_and_what_need_not_be_there_is_not() {
        assert_eq!(told(&[], "30:10", 10, 1), "");
        assert_eq!(told(&[28, 29], "30:10", 2, 1), "28+1 29+1");
        // The minute that has just begun, and the one of which a part was asked for, may be there.
        assert_eq!(told(&[28, 29, 30], "30:10", 2, 1), "28+1 29+1 30+1");
        assert_eq!(told(&[20, 25], "30:10", 11, 5), "20+5 25+5");
        assert_eq!(told(&[10, 25], "40:10", 35, 5), "10+5 15+10? 25+5 30+10?");
        assert_eq!(told(&[25], "40:10", 35, 5), "10+15? 25+5 30+10?");
    }
}
