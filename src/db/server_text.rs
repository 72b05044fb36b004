//! What a server says, as the operator tells it.

use crate::notify::sanitize;

/// How many characters of a server's words are told.
const WORDS: usize = 500;

/// A text from a server as one line of bounded length: it may quote the whole value of a row.
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
