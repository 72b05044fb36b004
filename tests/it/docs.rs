//! The examples in docs/policies.md, each in a world of its own.

mod manifests;

use jobexec_operator::db::staleness::Reason;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};

use crate::support::{PATIENCE, World, rbac};

const PAGE: &str = include_str!("../../docs/policies.md");

/// The code blocks of a text, each with its language.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

async fn apply(world: &World, yaml: &str) {
    for document in yaml.split("\n---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
        let types = object.types.clone().unwrap();
        let gvk = GroupVersionKind::try_from(&types).unwrap();
        let plural = match gvk.kind.as_str() {
            "ExecutionPolicy" => "executionpolicies".to_owned(),
            kind => format!("{}s", kind.to_lowercase()),
        };
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
        Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &resource)
            .patch(&object.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&object))
            .await
            .unwrap();
    }
}

/// The actual values of the rows that an example expects.
const ROWS: &str = "SELECT coalesce(string_agg(concat_ws(' ', t.id, t.status, e.told, e.source), E'\\n' ORDER BY t.id), '')
    FROM job_executions AS t LEFT JOIN LATERAL (
        SELECT CASE WHEN action IN ('Failed', 'Cancelled') THEN reason ELSE action || ':' || reason END AS told, source
        FROM jobexec.events AS e WHERE e.execution_id = t.id::text AND e.action <> 'DeadlineMoved'
          AND (e.action <> 'Warned' OR e.source LIKE 'ExecutionPolicy/%')
        ORDER BY event_id DESC LIMIT 1) AS e ON true
    WHERE t.id::text = ANY (string_to_array('{ids}', ' '))";

async fn example(title: &str) {
    let (setup, examples) = PAGE.split_once("\n### Example: ").unwrap();
    let text = examples.split("\n### Example: ").find(|text| text.starts_with(title)).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let world = World::bare("docs").await;
    for (_, sql) in blocks(setup).into_iter().filter(|(language, _)| *language == "sql") {
        world.sql(sql).await;
    }
    let store = blocks(setup).into_iter().find(|(language, _)| *language == "yaml").unwrap().1;
    let spec = serde_saphyr::from_str::<serde_json::Value>(store).unwrap()["spec"].take();
    world.prepare_for(&spec).await;
    for (_, sql) in blocks(text).into_iter().filter(|(language, _)| *language == "sql") {
        world.sql(sql).await;
    }
    apply(&world, store).await;
    for (_, yaml) in blocks(text).into_iter().filter(|(language, _)| *language == "yaml") {
        apply(&world, yaml).await;
    }
    rbac::apply(&world.client, &world.namespace, rbac::WORKLOADS).await;
    let operator = world.operator();
    let expected = blocks(text).into_iter().find(|(language, _)| *language == "text").unwrap().1;
    let ids: Vec<&str> = expected.lines().filter_map(|line| line.split(' ').next()).collect();
    let query = ROWS.replace("{ids}", &ids.join(" "));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // Read once more after it is as expected, so that rows that must not change have had the time to.
        let before = world.one::<String>(&query).await;
        world.request_sweep(&operator).await;
        let after = world.one::<String>(&query).await;
        if before == expected && after == expected {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{title}: expected\n{expected}\nis\n{after}");
    }
}

macro_rules! examples {
    ($($name:ident: $title:literal,)*) => {
        $(#[tokio::test] async fn $name() { example($title).await; })*

        #[test]
        fn every_example_is_run() {
            let titles: Vec<&str> = PAGE.split("\n### Example: ").skip(1).filter_map(|t| t.lines().next()).collect();
            assert_eq!(titles, [$($title),*]);
        }
    };
}

examples! {
    precedence: "precedence",
    a_lost_heartbeat: "a lost heartbeat",
    the_job_is_finished: "the job is finished",
    a_later_execution_has_started: "a later execution has started",
    the_job_or_pod_is_gone: "the Job or Pod is gone",
    the_worker_is_lost: "the worker is lost",
    two_clocks_and_no_start: "two clocks, and no start",
    paused_and_of_no_interest: "paused, and of no interest",
    cancelled_or_only_told: "cancelled, or only told",
    extended: "extended",
    from_history: "from history",
    a_server_among_jobs: "a server among jobs",
}

/// All source files below a folder, as one text.
fn sources(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn every_kind_of_evidence_is_in_the_table_in_its_order() {
    let table = PAGE.split("\n\n").find(|text| text.starts_with("| reason |")).unwrap();
    let rows = table.lines().skip(2).map(|row| row.split('`').nth(1).unwrap());
    assert_eq!(rows.collect::<Vec<_>>(), Reason::ALL.map(Reason::as_str));
}

/// A promise whose test was renamed or removed has no test.
#[test]
fn every_test_that_a_promise_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("src")) + &sources(&root.join("tests"));
    let mut named = 0;
    for page in ["docs/security.md", "docs/reliability.md", "docs/field-reports.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        // The last column of the tables.
        for cell in text.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next()) {
            let names = cell.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
            for name in names.filter(|name| !name.contains(' ')) {
                let last = name.rsplit("::").next().unwrap();
                let all_of = last == "*" || last == "…";
                let there = [format!("fn {last}("), format!("mod {last};")];
                assert!(
                    all_of || there.iter().any(|there| sources.contains(there)),
                    "{page} names {name}, which is not there"
                );
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named}");
}
