//! What a webhook is sent.

use serde::Serialize;

use super::template::Rendered;
use super::{Message, SendError, plain};
use crate::api::notifications::Format;

/// How many characters Slack shows of a message; it cuts off the rest.
const SLACK: usize = 40_000;

#[derive(Serialize)]
struct Everything<'a> {
    #[serde(flatten)]
    message: &'a Message,
    text: &'a str,
}

#[derive(Serialize)]
struct Slack {
    text: String,
}

/// The body of a request, JSON in either format.
pub(super) fn of(format: Format, rendered: &Rendered, message: &Message) -> Result<Vec<u8>, SendError> {
    let body = match format {
        Format::Json => serde_json::to_vec(&Everything { message, text: &rendered.text }),
        Format::Slack => serde_json::to_vec(&Slack { text: slack(&rendered.text) }),
    };
    body.map_err(|error| SendError::InvalidConfiguration(format!("no JSON can be made of it: {error}")))
}

/// Text that Slack shows as it is: nothing in it is a link or calls anybody by name.
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
    let clipped = if fitting == text.chars().count() { text.to_owned() } else { plain::clip(text, fitting) };
    clipped.chars().fold(String::with_capacity(clipped.len()), |mut text, character| {
        match escaped(character) {
            Some(entity) => text.push_str(entity),
            None => text.push(character),
        }
        text
    })
}

/// The three characters that mean something to Slack.
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
    fn slack_shows_text_as_it_is_and_an_entity_is_never_cut() {
        assert_eq!(slack("a <!channel> & b"), "a &lt;!channel&gt; &amp; b");
        assert_eq!(slack(&"ä".repeat(SLACK)), "ä".repeat(SLACK));
        let long = slack(&"<".repeat(SLACK));
        assert!(long.chars().count() <= SLACK && long.ends_with("&lt;…"), "{}", long.len());
    }
}
