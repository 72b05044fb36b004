//! `devcluster sql`: runs psql if it is installed, and otherwise prints tables in the format of psql.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    str::FromStr,
};

use devcluster::Error;
use postgres::{Config, NoTls, SimpleQueryMessage, config::SslMode};

use super::state::State;

pub(crate) fn run(query: &str) -> Result<ExitCode, Error> {
    let url = database_url()?;
    let mut psql = Command::new("psql");
    let error = psql.args(["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command", query, &url]).exec();
    if error.kind() != io::ErrorKind::NotFound {
        return Err(Error::Spawn { program: "psql".into(), source: error });
    }
    let text = answer(&url, query).map_err(|error| {
        Error::Sql(error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string))
    })?;
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Spawn { program: "sql".into(), source })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the URL from `devcluster exec`, or of the background cluster.
fn database_url() -> Result<String, Error> {
    if env::var_os("DEVCLUSTER").is_some()
        && let Ok(url) = env::var("DATABASE_URL")
    {
        return Ok(url);
    }
    let exports = State::open()?.exports()?.ok_or(Error::NotRunning)?;
    let line = exports.lines().find_map(|line| line.strip_prefix("export DATABASE_URL='"));
    line.map(|line| line.trim_end_matches('\'').to_owned()).ok_or(Error::NotRunning)
}

fn answer(url: &str, query: &str) -> Result<String, postgres::Error> {
    // The connection uses loopback and the server requires a password, so this avoids a second TLS stack.
    let mut client = Config::from_str(url)?.ssl_mode(SslMode::Disable).connect(NoTls)?;
    let mut parts = Vec::new();
    let mut table = None;
    for message in client.simple_query(query)? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                let header = columns.iter().map(|column| column.name().to_owned()).collect();
                table = Some(Table { header, rows: Vec::new() });
            }
            SimpleQueryMessage::Row(row) => {
                let cells =
                    (0..row.len()).map(|index| row.get(index).unwrap_or_default().to_owned()).collect();
                if let Some(table) = &mut table {
                    table.rows.push(cells);
                }
            }
            SimpleQueryMessage::CommandComplete(count) => match table.take() {
                Some(table) => parts.push(table.render()),
                None => parts.push(format!("OK {count}\n")),
            },
            _ => {}
        }
    }
    Ok(parts.concat())
}

struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn render(&self) -> String {
        let wide = |text: &str| text.chars().count();
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| wide(cell));
            cells.chain(self.header.get(index).map(|name| wide(name))).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |cells: &[String], center: bool| {
            let cell = |(text, width): (&String, &usize)| {
                if center { format!(" {text:^width$} ") } else { format!(" {text:<width$} ") }
            };
            cells.iter().zip(&widths).map(cell).collect::<Vec<_>>().join("|").trim_end().to_owned() + "\n"
        };
        let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
        let rows: String = self.rows.iter().map(|row| line(row, false)).collect();
        let count = self.rows.len();
        let plural = if count == 1 { "" } else { "s" };
        format!("{}{rule}\n{rows}({count} row{plural})\n\n", line(&self.header, true))
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn table_columns_are_aligned() {
        let text = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = vec![text(&["1", "running"]), text(&["20", "überfällig"])];
        let table = Table { header: text(&["id", "status"]), rows };
        let expected = " id |   status\n----+------------\n 1  | running\n 20 | überfällig\n(2 rows)\n\n";
        assert_eq!(table.render(), expected);
    }
}
