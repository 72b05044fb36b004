//! The request body of a webhook.

use serde::Serialize;

use super::template::Rendered;
use super::{Message, SendError, sanitize};
use crate::api::notifications::Format;

/// How many characters of a message Slack shows; it cuts off the rest.
const SLACK: usize = 40_000;

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    message: &'a Message,
    text: &'a str,
}

#[derive(Serialize)]
struct Slack {
    text: String,
}

/// Serializes the body of a request: JSON in either format.
pub(super) fn serialize(
    format: Format,
    rendered: &Rendered,
    message: &Message,
) -> Result<Vec<u8>, SendError> {
    let body = match format {
        Format::Json => serde_json::to_vec(&Json { message, text: &rendered.text }),
        Format::Slack => serde_json::to_vec(&Slack { text: slack(&rendered.text) }),
    };
    body.map_err(|error| SendError::InvalidConfiguration(format!("cannot serialize the message: {error}")))
}

/// Escapes text so that Slack shows it unchanged: nothing in it becomes a link or mentions anyone.
fn slack(text: &str) -> String {
    let mut left = SLACK;
    let mut fitting = 0;
    for character in text.chars() {
        let length = escaped(character).map_or(1, str::len);
        if length > left {
            break;
        }
        left -= length;
        fitting += 1;
    }
    let clipped =
        if fitting == text.chars().count() { text.to_owned() } else { sanitize::clip(text, fitting) };
    clipped.chars().fold(String::with_capacity(clipped.len()), |mut text, character| {
        match escaped(character) {
            Some(entity) => text.push_str(entity),
            None => text.push(character),
        }
        text
    })
}

/// Escapes the three special characters of Slack.
const fn escaped(character: char) -> Option<&'static str> {
    match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_text_is_escaped_and_entities_are_never_cut() {
        assert_eq!(slack("a <!channel> & b"), "a &lt;!channel&gt; &amp; b");
        assert_eq!(slack(&"ä".repeat(SLACK)), "ä".repeat(SLACK));
        let long = slack(&"<".repeat(SLACK));
        assert!(long.chars().count() <= SLACK && long.ends_with("&lt;…"), "{}", long.len());
    }
}
