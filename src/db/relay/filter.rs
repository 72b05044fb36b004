//! Follows the messages of a server and passes on those that sqlx can handle (pure). A message is a type (1 byte), a length (4
//! bytes, which counts itself) and a body. The filter keeps the bodies of a few short kinds only.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Fault;
use super::login::Login;
use super::memory::{Memory, Share};
use super::parameters::Parameters;
use super::shape::Shape;

/// The maximum length of a message, in bytes. SQL cuts everything that the operator reads to much less.
const MESSAGE: usize = 4 << 20;

/// The maximum length of a message that is kept until it is complete, in bytes. Before the login is complete it applies to every
/// message.
const SHORT: usize = 64 * 1024;

/// The maximum total length of all messages before the login is complete, in bytes.
const START: usize = 256 * 1024;

/// The maximum length of a notification, in bytes: Postgres allows at most 8000 for its text and 63 for its channel.
const NOTIFICATION: usize = 8 * 1024;

/// The maximum length of the description of a row, in bytes: 1,664 columns with names of 63 bytes.
const DESCRIPTION: usize = 256 * 1024;

/// The memory that sqlx takes in addition to each message and to each value of a row, in bytes.
const BESIDE: u64 = 128;
const BESIDE_VALUE: u64 = 12;

/// Follows the messages of one connection.
pub(super) struct Filter {
    login: Login,
    parameters: Parameters,
    share: Share,
    /// True once the login is complete.
    started: bool,
    /// The number of bytes received before the login was complete.
    start: usize,
    header: [u8; 5],
    filled: usize,
    message: Option<Message>,
    /// The body of the message that is being kept.
    held: Vec<u8>,
    /// The number of bytes received that nothing waits for.
    noise: usize,
}

/// A message that has begun.
struct Message {
    kind: u8,
    /// The number of bytes of its body still to come.
    left: usize,
    course: Course,
}

/// The handling of a message.
enum Course {
    /// Passes it on as it arrives.
    Pass(Shape),
    /// Keeps it until it is complete, and passes it on once it is found valid.
    Hold,
    /// Does not pass it on.
    Drop,
}

/// The reason why nothing more is passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) fault: Fault,
    /// True if everything passed on so far is whole messages, so that another message can follow.
    pub(super) between_messages: bool,
}

impl Filter {
    /// Creates a filter for a new connection. `trusted`: the password may be sent in whatever form the server asks for.
    pub(super) fn new(trusted: bool, memory: Arc<Memory>) -> Self {
        Self {
            login: Login::new(trusted),
            parameters: Parameters::default(),
            share: Share::new(memory),
            started: false,
            start: 0,
            header: [0; 5],
            filled: 0,
            message: None,
            held: Vec::new(),
            noise: 0,
        }
    }

    /// Reports whether the login is complete.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// Returns a token that is cancelled once the answer must end because the answers of all connections take too much memory.
    pub(super) fn ended(&self) -> CancellationToken {
        self.share.ended()
    }

    /// Reports whether everything passed on so far is whole messages.
    pub(super) fn is_between_messages(&self) -> bool {
        !matches!(self.message, Some(Message { course: Course::Pass(_), .. }))
    }

    /// Returns the number of bytes received since the last call that nothing waits for: notices, notifications, settings.
    pub(super) fn take_noise(&mut self) -> usize {
        std::mem::take(&mut self.noise)
    }

