//! Formats a statement with line breaks where a reader expects them. Only white space outside of quotes changes.

/// Words that begin a new line, unless one of these words comes before.
const BREAKS: [(&str, &[&str]); 16] = [
    ("SELECT", &[]),
    ("FROM", &["DISTINCT", "epoch"]),
    ("WHERE", &[]),
    ("LEFT", &[]),
    ("CROSS", &[]),
    ("JOIN", &["LEFT", "CROSS"]),
    ("UNION", &[]),
    ("GROUP", &[]),
    ("ORDER", &[]),
    ("LIMIT", &[]),
    ("RETURNING", &[]),
    ("INSERT", &["SELECT,"]),
    ("UPDATE", &["FOR", "KEY", "DO", "SELECT,", "INSERT,"]),
    ("DELETE", &["INSERT,", "UPDATE,"]),
    ("AND", &[]),
    ("OR", &[]),
];

/// Formats the statement for a snapshot: each line is indented by its depth in parentheses.
pub(super) fn layout(sql: &str) -> String {
    let (mut out, mut depth, mut before) = (String::new(), 0_usize, String::new());
    let mut between = false;
    for token in tokens(sql) {
        let word = token.trim_start_matches('(');
        let limit = word == "AND" && between;
        let breaks = BREAKS
            .iter()
            .any(|(first, unless)| *first == word && !unless.iter().any(|other| before.ends_with(other)));
        if !out.is_empty() {
            let apart = token.starts_with("--") || before.starts_with("--");
            if apart || (breaks && !limit) {
                out.push('\n');
                out.push_str(&"  ".repeat(depth));
            } else {
                out.push(' ');
            }
        }
        out.push_str(&token);
        between = word == "BETWEEN" || (between && word != "AND");
        depth = deeper(depth, &token);
        before = token;
    }
    out
}

/// The depth after a token.
fn deeper(mut depth: usize, token: &str) -> usize {
    if token.starts_with("--") {
        return depth;
    }
    let mut quote = None;
    for c in token.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

/// Splits at white space. A quoted text is one token, and so is a comment to the end of its line.
fn tokens(sql: &str) -> Vec<String> {
    let (mut found, mut token, mut quote) = (Vec::new(), String::new(), None);
    for c in sql.chars() {
        let comment = token.starts_with("--");
        match quote {
            Some(open) if open == c => quote = None,
            None if !comment && (c == '\'' || c == '"') => quote = Some(c),
            _ => {}
        }
        if quote.is_none() && (c == '\n' || (c.is_whitespace() && !comment)) {
            found.extend((!token.is_empty()).then(|| std::mem::take(&mut token)));
        } else {
            token.push(c);
        }
    }
    found.extend((!token.is_empty()).then_some(token));
    found
}

#[test]
fn a_statement_is_broken_at_its_clauses_and_never_in_quotes() {
    let sql = "WITH a AS (SELECT 'x  FROM y' AS b FROM c WHERE d BETWEEN 1 AND 2\n  AND e) -- why AND how\n SELECT * FROM a";
    let expected = "WITH a AS\n(SELECT 'x  FROM y' AS b\n  FROM c\n  WHERE d BETWEEN 1 AND 2\n  AND e)\n\
                    -- why AND how\nSELECT *\nFROM a";
    assert_eq!(layout(sql), expected);
}
