//! Escapes foreign text in logs: a row, a server or an object must not forge a log line or control a terminal.

use std::fmt::{self, Write as _};
use std::io;

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Whether a character is escaped: control characters, other line breaks, and characters that change the text direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A writer that escapes text.
struct Escaped<'a, 'writer>(&'a mut Writer<'writer>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| is_unsafe(*c)) {
            self.0.write_str(&text[plain..at])?;
            write!(self.0, "{}", c.escape_default())?;
            plain = at + c.len_utf8();
        }
        self.0.write_str(&text[plain..])
    }
}

/// Formats fields of text lines: the message as it is, `name=value` for the others.
pub(super) fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| match field.name() {
        "message" => write!(Escaped(writer), "{value:?}"),
        // Fields of the crate log, which repeat parts of the line.
        name if name.starts_with("log.") => Ok(()),
        name => {
            write!(writer, "{}=", name.trim_start_matches("r#"))?;
            write!(Escaped(writer), "{value:?}")
        }
    })
    .delimited(" ")
}

/// Escapes lines of JSON. JSON itself escapes characters below the blank; this escapes the other [unsafe](is_unsafe) ones, which
/// can only occur inside a string.
pub(super) struct Json<W>(pub(super) W);

impl<W: io::Write> io::Write for Json<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let is_unsafe = |c: char| c != '\n' && is_unsafe(c);
        if !text.contains(is_unsafe) {
            self.0.write_all(line)?;
            return Ok(line.len());
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_unsafe(c) {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            } else {
                escaped.push(c);
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::SubscriberBuilder;

    use super::*;

    const HOSTILE: &str =
        "x\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[31m\u{9b}2J\u{7f}\u{85}\u{2028}\u{202e}\t\u{0}ü";

    /// Collects the output.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// Logs foreign text in every part of an event.
    fn log() {
        let span = tracing::info_span!("reconcile", object = %HOSTILE);
        let _entered = span.enter();
        let error = io::Error::other(HOSTILE);
        tracing::info!(text = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, %error, "what it said: {HOSTILE}");
        tracing::warn!(error = &error as &dyn std::error::Error, "an error");
    }

    fn is_harmless(text: &str) {
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with('\n') && !text.chars().any(|c| c != '\n' && is_unsafe(c)), "{text:?}");
        assert!(text.contains("forged") && text.contains('ü'), "{text}");
    }

    #[test]
    fn text_lines_cannot_be_forged() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = SubscriberBuilder::default()
            .fmt_fields(fields())
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), log);
        is_harmless(&captured.text());
        assert!(captured.text().contains("what it said: x\\n2026"), "{}", captured.text());
    }

    #[test]
    fn terminal_output_cannot_be_forged() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = SubscriberBuilder::default()
            .fmt_fields(fields())
            .with_ansi(true)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), log);
        let text = captured.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains("\u{1b}[31m") && !text.contains('\u{9b}') && !text.contains('\r'), "{text:?}");
    }

    #[test]
    fn json_lines_cannot_be_forged() {
        let captured = Captured::default();
        let writer = captured.clone();
        let builder = SubscriberBuilder::default().json().flatten_event(true);
        let subscriber = builder.with_writer(move || Json(writer.clone()));
        tracing::subscriber::with_default(subscriber.finish(), log);
        is_harmless(&captured.text());
        for line in captured.text().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["message"].is_string());
        }
        let first: serde_json::Value = serde_json::from_str(captured.text().lines().next().unwrap()).unwrap();
        assert_eq!(first["text"], HOSTILE, "it is all there");
    }
}
