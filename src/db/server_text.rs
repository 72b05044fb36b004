//! Texts of a server in the form that the operator reports.

use crate::notify::sanitize;

/// The maximum number of characters of a server's text that are reported.
const WORDS: usize = 500;

/// Returns a text from a server as one line of bounded length, because it may quote the whole value of a row.
pub(super) fn line(text: &str) -> String {
    sanitize::line(&text.chars().take(2 * WORDS).collect::<String>(), WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_server_are_one_line_of_bounded_length() {
        assert_eq!(line("no such\nthing\u{2028}\u{1b}[31m"), "no such thing [31m");
        let long = line(&"é".repeat(20_000_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (WORDS, true));
    }
}
