//! Sanitizes foreign text for one line that people read.

/// Returns one line of at most `limit` characters: replaces control characters and those that change the text direction by
/// blanks, joins blanks, and ends a text that is too long with `…`.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let readable = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect::<String>();
    clip(&readable.split_whitespace().collect::<Vec<_>>().join(" "), limit)
}

/// Truncates a text to `limit` characters; a truncated text ends with `…`.
pub(super) fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_sanitized_and_truncated() {
        assert_eq!(line("a\r\nBcc: x\t\u{1b}[31m\u{202e}y ", 99), "a Bcc: x [31m y");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüßx", 4), "äöü…");
        assert_eq!(line("", 4), "");
    }
}
