//! Formats a statement with line breaks where a reader expects them, without its comments: two statements that differ only in
//! comments and in white space outside of quotes have the same form.

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
    for token in tokens(&plain(sql)) {
        let word = token.trim_start_matches('(');
        let limit = word == "AND" && between;
        let breaks = BREAKS
            .iter()
            .any(|(first, unless)| *first == word && !unless.iter().any(|other| before.ends_with(other)));
        if !out.is_empty() {
            if breaks && !limit {
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

/// Leaves out comments, and white space outside of quotes that separates nothing.
fn plain(sql: &str) -> String {
    let (mut out, mut quote, mut apart) = (String::new(), None, false);
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() {
            let comment = c == '-' && chars.peek() == Some(&'-');
            if comment {
                chars.by_ref().find(|c| *c == '\n');
            }
            if comment || c.is_whitespace() {
                apart = true;
                continue;
            }
            if apart && !out.is_empty() && !out.ends_with('(') && ![')', ','].contains(&c) {
                out.push(' ');
            }
            apart = false;
            quote = Some(c).filter(|c| ['\'', '"'].contains(c));
        } else if quote == Some(c) {
            quote = None;
        }
        out.push(c);
    }
    out
}

/// The depth after a token.
fn deeper(mut depth: usize, token: &str) -> usize {
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

/// Splits at white space. A quoted text is one token.
fn tokens(sql: &str) -> Vec<String> {
    let (mut found, mut token, mut quote) = (Vec::new(), String::new(), None);
    for c in sql.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
        if quote.is_none() && c.is_whitespace() {
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
    let sql =
        "WITH a AS (SELECT 'x  FROM y -- z' AS b FROM c WHERE d BETWEEN 1 AND 2\n  AND e) SELECT * FROM a";
    let expected = "WITH a AS\n(SELECT 'x  FROM y -- z' AS b\n  FROM c\n  WHERE d BETWEEN 1 AND 2\n  AND e)\n\
                    SELECT *\nFROM a";
    assert_eq!(layout(sql), expected);
}

#[test]
fn comments_and_white_space_do_not_matter() {
    let one = "SELECT count(*) FROM a WHERE (b, 1) IN (SELECT c FROM d)";
    let other = "-- It's a count.\nSELECT count( * )\nFROM a -- why\nWHERE (b\n, 1) IN (\n    SELECT c\n    FROM d\n)\n";
    assert_eq!(layout(one), layout(other));
    assert_ne!(layout("SELECT ' (a'"), layout("SELECT '(a'"));
}
