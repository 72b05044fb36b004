//! Simulates the costs and benefits of holding lost heartbeats, for populations of 1 to 10,000 workers.
//! docs/policies.md shows the resulting table.

use std::fmt::Write as _;

use super::{Silent, stopped_together};

/// The time between two heartbeats of a worker, in seconds.
const HEARTBEAT_INTERVAL: f64 = 10.0;
/// The heartbeat timeout, in seconds.
const TIMEOUT: f64 = 30.0;
/// The time between two reconciliations, in seconds.
const POLL_INTERVAL: f64 = 5.0;

/// A worker, and the period in which it sends no heartbeat.
#[derive(Clone, Copy)]
struct Worker {
    phase: f64,
    silent: Option<(f64, f64)>,
}

impl Worker {
    /// Returns the time of the last heartbeat.
    fn last_heartbeat(&self, now: f64) -> f64 {
        let before =
            |at: f64| ((at - self.phase) / HEARTBEAT_INTERVAL).floor() * HEARTBEAT_INTERVAL + self.phase;
        match self.silent {
            // A worker sends a heartbeat as soon as it reconnects.
            Some((_, until)) if now >= until => before(now).max(until),
            Some((from, _)) if now >= from => before(from),
            _ => before(now),
        }
    }

    fn is_dead(&self) -> bool {
        self.silent.is_some_and(|(_, until)| until.is_infinite())
    }
}

/// A deterministic random number generator (splitmix64).
struct Random(u64);

impl Random {
    /// Returns the next number, at least 0 and less than 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are enough")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The number of live workers that were failed, and the time at which each dead worker was.
struct Outcome {
    live: usize,
    dead: Vec<f64>,
}

/// Simulates the decisions of the operator, with or without holds.
#[allow(clippy::cast_possible_truncation, reason = "tenths of a timeout are few")]
fn simulate(workers: &[Worker], holds: bool) -> Outcome {
    let (mut held, mut failed) = (Vec::<f64>::new(), vec![None; workers.len()]);
    let mut doubt = f64::NEG_INFINITY;
    let mut now = 0.0;
    while now < 260.0 {
        let last: Vec<f64> = workers.iter().map(|w| w.last_heartbeat(now)).collect();
        let lost = |held: &[f64], last: f64| {
            let floor = held.iter().copied().find(|hold| *hold > last).unwrap_or(last);
            floor.max(last) + TIMEOUT <= now
        };
        let runs = |n: &usize| failed[*n].is_none();
        if holds {
            let fresh = |n: &usize| held.last().is_none_or(|hold| last[*n] > *hold);
            let silent: Vec<Silent> = (0..workers.len())
                .filter(runs)
                .filter(fresh)
                .map(|n| Silent { tenths: ((now - last[n]) / TIMEOUT * 10.0).floor() as i64, workers: 1 })
                .collect();
            if stopped_together(&silent, (2.0 * POLL_INTERVAL / TIMEOUT * 10.0).ceil() as i64).is_some() {
                doubt = now;
            }
            let doubted = |n: usize| {
                lost(&held, last[n]) && last[n] <= doubt && held.last().is_none_or(|hold| last[n] > *hold)
            };
            if held.last().is_none_or(|hold| doubt > *hold) && (0..workers.len()).filter(runs).any(doubted) {
                held.push(now);
            }
        }
        for n in 0..workers.len() {
            if failed[n].is_none() && lost(&held, last[n]) {
                failed[n] = Some(now);
            }
        }
        now += POLL_INTERVAL;
    }
    let of = |dead: bool| workers.iter().zip(&failed).filter(move |(w, _)| w.is_dead() == dead);
    Outcome {
        live: of(false).filter(|(_, at)| at.is_some()).count(),
        dead: of(true).filter_map(|(_, at)| *at).collect(),
    }
}

/// Creates healthy workers and applies `change` to each.
fn workers(
    random: &mut Random,
    population: usize,
    mut change: impl FnMut(&mut Random, usize, &mut Worker),
) -> Vec<Worker> {
    (0..population)
        .map(|n| {
            let mut worker = Worker { phase: random.next() * HEARTBEAT_INTERVAL, silent: None };
            change(random, n, &mut worker);
            worker
        })
        .collect()
}

/// The time at which the simulated event starts, in seconds.
const ONSET: f64 = 100.0;

/// Simulates an outage of 3 s. Each worker waits from 15 s to `longest` seconds before it reconnects.
fn outage(random: &mut Random, population: usize, longest: f64) -> Vec<Worker> {
    workers(random, population, |random, _, worker| {
        worker.silent = Some((ONSET, ONSET + 3.0 + 15.0 + random.next() * (longest - 15.0)));
    })
}

/// Simulates `dead` workers that die at once.
fn killed(random: &mut Random, population: usize, dead: usize) -> Vec<Worker> {
    let at = ONSET + random.next() * HEARTBEAT_INTERVAL;
    workers(random, population, |_, n, worker| {
        if n < dead {
            worker.silent = Some((at, f64::INFINITY));
        }
    })
}

/// Simulates workers that die independently of each other, once a day each.
fn unrelated(random: &mut Random, population: usize) -> Vec<Worker> {
    workers(random, population, |random, n, worker| {
        let at = random.next() * 86_400.0;
        if n == 0 {
            worker.silent = Some((ONSET, f64::INFINITY));
        } else if at < 160.0 {
            worker.silent = Some((at, f64::INFINITY));
        }
    })
}

#[allow(clippy::cast_precision_loss, reason = "counts of workers")]
fn percent(part: usize, all: usize) -> String {
    let share = 100.0 * part as f64 / all.max(1) as f64;
    if part > 0 && share < 1.0 { "<1 %".to_owned() } else { format!("{share:.0} %") }
}

/// The outcomes of the same scenarios without and with holds.
struct Comparison {
    workers: usize,
    without: Vec<Outcome>,
    with: Vec<Outcome>,
}

impl Comparison {
    fn run(runs: usize, mut make: impl FnMut() -> Vec<Worker>) -> Self {
        let scenarios: Vec<_> = (0..runs).map(|_| make()).collect();
        let outcomes = |holds| scenarios.iter().map(|workers| simulate(workers, holds)).collect();
        Self { workers: scenarios.iter().map(Vec::len).sum(), without: outcomes(false), with: outcomes(true) }
    }

