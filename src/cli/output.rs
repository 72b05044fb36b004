//! Output of results: a table for people; JSON, YAML or ids for programs. Prints page by page, so that the first of many
//! rows appear at once.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::CliError;
use crate::api::duration;

/// The output options.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Output {
    /// The output format: a table, a table with more columns, JSON, YAML, or only the ids.
    #[arg(short = 'o', long = "output", value_enum, default_value = "table", value_name = "FORMAT")]
    pub(super) format: Format,
    /// Print a table without headers.
    #[arg(long)]
    no_headers: bool,
    /// Print times in UTC instead of the local time zone. JSON and YAML always use UTC.
    #[arg(long)]
    pub(super) utc: bool,
    /// Whether to print to standard error, as for a question.
    #[arg(skip)]
    to_stderr: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

impl Format {
    /// Whether the format is meant for people.
    pub(super) const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// The appearance of a cell on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Good,
    Warn,
    Bad,
}

impl Style {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// A column of a table.
pub(super) struct Column<R> {
    pub(super) title: &'static str,
    /// Whether the column appears only in the wide table.
    pub(super) wide: bool,
    pub(super) cell: fn(&R, Output) -> String,
    pub(super) style: fn(&R) -> Style,
}

impl<R> Column<R> {
    pub(super) const fn new(title: &'static str, cell: fn(&R, Output) -> String) -> Self {
        Self { title, wide: false, cell, style: |_| Style::Plain }
    }

    pub(super) const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    pub(super) const fn styled(self, style: fn(&R) -> Style) -> Self {
        Self { style, ..self }
    }
}

/// Prints rows as they arrive.
pub(super) struct Printer<R> {
    output: Output,
    columns: Vec<Column<R>>,
    name: fn(&R) -> Option<&str>,
    widths: Vec<usize>,
    printed: usize,
    colour: bool,
}

impl<R: Serialize> Printer<R> {
    /// Creates a printer for these columns; `name` returns the name of a row, or `None` to leave it out with `-o name`.
    pub(super) fn new(output: Output, columns: Vec<Column<R>>, name: fn(&R) -> Option<&str>) -> Self {
        let columns: Vec<_> =
            columns.into_iter().filter(|column| !column.wide || output.format == Format::Wide).collect();
        let widths = columns.iter().map(|column| column.title.width()).collect();
        Self { output, columns, name, widths, printed: 0, colour: output.colour() }
    }

    /// Prints more rows.
    pub(super) fn rows(&mut self, rows: &[R]) -> Result<(), CliError> {
        let text = match self.output.format {
            Format::Table | Format::Wide => self.table(rows),
            Format::Name => rows.iter().filter_map(self.name).map(|name| format!("{name}\n")).collect(),
            Format::Yaml if rows.is_empty() => String::new(),
            Format::Yaml => yaml(&rows)?,
            Format::Json => self.json(rows)?,
        };
        self.printed += rows.len();
        self.output.print(&text)
    }

    /// Finishes the output. If there were no rows, prints `nothing` for people. Returns the number of rows.
    pub(super) fn end(self, nothing: &str) -> Result<usize, CliError> {
        match self.output.format {
            Format::Json if self.printed > 0 => self.output.print("\n]\n")?,
            Format::Json | Format::Yaml if self.printed == 0 => self.output.print("[]\n")?,
            Format::Table | Format::Wide if self.printed == 0 => eprint(nothing),
            _ => {}
        }
        Ok(self.printed)
    }

    fn table(&mut self, rows: &[R]) -> String {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                self.columns.iter().map(|column| escape_control(&(column.cell)(row, self.output))).collect()
            })
            .collect();
        for row in &cells {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let mut text = String::new();
        if self.printed == 0 && !rows.is_empty() && !self.output.no_headers {
            let titles = self.columns.iter().map(|column| (column.title.to_owned(), Style::Plain));
            text.push_str(&self.line(titles));
        }
        for (row, cells) in rows.iter().zip(cells) {
            let styled =
                cells.into_iter().zip(&self.columns).map(|(cell, column)| (cell, (column.style)(row)));
            text.push_str(&self.line(styled));
        }
        text
    }

    fn line(&self, cells: impl Iterator<Item = (String, Style)>) -> String {
        let mut line = String::new();
        let mut gap = 0;
        for ((cell, style), width) in cells.zip(&self.widths) {
            // Pad before a cell, not after it: lines do not end with spaces.
            line.push_str(&" ".repeat(gap));
            gap = width.saturating_sub(cell.width()) + 3;
            match style.code().filter(|_| self.colour) {
                Some(code) => line.push_str(&format!("\x1b[{code}m{cell}\x1b[0m")),
                None => line.push_str(&cell),
            }
        }
        line.push('\n');
        line
    }

    fn json(&self, rows: &[R]) -> Result<String, CliError> {
        let mut text = String::new();
        for (place, row) in rows.iter().enumerate() {
            text.push_str(if self.printed + place == 0 { "[\n" } else { ",\n" });
            let object =
                serde_json::to_string_pretty(row).map_err(|error| CliError::Print(error.to_string()))?;
            let indented: Vec<String> = object.lines().map(|line| format!("  {line}")).collect();
            text.push_str(&indented.join("\n"));
        }
        Ok(text)
    }
}

/// Prints one object as JSON or YAML.
pub(super) fn object(format: Format, thing: &impl Serialize) -> Result<(), CliError> {
    if format == Format::Yaml {
        return print(&yaml(thing)?);
    }
    let text = serde_json::to_string_pretty(thing).map_err(|error| CliError::Print(error.to_string()))?;
    print(&format!("{text}\n"))
}

fn yaml(thing: &impl Serialize) -> Result<String, CliError> {
    serde_saphyr::to_string(thing).map_err(|error| CliError::Print(error.to_string()))
}

/// Writes to standard output and flushes it.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a message to standard error; a closed standard error is ignored.
pub(super) fn eprint(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Escapes control characters, so that text from a table cannot control the terminal.
pub(super) fn escape_control(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

impl Output {
    /// Returns the output for what a question is about: on standard error if a program reads standard output.
    pub(super) fn for_prompt(self) -> Self {
        if self.format.is_for_people() {
            self
        } else {
            Self { format: Format::Table, to_stderr: true, ..self }
        }
    }

    fn print(self, text: &str) -> Result<(), CliError> {
        if self.to_stderr {
            let mut terminal = io::stderr().lock();
            terminal.write_all(text.as_bytes())?;
            return Ok(terminal.flush()?);
        }
        print(text)
    }

    fn colour(self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = if self.to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Formats a time to the second.
    pub(super) fn time(self, at: DateTime<Utc>) -> String {
        if self.utc {
            at.to_rfc3339_opts(SecondsFormat::Secs, true)
        } else {
            at.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, true)
        }
    }

    /// Formats a time, or `-`.
    pub(super) fn optional_time(self, at: Option<DateTime<Utc>>) -> String {
        at.map_or_else(|| "-".to_owned(), |at| self.time(at))
    }
}

/// Formats an optional value, or `-`.
pub(super) fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Formats seconds as hours, easy to compare.
pub(super) fn hours(seconds: f64) -> String {
    format!("{:.1} h", seconds / 3600.0)
}

/// Formats seconds as a duration in the syntax of specs, in whole seconds.
pub(super) fn length(seconds: f64) -> String {
    duration::format(duration::of_seconds(seconds.trunc()))
}

/// Formats a number and a noun: `1 execution`, `2 executions`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Reports whether there is a terminal to ask on.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for confirmation on the terminal.
pub(super) fn confirmed(question: &str) -> Result<bool, CliError> {
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
