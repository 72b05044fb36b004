//! What holding costs and saves, over populations of 1 to 10,000 workers. docs/policies.md shows the table.

use std::fmt::Write as _;

use super::{Silent, stopped_together};

/// The example: a heartbeat every 10 s that counts as lost after 30 s, looked at every 5 s.
const BEAT: f64 = 10.0;
const TIMEOUT: f64 = 30.0;
const LOOK: f64 = 5.0;

/// A worker, and the time in which it says nothing.
#[derive(Clone, Copy)]
struct Worker {
    phase: f64,
    silent: Option<(f64, f64)>,
}

impl Worker {
    /// When it last said that it is alive.
    fn last(&self, now: f64) -> f64 {
        let before = |at: f64| ((at - self.phase) / BEAT).floor() * BEAT + self.phase;
        match self.silent {
            // Who comes back says so at once.
            Some((_, until)) if now >= until => before(now).max(until),
            Some((from, _)) if now >= from => before(from),
            _ => before(now),
        }
    }

    fn is_dead(&self) -> bool {
        self.silent.is_some_and(|(_, until)| until.is_infinite())
    }
}

/// Chance that is the same each time (splitmix64).
struct Chance(u64);

impl Chance {
    /// From 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are enough")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How many live workers were failed, and when each dead one was.
struct Outcome {
    live: usize,
    dead: Vec<f64>,
}

/// As the operator looks at them, with holding or without.
#[allow(clippy::cast_possible_truncation, reason = "tenths of a timeout are few")]
fn play(workers: &[Worker], holds: bool) -> Outcome {
    let (mut held, mut failed) = (Vec::<f64>::new(), vec![None; workers.len()]);
    let mut doubt = f64::NEG_INFINITY;
    let mut now = 0.0;
    while now < 260.0 {
        let last: Vec<f64> = workers.iter().map(|w| w.last(now)).collect();
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
            if stopped_together(&silent, (2.0 * LOOK / TIMEOUT * 10.0).ceil() as i64).is_some() {
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
        now += LOOK;
    }
    let of = |dead: bool| workers.iter().zip(&failed).filter(move |(w, _)| w.is_dead() == dead);
    Outcome {
        live: of(false).filter(|(_, at)| at.is_some()).count(),
        dead: of(true).filter_map(|(_, at)| *at).collect(),
    }
}

/// Healthy workers, of which some are changed.
fn workers(
    chance: &mut Chance,
    population: usize,
    mut change: impl FnMut(&mut Chance, usize, &mut Worker),
) -> Vec<Worker> {
    (0..population)
        .map(|n| {
            let mut worker = Worker { phase: chance.next() * BEAT, silent: None };
            change(chance, n, &mut worker);
            worker
        })
        .collect()
}

const ONSET: f64 = 100.0;

/// All connections are cut for 3 s, and each worker waits before it tries again: from 15 s to the longest wait.
fn outage(chance: &mut Chance, population: usize, longest: f64) -> Vec<Worker> {
    workers(chance, population, |chance, _, worker| {
        worker.silent = Some((ONSET, ONSET + 3.0 + 15.0 + chance.next() * (longest - 15.0)));
    })
}

/// So many die at once.
fn killed(chance: &mut Chance, population: usize, dead: usize) -> Vec<Worker> {
    let at = ONSET + chance.next() * BEAT;
    workers(chance, population, |_, n, worker| {
        if n < dead {
            worker.silent = Some((at, f64::INFINITY));
        }
    })
}

/// Each dies once a day, whatever the others do.
fn unrelated(chance: &mut Chance, population: usize) -> Vec<Worker> {
    workers(chance, population, |chance, n, worker| {
        let at = chance.next() * 86_400.0;
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

/// The same worlds without holding and with it.
struct Both {
    workers: usize,
    without: Vec<Outcome>,
    with: Vec<Outcome>,
}

impl Both {
    fn of(runs: usize, mut make: impl FnMut() -> Vec<Worker>) -> Self {
        let worlds: Vec<_> = (0..runs).map(|_| make()).collect();
        let play = |holds| worlds.iter().map(|world| play(world, holds)).collect();
        Self { workers: worlds.iter().map(Vec::len).sum(), without: play(false), with: play(true) }
    }

    /// How many of those who live are failed.
    fn live(&self, of: &[Outcome]) -> String {
        percent(of.iter().map(|outcome| outcome.live).sum(), self.workers)
    }

    /// How much later the dead are failed where heartbeats are held, on average.
    #[allow(clippy::cast_precision_loss, reason = "counts of workers")]
    fn delay(&self) -> String {
        let mean = |of: &[Outcome]| {
            let at: Vec<f64> = of.iter().flat_map(|outcome| outcome.dead.iter().copied()).collect();
            at.iter().sum::<f64>() / at.len() as f64
        };
        format!("{:.0} s", mean(&self.with) - mean(&self.without))
    }

    /// In how many runs somebody is failed later.
    fn delayed(&self) -> String {
        let late = self.with.iter().zip(&self.without).filter(|(with, without)| with.dead != without.dead);
        percent(late.count(), self.with.len())
    }
}

#[test]
fn the_documented_table_is_what_comes_of_it() {
    let mut table = String::new();
    for population in [1, 2, 5, 10, 50, 200, 1_000, 10_000_usize] {
        let runs = (2_000 / population).clamp(1, 100);
        let chance = &mut Chance(population as u64);
        let short = Both::of(runs, || outage(chance, population, 45.0));
        let long = Both::of(runs, || outage(chance, population, 90.0));
        let one = Both::of(runs, || killed(chance, population, 1));
        let node = Both::of(runs, || killed(chance, population, population.div_ceil(3).min(30)));
        let quarter = Both::of(runs, || killed(chance, population, population.div_ceil(4)));
        let daily = Both::of(runs, || unrelated(chance, population));
        for both in [&one, &node, &quarter, &daily] {
            assert_eq!(both.live(&both.with), "0 %", "nobody who lives is failed where others die");
        }
        if population > 1 {
            assert_eq!(short.live(&short.with), "0 %", "{population} are back within twice the timeout");
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
    assert!(page.contains(&table), "docs/policies.md is to show\n{table}");
}
