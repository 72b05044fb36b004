//! Rows that no application should write: each affects only itself, and is counted or named.

mod limits;
mod tables;
mod values;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use self::tables::{COLUMNS, NAMES, SHAPES, field};
use self::values::values;
use crate::support::World;

/// The number of random cases, unless `PROPTEST_CASES` is set.
const CASES: u32 = 12;

/// Each value of each column, in rows that are otherwise healthy, all at once.
#[tokio::test]
async fn each_hostile_value_harms_its_row_only() {
    let world = field().await;
    for (n, shape) in SHAPES.iter().enumerate() {
        let schema = format!("s{n}");
        shape.begin(&world, &schema).await;
        let mut next = 100;
        for (place, (name, type_)) in NAMES.iter().zip(shape.columns).enumerate() {
            for value in values(name, type_) {
                let both = ["started_at", "completed_at", "job_id"].contains(name);
                for status in if both { &["running", "completed"][..] } else { &["running"] } {
                    next += 1;
                    let mut row: Vec<String> = vec!["NULL".to_owned(); COLUMNS];
                    row[0] = match shape.columns[0] {
                        "uuid" => format!("'{next:08}-0000-0000-0000-000000000000'"),
                        _ => format!("'{next}'"),
                    };
                    row[2] = "1".to_owned();
                    row[3] = format!("'{status}'");
                    row[4] = "now() - interval '2 days'".to_owned();
                    row[5] =
                        if *status == "completed" { "now() - interval '1 day'" } else { "NULL" }.to_owned();
                    row[place].clone_from(&value);
                    shape.put(&world, &schema, &row).await;
                }
            }
        }
        let rows = world.one::<i64>(&format!("SELECT count(*) FROM {schema}.job_executions")).await;
        assert!(rows > 100, "{rows} of {next}");
        Box::pin(shape.hold(&world, &schema)).await.unwrap_or_else(|why| panic!("{schema}: {why}"));
    }
}

/// A row has a value for each column, by their indexes.
type Case = (usize, Vec<Vec<usize>>);

fn cases() -> impl Strategy<Value = Case> {
    (0..SHAPES.len(), vec(vec(0..1_000_usize, COLUMNS), 1..8))
}

async fn play(world: &World, (n, rows): &Case) -> Result<(), TestCaseError> {
    let (shape, schema) = (&SHAPES[*n], format!("s{n}"));
    shape.begin(world, &schema).await;
    for row in rows {
        let all = NAMES.iter().zip(shape.columns).map(|(name, type_)| values(name, type_));
        let row: Vec<String> = all.zip(row).map(|(values, at)| values[at % values.len()].clone()).collect();
        shape.put(world, &schema, &row).await;
    }
    Box::pin(shape.hold(world, &schema)).await.map_err(TestCaseError::fail)
}

/// Random combinations of the values.
#[allow(clippy::result_large_err, reason = "the error is the case, to be printed")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_rows_of_all_kinds_harm_themselves_only() {
    let world = field().await;
    let config = Config { failure_persistence: None, max_shrink_iters: 100, ..Config::with_cases(CASES) };
    let outcome = tokio::task::block_in_place(|| {
        let handle = tokio::runtime::Handle::current();
        TestRunner::new(config).run(&cases(), |case| handle.block_on(play(&world, &case)))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (n, rows))) => {
            let shape = &SHAPES[n];
            let all = || NAMES.iter().zip(shape.columns).map(|(name, type_)| values(name, type_));
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| all().zip(row).map(|(v, at)| v[at % v.len()].clone()).collect())
                .collect();
            panic!("{why}\ns{n}: {rows:#?}")
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
