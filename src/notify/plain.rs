//! Text from elsewhere, made fit for one line that a person reads.

/// In one line of at most `limit` characters: control characters and those that turn the direction of writing become
/// blanks, several blanks one, and what is too long ends with `…`.
pub(crate) fn line(text: &str, limit: usize) -> String {
    let readable = text.chars().map(|c| if is_trouble(c) { ' ' } else { c }).collect::<String>();
    clip(&readable.split_whitespace().collect::<Vec<_>>().join(" "), limit)
}

/// At most `limit` characters; what is too long ends with `…`.
pub(super) fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn is_trouble(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one() {
        assert_eq!(line("a\r\nBcc: x\t\u{1b}[31m\u{202e}y ", 99), "a Bcc: x [31m y");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüßx", 4), "äöü…");
        assert_eq!(line("", 4), "");
    }
}
