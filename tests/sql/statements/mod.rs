//! Compares every statement of `src/db`, as the server receives it, with snapshots, for three mappings: a refactoring
//! must change none of them. For an intended change, `INSTA_UPDATE=always cargo test --test sql` writes them again.

mod layout;
mod mappings;
mod operations;
mod recorder;
pub(crate) mod server_log;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jobexec_operator::db::{Database, url};
use sqlx::{AssertSqlSafe, PgPool};

use self::mappings::CASES;
use self::recorder::Recorder;
use self::server_log::ServerLog;

/// The statements of an operation, by its name.
type Statements = BTreeMap<String, String>;

#[tokio::test]
async fn the_statements_are_those_of_the_snapshots() {
    let server = tokio::task::spawn_blocking(|| devcluster::Server::start(&[]).unwrap()).await.unwrap();
    let mut all: Vec<(&str, Statements)> = Vec::new();
    for case in &CASES {
        let name = format!("mapping_{}", case.name);
        let admin = PgPool::connect(server.url()).await.unwrap();
        for sql in [
            format!("CREATE DATABASE {name}"),
            format!("ALTER DATABASE {name} SET log_statement = 'all'"),
            format!("ALTER DATABASE {name} SET log_parameter_max_length = 0"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&admin).await.unwrap();
        }
        admin.close().await;
        let mut address: ::url::Url = server.url().parse().unwrap();
        address.set_path(&name);
        let pool = PgPool::connect(address.as_str()).await.unwrap();
        sqlx::raw_sql(case.tables).execute(&pool).await.unwrap();
        let login = url::parse(address.as_str(), None).unwrap();
        let database = Database::connect(login, 2, Duration::from_secs(30)).await.unwrap();
        let mut recorder = Recorder::new(ServerLog::of(&server));
        Box::pin(operations::run(&mut recorder, &database, &pool, &case.store())).await;
        all.push((case.name, recorder.found()));
    }
    compare(&all);
}

/// Compares with the snapshots. Statements that are the same for all mappings are in the folder `any`, once.
fn compare(all: &[(&str, Statements)]) {
    let names: BTreeSet<&String> = all.iter().flat_map(|(_, found)| found.keys()).collect();
    let mut written = BTreeSet::new();
    let mut differing = Vec::new();
    for name in names {
        let same = all.iter().all(|(_, found)| found.get(name) == all[0].1.get(name));
        let told = if same { &all[..1] } else { all };
        for (mapping, found) in told {
            let Some(text) = found.get(name) else { continue };
            let path = folder().join(if same { "any" } else { mapping });
            let file = name.replace("::", ".");
            written.insert(path.join(format!("{file}.snap")));
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(path);
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            let check = || settings.bind(|| insta::assert_snapshot!(file, text));
            // All differences are reported at once.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
                differing.push(format!("{mapping}: {name}"));
            }
        }
    }
    let left: Vec<PathBuf> = files(&folder()).filter(|file| !written.contains(file)).collect();
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        for file in left {
            std::fs::remove_file(file).unwrap();
        }
    } else {
        assert!(left.is_empty(), "nothing sends these any more: {left:#?}");
    }
    assert!(differing.is_empty(), "not as the snapshots have them: {differing:#?}");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/statements/snapshots")
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    folders
        .flat_map(|entry| std::fs::read_dir(entry.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
}

/// A function that sends statements and is not among the operations has no snapshot.
#[test]
fn every_function_that_sends_statements_is_among_the_operations() {
    let source = concat!(
        include_str!("operations/delivery.rs"),
        include_str!("operations/ending.rs"),
        include_str!("operations/mod.rs"),
        include_str!("operations/reading.rs"),
    );
    let mut missing = Vec::new();
    for (names, path) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/db"), "") {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let Some(name) = line.strip_prefix("pub async fn ") else { continue };
            let name = name.split(['(', '<']).next().unwrap();
            let calls = names.iter().map(|module| format!("{module}::{name}"));
            let known = |call: &String| {
                source.contains(&format!("{call}(")) || operations::LEFT_OUT.contains(&call.as_str())
            };
            if !calls.clone().any(|call| known(&call)) {
                missing.extend(calls);
            }
        }
    }
    assert!(missing.is_empty(), "add these to tests/sql/statements/operations: {missing:#?}");
}

/// The source files in a folder, each with the modules that its functions may be addressed by: its own, and its parent.
fn sources(folder: &Path, parent: &str) -> Vec<(Vec<String>, PathBuf)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(sources(&path, &module));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let names = if parent.is_empty() {
                vec![module]
            } else {
                vec![parent.to_owned(), format!("{parent}::{module}")]
            };
            all.push((names, path));
        }
    }
    all
}