    /// Returns the share of live workers that are failed.
    fn live(&self, of: &[Outcome]) -> String {
        percent(of.iter().map(|outcome| outcome.live).sum(), self.workers)
    }

    /// Returns the average time by which holds delay the failure of dead workers.
    #[allow(clippy::cast_precision_loss, reason = "counts of workers")]
    fn delay(&self) -> String {
        let mean = |of: &[Outcome]| {
            let at: Vec<f64> = of.iter().flat_map(|outcome| outcome.dead.iter().copied()).collect();
            at.iter().sum::<f64>() / at.len() as f64
        };
        format!("{:.0} s", mean(&self.with) - mean(&self.without))
    }

    /// Returns the share of runs in which holds delay any failure.
    fn delayed(&self) -> String {
        let late = self.with.iter().zip(&self.without).filter(|(with, without)| with.dead != without.dead);
        percent(late.count(), self.with.len())
    }
}

#[test]
fn the_documented_table_matches_the_simulation() {
    let mut table = String::new();
    for population in [1, 2, 5, 10, 50, 200, 1_000, 10_000_usize] {
        let runs = (2_000 / population).clamp(1, 100);
        let random = &mut Random(population as u64);
        let short = Comparison::run(runs, || outage(random, population, 45.0));
        let long = Comparison::run(runs, || outage(random, population, 90.0));
        let one = Comparison::run(runs, || killed(random, population, 1));
        let node = Comparison::run(runs, || killed(random, population, population.div_ceil(3).min(30)));
        let quarter = Comparison::run(runs, || killed(random, population, population.div_ceil(4)));
        let daily = Comparison::run(runs, || unrelated(random, population));
        for comparison in [&one, &node, &quarter, &daily] {
            let failed = comparison.live(&comparison.with);
            assert_eq!(failed, "0 %", "no live worker is failed when others die");
        }
        if population > 1 {
            assert_eq!(short.live(&short.with), "0 %", "{population} reconnect within twice the timeout");
        }
        writeln!(
            table,
            "| {population} | {} | {} | {} | {} | {} | {} | {} | {} |",
            short.live(&short.without),
            short.live(&short.with),
            long.live(&long.without),
            long.live(&long.with),
            one.delay(),
            node.delay(),
            quarter.delay(),
            daily.delayed(),
        )
        .unwrap();
    }
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policies.md"));
    assert!(page.contains(&table), "docs/policies.md must contain\n{table}");
}
