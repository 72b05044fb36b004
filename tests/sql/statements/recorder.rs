//! Records the statements of each operation for the snapshots.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};

use super::Statements;
use super::layout::layout;
use super::server_log::ServerLog;

/// Keeps statements by the name of the operation.
pub(super) struct Recorder {
    log: ServerLog,
    found: BTreeMap<String, String>,
    /// The first operation that sent a long statement.
    first: HashMap<String, String>,
}

/// Statements that are longer than this, in bytes as they are laid out, are written once for a mapping.
const LONG: usize = 400;

impl Recorder {
    pub(super) fn new(mut log: ServerLog) -> Self {
        log.statements();
        Self { log, found: BTreeMap::new(), first: HashMap::new() }
    }

    pub(super) fn found(self) -> Statements {
        self.found
    }

    /// Runs `work` and records its statements.
    pub(super) async fn of<T, E: Debug>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> T {
        self.log.statements();
        let done = work.await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let statements = self.log.statements();
        self.keep(name, &statements);
        done
    }

    /// Records statements.
    pub(super) fn keep(&mut self, name: &str, statements: &[String]) {
        let mut text = String::new();
        for (n, sql) in statements.iter().enumerate() {
            let sql = layout(sql);
            let told = match (sql.strip_prefix("BEGIN "), self.first.get(&sql)) {
                (Some(begin), _) if begin.contains("READ ONLY") => {
                    "-- a transaction that only reads".to_owned()
                }
                (Some(_), _) => "-- a transaction that writes".to_owned(),
                (None, Some(first)) => format!("-- the same as {first}"),
                (None, None) => sql.clone(),
            };
            if sql.len() > LONG {
                self.first.entry(sql).or_insert_with(|| format!("statement {} of {name}", n + 1));
            }
            writeln!(text, "{told}\n").unwrap();
        }
        if !text.is_empty() {
            let before = self.found.insert(name.to_owned(), text);
            assert!(before.is_none(), "{name} is there twice");
        }
    }
}
