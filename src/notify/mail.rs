//! Composes an e-mail to one recipient.

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message as Mime};

use super::template::Rendered;
use super::{Message, SendError, sanitize};

/// An e-mail with its sender and recipient.
pub(super) struct Mail {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) bytes: Vec<u8>,
}

/// Composes an e-mail with text and HTML. Its Message-ID is the same for every attempt, so that recipients can detect
/// duplicates.
pub(super) fn compose(
    from: &str,
    to: &str,
    rendered: &Rendered,
    message: &Message,
) -> Result<Mail, SendError> {
    let from = address(from).map_err(|error| {
        SendError::InvalidConfiguration(format!("{error}: set from of the mail server to an address"))
    })?;
    let to = address(to)?;
    let id = message.id;
    let bytes = Mime::builder()
        .message_id(Some(format!("<{id}@{}>", from.domain())))
        .date_now()
        .from(Mailbox::new(None, from.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(sanitize::line(&rendered.subject, super::template::MAX_SUBJECT))
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
        .raw_header(header("X-Jobexec-Message-Id", id.to_string()))
        .multipart(MultiPart::alternative_plain_html(rendered.text.clone(), rendered.html.clone()))
        .map_err(|error| SendError::InvalidConfiguration(format!("cannot compose the e-mail: {error}")))?
        .formatted();
    Ok(Mail { from, to, bytes })
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// Parses an address without a display name, as the spec requires. It may come from a column of an application's table:
/// trims the blanks of a `char(n)`, and rejects anything that could be read as more than one address.
fn address(text: &str) -> Result<Address, SendError> {
    let bare = text.trim_matches(' ');
    let foreign = |c: char| c.is_control() || c.is_whitespace() || "<>(),;:\"\\[]".contains(c);
    if bare.len() > 254 || bare.contains(foreign) || bare.matches('@').count() != 1 {
        return Err(invalid(text));
    }
    bare.parse().map_err(|_| invalid(text))
}

fn invalid(text: &str) -> SendError {
    SendError::InvalidAddress(sanitize::clip(text, 80), "it is not of the form local@domain")
}
