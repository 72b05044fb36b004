//! Label selectors in the syntax of kubectl. The API server evaluates them; they are parsed here so that a mistake is
//! reported at the start, and not by a watch that is refused again and again.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// The reason why a selector is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// An empty requirement, as between two commas.
    #[error("a requirement is empty: there is a comma too many")]
    Empty,
    /// A key that is not valid for a label.
    #[error(
        "{0:?} cannot be the key of a label: write a name of letters, digits, '-', '_' and '.', at most 63, with or without a domain and '/' before it"
    )]
    Key(String),
    /// A value that is not valid for a label.
    #[error("{0:?} cannot be the value of a label: write letters, digits, '-', '_' and '.', at most 63")]
    Value(String),
    /// A requirement that does not follow the syntax.
    #[error(
        "{0:?} is no requirement of a label selector: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, with commas between them"
    )]
    Requirement(String),
}

/// Parses a selector: `key=value`, `key==value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key`, `!key`,
/// separated by commas; all must hold. An empty text selects everything.
///
/// # Errors
/// Fails with the reason why the first invalid requirement is invalid.
pub fn parse(text: &str) -> Result<Selector, InvalidSelector> {
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    requirements(text).into_iter().map(|one| requirement(one.trim())).collect()
}

/// Splits the text at commas, except for those within parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(text: &str) -> Result<Expression, InvalidSelector> {
    if text.is_empty() {
        return Err(InvalidSelector::Empty);
    }
    if let Some((head, values)) = text.split_once('(') {
        return set(text, head, values);
    }
    if let Some((name, text)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(text)?));
    }
    if let Some((name, text)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value(text)?));
    }
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name)?));
    }
    if text.contains(char::is_whitespace) || text.contains(['<', '>', ')']) {
        return Err(InvalidSelector::Requirement(text.to_owned()));
    }
    Ok(Expression::Exists(key(text)?))
}

/// Parses `key in (a,b)` or `key notin (a,b)`.
fn set(text: &str, head: &str, values: &str) -> Result<Expression, InvalidSelector> {
    let none = || InvalidSelector::Requirement(text.to_owned());
    let values = values.strip_suffix(')').filter(|values| !values.trim().is_empty()).ok_or_else(none)?;
    let [name, operator] = *head.split_whitespace().collect::<Vec<_>>() else { return Err(none()) };
    let values = values.split(',').map(value).collect::<Result<BTreeSet<_>, _>>()?;
    match operator {
        "in" => Ok(Expression::In(key(name)?, values)),
        "notin" => Ok(Expression::NotIn(key(name)?, values)),
        _ => Err(none()),
    }
}

fn key(text: &str) -> Result<String, InvalidSelector> {
    let text = text.trim();
    let fits = match text.split_once('/') {
        Some((domain, name)) => is_domain(domain) && is_word(name),
        None => is_word(text),
    };
    if fits { Ok(text.to_owned()) } else { Err(InvalidSelector::Key(text.to_owned())) }
}

fn value(text: &str) -> Result<String, InvalidSelector> {
    let text = text.trim();
    if text.is_empty() || is_word(text) {
        Ok(text.to_owned())
    } else {
        Err(InvalidSelector::Value(text.to_owned()))
    }
}

fn is_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(inner)
        && outer(text.bytes().next())
        && outer(text.bytes().next_back())
}

fn is_domain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_reads_is_read() {
        for (text, written) in [
            ("", ""),
            ("  ", ""),
            ("team=a", "team=a"),
            (" team == a , tier != db ", "team=a,tier!=db"),
            ("team in (b, a),!old", "team in (a,b),!old"),
            ("team notin(a)", "team notin (a)"),
            ("jobexec.dev/part-of", "jobexec.dev/part-of"),
            ("! jobexec.dev/part_of", "!jobexec.dev/part_of"),
            ("team=", "team="),
            ("team in (a,)", "team in (,a)"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_kubectl_refuses_is_refused_with_its_part() {
        for (text, part) in [
            (",", "comma"),
            ("a,,b", "comma"),
            ("team=a,", "comma"),
            ("team in", "requirement"),
            ("team in ()", "requirement"),
            ("team in (a", "requirement"),
            ("team in (a) b", "requirement"),
            ("team within (a)", "requirement"),
            ("(a)", "requirement"),
            ("replicas > 3", "requirement"),
            ("team a", "requirement"),
            ("=a", "key"),
            ("!", "key"),
            ("!team=a", "key"),
            ("/a=b", "key"),
            ("Team.dev/a/b=c", "key"),
            ("-a=b", "key"),
            ("team=a=b", "value"),
            ("team=ä", "value"),
            ("team in ((a),b)", "value"),
            ("team=a b", "value"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&format!("a={}", "x".repeat(64))).is_err());
    }
}