    /// Reads `input` and adds to `output` everything that may be passed on. After an error nothing more may be passed on.
    pub(super) fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), Stop> {
        // Where the current message begins in `output`; `None` if it began in an earlier call and part of it was passed on.
        let mut begin = self.is_between_messages().then_some(output.len());
        while !input.is_empty() {
            let step = match self.message.take() {
                None => {
                    begin = Some(output.len());
                    self.head(&mut input, output)
                }
                Some(message) => self.body(message, &mut input, output),
            };
            if let Err(fault) = step {
                output.truncate(begin.unwrap_or(output.len()));
                return Err(Stop { fault, between_messages: begin.is_some() });
            }
        }
        Ok(())
    }

    /// Reads the available part of a header. A message without a body is complete after its header.
    fn head(&mut self, input: &mut &[u8], output: &mut Vec<u8>) -> Result<(), Fault> {
        let (head, rest) = input.split_at(input.len().min(self.header.len() - self.filled));
        self.header[self.filled..self.filled + head.len()].copy_from_slice(head);
        self.filled += head.len();
        *input = rest;
        if self.filled < self.header.len() {
            return Ok(());
        }
        self.filled = 0;
        let [kind, length @ ..] = self.header;
        let length = u32::from_be_bytes(length) as usize;
        let Some(left) = length.checked_sub(4) else {
            return Err(Fault::Malformed(format!("a message of length {length}")));
        };
        let course = self.course(kind, left)?;
        if matches!(course, Course::Pass(_)) {
            output.extend_from_slice(&self.header);
        }
        self.body(Message { kind, left, course }, &mut &[][..], output)
    }

    /// Decides how to handle a message of this kind and body length (bytes).
    fn course(&mut self, kind: u8, length: usize) -> Result<Course, Fault> {
        let at_most =
            |limit: usize, course| if length <= limit { Ok(course) } else { Err(too_long(length, limit)) };
        if !self.started {
            self.start = self.start.saturating_add(length);
            if length > SHORT {
                return Err(too_long(length, SHORT));
            }
            if self.start > START {
                return Err(Fault::TooMuch(format!(
                    "more than {} KiB before the login was done",
                    START / 1024
                )));
            }
        }
        let course = match (kind, self.started) {
            (b'N', _) => Ok(Course::Drop),
            (b'A', true) => at_most(NOTIFICATION, Course::Hold),
            (b'R' | b'E' | b'v', false) | (b'K' | b'S' | b'Z', _) => at_most(SHORT, Course::Hold),
            (b'D', true) => at_most(MESSAGE, Course::Pass(Shape::row())),
            (b'T', true) => at_most(DESCRIPTION, Course::Pass(Shape::columns())),
            (b't', true) => at_most(SHORT, Course::Pass(Shape::types())),
            (b'C' | b'I' | b'E' | b'1' | b'2' | b'3' | b'n' | b's' | b'd' | b'c' | b'G' | b'H', true) => {
                at_most(MESSAGE, Course::Pass(Shape::Opaque))
            }
            _ => Err(Fault::Malformed(format!("a message of kind {:?} out of place", char::from(kind)))),
        }?;
        if matches!(course, Course::Pass(_)) {
            // sqlx's buffer grows to at most twice the size of a long message.
            let kept = if length > SHORT { 2 * length } else { length };
            self.share.take(kept as u64 + BESIDE)?;
        }
        Ok(course)
    }

    /// Reads the available part of a body.
    fn body(&mut self, mut message: Message, input: &mut &[u8], output: &mut Vec<u8>) -> Result<(), Fault> {
        let (part, rest) = input.split_at(input.len().min(message.left));
        *input = rest;
        message.left -= part.len();
        match &mut message.course {
            Course::Pass(shape) => {
                // While the body is still to come, the header alone gives the shape nothing to follow.
                if !part.is_empty() || message.left == 0 {
                    let values = shape.follow(part, message.left)?;
                    self.share.take(u64::from(values) * BESIDE_VALUE)?;
                }
                output.extend_from_slice(part);
            }
            Course::Hold => self.held.extend_from_slice(part),
            Course::Drop => self.noise += part.len(),
        }
        if message.left > 0 {
            self.message = Some(message);
            return Ok(());
        }
        match message.course {
            Course::Hold => {
                let held = std::mem::take(&mut self.held);
                self.whole(message.kind, &held)?;
                output.extend_from_slice(&self.header);
                output.extend_from_slice(&held);
                // Keeps the allocation unless it is large.
                self.held = if held.capacity() <= NOTIFICATION { held } else { Vec::new() };
                self.held.clear();
            }
            Course::Drop => self.noise += self.header.len(),
            Course::Pass(_) => {}
        }
        Ok(())
    }

    /// Checks a kept message.
    fn whole(&mut self, kind: u8, body: &[u8]) -> Result<(), Fault> {
        let malformed = |what: &str| Err(Fault::Malformed(format!("a {what} that is none")));
        match kind {
            b'R' => self.login.check(body),
            b'S' => {
                self.noise += body.len();
                self.parameters.note(body)
            }
            b'K' if body.len() < 8 => malformed("BackendKeyData"),
            b'Z' => {
                self.share.clear();
                self.started = true;
                if matches!(body, [b'I' | b'T' | b'E']) { Ok(()) } else { malformed("ReadyForQuery") }
            }
            b'A' => {
                self.noise += body.len();
                let texts = body.get(4..).and_then(|texts| std::str::from_utf8(texts).ok());
                match texts.map(|texts| texts.split('\0').collect::<Vec<_>>()).as_deref() {
                    Some([_, _, ""]) => Ok(()),
                    _ => malformed("NotificationResponse"),
                }
            }
            _ => Ok(()),
        }
    }
}

fn too_long(length: usize, limit: usize) -> Fault {
    Fault::TooMuch(format!("a message of {length} bytes, where {limit} are allowed"))
}

#[cfg(test)]
mod tests;
