//! Hostile values of each column and type.

/// 87 incompressible bytes for each requested one.
pub(super) const NOISE: &str = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 85) AS n)";

/// Most of them run.
const STATUSES: &[&str] =
    &["running", "running", "running", "completed", "failed", "scheduled", "cancelled", "RUNNING"];

const TIMES: &[&str] = &[
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59",
    "294276-12-31 23:59:59.999999",
    "294275-06-01",
    "4713-11-24 00:00:00 BC",
    "4713-12-31 BC",
    "0044-03-15 BC",
    "0001-01-01",
    "9999-12-31 23:59:59",
    "10000-01-01",
    "262143-01-01",
    "2025-03-09 02:30",
    "2025-11-02 01:30",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "null",
    "NaN",
    "\\",
    "%",
    "$1",
    "{}",
    "~",
    "stale~",
    "it''s",
    "etl",
    "Job/gone",
    "/",
    "a@example.org",
];

/// SQL expressions of texts that are long, or that contain control characters.
const TEXT_EXPRESSIONS: &[&str] = &[
    "repeat('a', 1000)",
    "repeat('a', 1001)",
    "repeat('é', 500)",
    "repeat('é', 501)",
    "repeat('x', 8192)",
    "repeat('x', 300000)",
    "E'line\\nline\\r\\t\\x01\\x1b[31m'",
    "U&'\\2028\\202e\\feff'",
];

/// SQL expressions of hostile values of a type.
pub(super) fn values(column: &str, type_: &str) -> Vec<String> {
    let quoted = |texts: &[&str]| texts.iter().map(|text| format!("'{text}'")).collect::<Vec<_>>();
    let with = |texts: &[&str], expressions: &[&str]| {
        let expressions = expressions.iter().copied().map(str::to_owned);
        quoted(texts).into_iter().chain(expressions).collect::<Vec<_>>()
    };
    let mut values = match (column, type_.split('(').next().unwrap()) {
        ("status", _) => with(STATUSES, &["''", "repeat('running', 1200)"]),
        (_, "timestamp" | "timestamptz") => {
            with(TIMES, &["now() - interval '2 days'", "now() + interval '2 days'", "now()"])
        }
        (_, "bigint") => quoted(&["-9223372036854775808", "9223372036854775807", "0", "-1", "5"]),
        (_, "integer") => quoted(&["-2147483648", "2147483647", "0"]),
        (_, "smallint") => quoted(&["-32768", "32767", "0"]),
        (_, "numeric") => quoted(&["NaN", "Infinity", "-Infinity", "1e1000", "0.000", "7", "7.0", "1.5"]),
        (_, "uuid") => {
            quoted(&["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
        }
        (_, "label") => quoted(&["running", "completed"]),
        (_, "kind") => quoted(&["etl", "mail"]),
        _ => {
            let mut all = with(TEXTS, TEXT_EXPRESSIONS);
            all.extend([100, 1000, 1001, 2690].map(|length| format!("left({NOISE}, {length})")));
            all
        }
    };
    values.push("NULL".to_owned());
    values
}
