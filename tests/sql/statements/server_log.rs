//! Reads the statements that a server received from its log.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// The log of a server that logs every statement before it runs it.
pub(crate) struct ServerLog {
    path: PathBuf,
    read: u64,
}

impl ServerLog {
    pub(crate) fn of(server: &devcluster::Server) -> Self {
        Self { path: server.folder().join("logs/postgres.log"), read: 0 }
    }

    /// Returns the statements since the last call. One line stands for the start of each transaction, and shows whether
    /// it may write: a separate snapshot contains its full text.
    pub(super) fn statements(&mut self) -> Vec<String> {
        parse(&self.text())
    }

    /// Returns what was logged since the last call.
    pub(crate) fn text(&mut self) -> String {
        let mut file = std::fs::File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        self.read += u64::try_from(file.read_to_string(&mut text).unwrap()).unwrap();
        text
    }
}

/// Parses the log. A statement of several lines continues in lines that begin with a tab.
fn parse(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        if let (true, Some(more), Some(last)) = (inside, line.strip_prefix('\t'), found.last_mut()) {
            last.push('\n');
            last.push_str(more);
            continue;
        }
        let told = line.split_once("LOG:  ").map(|(_, told)| told);
        let statement = told.and_then(|told| {
            let executed =
                || told.strip_prefix("execute ").and_then(|told| told.split_once(": ")).map(|(_, sql)| sql);
            told.strip_prefix("statement: ").or_else(executed)
        });
        inside = statement.is_some();
        found.extend(statement.map(str::to_owned));
    }
    // The end of a transaction does not depend on the mapping, and a dropped transaction ends at an arbitrary time.
    found.retain(|sql| !matches!(sql.trim(), "COMMIT" | "ROLLBACK"));
    found
}

#[test]
fn statements_of_several_lines_are_read_whole() {
    let log = "2026-01-01 00:00:00.000 UTC [7] LOG:  statement: BEGIN\n\
               2026-01-01 00:00:00.000 UTC [7] LOG:  execute sqlx_s_1: SELECT a: b,\n\t  c\n\
               2026-01-01 00:00:00.000 UTC [7] ERROR:  no\n\tgood\n\
               2026-01-01 00:00:00.000 UTC [7] LOG:  statement: COMMIT\n";
    assert_eq!(parse(log), ["BEGIN", "SELECT a: b,\n  c"]);
}
