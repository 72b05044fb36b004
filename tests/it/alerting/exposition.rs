//! The exported metrics: names, help texts, labels, and the documentation.

use std::collections::{BTreeMap, BTreeSet};

use jobexec_operator::metrics::{self, Done, Format, Metrics, Snapshot};

use super::{clean, ended, page, policy, promtool, store};

const DOCS: &str = include_str!("../../../docs/alerting.md");

/// The metrics of these stores.
fn of(stores: Vec<jobexec_operator::metrics::StoreSnapshot>) -> String {
    metrics::text(Metrics::default(), Snapshot { stores, ..Snapshot::default() }, Format::Prometheus).unwrap()
}

fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn promtool_finds_nothing_to_object_to() {
    let test = "promtool_finds_nothing_to_object_to";
    let Some(output) = promtool(test, &["check", "metrics"], Some(&page(Format::Prometheus))) else { return };
    clean(&output);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_format_is_what_it_says() {
    let (open, older) = (page(Format::OpenMetrics), page(Format::Prometheus));
    assert!(
        open.ends_with("# EOF\n") && open.contains("# TYPE jobexec_store_statement_retries counter\n"),
        "{open}"
    );
    assert!(
        !older.contains("# EOF") && older.contains("# TYPE jobexec_store_statement_retries_total counter\n"),
        "{older}"
    );
    for (accept, format) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format::Prometheus),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

#[test]
fn the_figures_are_those_of_the_status() {
    let page = page(Format::Prometheus);
    for (name, expected) in [
        ("running_executions", 6.0),
        ("scheduled_executions", 5.0),
        ("long_running_executions", 4.0),
        ("stale_executions", 3.0),
        ("recent_executions", 2.0),
        ("refused_transitions_total", 1.0),
        ("oldest_running_start_timestamp_seconds", 1_754_670_115.0),
        ("last_sweep_timestamp_seconds", 1_754_670_115.0),
        ("last_sweep_ended_executions", 9.0),
        ("sweep_interval_seconds", 3_600.0),
        ("objects", 7.0),
        ("executions_without_object", 8.0),
    ] {
        let series = format!("jobexec_store_{name}{{namespace=\"n\",store=\"s\"}}");
        assert_eq!(value(&page, &series), Some(expected), "{series}");
    }
    let condition = |type_: &str, status: &str| {
        let series = "jobexec_store_condition{namespace=\"n\",store=\"s\"";
        value(&page, &format!("{series},type=\"{type_}\",status=\"{status}\"}}"))
    };
    let truths = ["true", "false", "unknown"];
    assert_eq!(truths.map(|truth| condition("Healthy", truth)), [Some(1.0), Some(0.0), Some(0.0)]);
    let open = "jobexec_store_condition_reason{namespace=\"n\",store=\"s\",type=\"EnforcementPaused\",reason=\"BreakerOpen\"}";
    assert_eq!(value(&page, open), Some(1.0));
}

#[test]
fn what_cannot_be_seen_has_no_figures() {
    let page = of(vec![store("Unknown")]);
    assert!(!page.contains("jobexec_store_running_executions"), "{page}");
    assert!(page.contains("status=\"unknown\"} 1\n"), "the condition says so: {page}");
    assert!(
        page.contains("jobexec_store_last_sweep_timestamp_seconds{"),
        "that is known all the same: {page}"
    );
    assert!(of(Vec::new()).lines().all(|line| !line.contains("store=")), "what is gone has no series");
}

#[test]
fn counters_are_there_before_they_rise_and_know_few_words() {
    let store = store("True");
    let counters = store.counters.clone();
    let ended_for = |page: &str, reason: &str| {
        let labels = format!("{{namespace=\"n\",store=\"s\",status=\"failed\",reason=\"{reason}\"}}");
        value(page, &format!("jobexec_store_executions_ended_total{labels}"))
    };
    let before = of(vec![store]);
    assert_eq!(ended_for(&before, "DeadlineExceeded"), Some(0.0));
    assert_eq!(ended_for(&before, "Other"), None);
    ended(&counters, "DeadlineExceeded");
    ended(&counters, "job 21 of somebody");
    let mut store = super::store("True");
    store.counters = counters;
    let after = of(vec![store]);
    assert_eq!((ended_for(&after, "DeadlineExceeded"), ended_for(&after, "Other")), (Some(1.0), Some(1.0)));
    assert!(!after.contains("somebody"));
    let lag = "jobexec_store_detection_lag_seconds_bucket";
    let at_most = |le: &str| value(&after, &format!("{lag}{{namespace=\"n\",store=\"s\",le=\"{le}\"}}"));
    assert_eq!((at_most("0.25"), at_most("0.5")), (Some(0.0), Some(2.0)), "{after}");
}

/// A replica may be asked for a clean-up of a store that it does not manage.
#[test]
fn what_was_done_to_a_store_of_another_replica_is_counted_and_nothing_else() {
    let counters = std::sync::Arc::new(jobexec_operator::metrics::StoreCounters::default());
    let page = || {
        let done = Done { namespace: "n".to_owned(), name: "theirs".to_owned(), counters: counters.clone() };
        let snapshot =
            Snapshot { stores: vec![store("True")], foreign_stores: vec![done], ..Snapshot::default() };
        metrics::text(Metrics::default(), snapshot, Format::Prometheus).unwrap()
    };
    let theirs = |page: &str| -> Vec<String> {
        page.lines().filter(|line| line.contains("store=\"theirs\"")).map(str::to_owned).collect()
    };
    assert!(theirs(&page()).is_empty(), "nothing was counted");
    ended(&counters, "ManualCleanup");
    let counted = page();
    let series = "jobexec_store_executions_ended_total{namespace=\"n\",store=\"theirs\",status=\"failed\",reason=\"ManualCleanup\"}";
    assert_eq!(value(&counted, series), Some(1.0), "{counted}");
    let names: BTreeSet<String> = super::names(&theirs(&counted).join("\n"));
    assert_eq!(names, BTreeSet::from(["jobexec_store_executions_ended_total".to_owned()]));
    counters.failed("ConnectTimeout");
    assert!(theirs(&page()).iter().any(|line| line.starts_with("jobexec_store_database_errors_total{")));
}

#[test]
fn names_are_escaped() {
    let mut policy = policy();
    policy.name = "a\"b\\c\nd".to_owned();
    let snapshot = Snapshot { policies: vec![policy], ..Snapshot::default() };
    let page = metrics::text(Metrics::default(), snapshot, Format::OpenMetrics).unwrap();
    assert!(page.contains(r#"policy="a\"b\\c\nd""#), "{page}");
}

/// The rows of the table of metrics in docs/alerting.md, generated from the exported metrics.
fn table() -> String {
    let page = page(Format::Prometheus);
    let (mut helps, mut types) = (BTreeMap::new(), BTreeMap::new());
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            helps.insert(name, help);
        } else if let Some((name, type_)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            types.insert(name, type_);
        } else if let Some((series, rest)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
            let name = name.filter(|name| types.contains_key(name)).unwrap_or(series);
            let (inside, _) = rest.rsplit_once('}').unwrap();
            let keys = inside.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0));
            labels.entry(name).or_default().extend(keys.filter(|key| *key != "le"));
        }
    }
    let row = |(name, help): (&&str, &&str)| {
        let labels: Vec<String> =
            labels.get(name).into_iter().flatten().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {} | {} | {} |\n", types[name], labels.join(", "), help.replace("\\\"", "\""))
    };
    helps.iter().map(row).collect()
}

#[test]
fn the_page_describes_every_metric() {
    let (_, rest) =
        DOCS.split_once("| metric | type | labels | what it is |\n| --- | --- | --- | --- |\n").unwrap();
    let described: String =
        rest.lines().take_while(|line| line.starts_with('|')).map(|l| format!("{l}\n")).collect();
    let expected = table();
    assert!(described == expected, "the table in docs/alerting.md must be:\n{expected}");
}

#[test]
fn no_label_names_a_job_or_an_execution() {
    let known = [
        "namespace",
        "store",
        "policy",
        "type",
        "status",
        "reason",
        "kind",
        "state",
        "controller",
        "outcome",
        "route",
        "code",
        "version",
        // A part of the program.
        "where",
        "le",
    ];
    for line in page(Format::Prometheus).lines().filter(|line| !line.starts_with('#')) {
        let Some((_, rest)) = line.split_once('{') else { continue };
        let keys = rest.rsplit_once('}').unwrap().0.split("\",").map(|pair| pair.split_once('=').unwrap().0);
        keys.for_each(|key| assert!(known.contains(&key), "{key} in {line}"));
    }
}
