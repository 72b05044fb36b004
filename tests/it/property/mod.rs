//! Compares the SQL that judges executions with a plain model over random tables and random policies: the same rows, the
//! same reasons, the same sources, and a sweep that does exactly what the list says.

mod case;
mod comparison;
mod field;
mod layout;
mod model;
mod observed;
mod play;
mod spec;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use self::field::Field;

/// The number of cases, unless `PROPTEST_CASES` is set.
const CASES: u32 = 200;

/// The program that judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The SQL of the operator, with the rules passed to it.
    Operator,
    /// The command line, which reads the operator's rules from the database.
    CommandLine,
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(why())) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sql_judges_as_the_model_does() {
    check(CASES, By::Operator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_judges_as_the_operator_does() {
    check(CASES / 3, By::CommandLine).await;
}

#[allow(clippy::result_large_err, reason = "the error is the case, to be printed")]
async fn check(cases: u32, by: By) {
    let field = Field::new().await;
    let config = Config { failure_persistence: None, max_shrink_iters: 400, ..Config::with_cases(cases) };
    let outcome = tokio::task::block_in_place(|| {
        let handle = tokio::runtime::Handle::current();
        TestRunner::new(config).run(&case::cases(), |case| handle.block_on(field.play(&case, by)))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}\n{case:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
