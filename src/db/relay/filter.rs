//! Follows the messages of a server and passes on those that sqlx can take (pure). A message is a type (1 byte), a length (4
//! bytes, itself included) and a body. No body is kept but those of a few kinds that are short.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Fault;
use super::login::Login;
use super::memory::{Memory, Share};
use super::parameters::Parameters;
use super::shape::Shape;

/// How long a message may be, in bytes. All that the operator reads is cut in SQL to much less.
const MESSAGE: usize = 4 << 20;

/// How long a message may be that is kept until it is whole, in bytes; before the login is done, any.
const SHORT: usize = 64 * 1024;

/// How long all messages before the login is done may be, in bytes.
const START: usize = 256 * 1024;

/// How long a notification may be, in bytes: Postgres has at most 8000 for its text and 63 for its channel.
const NOTIFICATION: usize = 8 * 1024;

/// How long the description of a row may be, in bytes: 1,664 columns with names of 63 bytes.
const DESCRIPTION: usize = 256 * 1024;

/// What sqlx keeps beside each message and each value of a row, in bytes.
const BESIDE: u64 = 128;
const BESIDE_VALUE: u64 = 12;

/// See the module.
pub(super) struct Filter {
    login: Login,
    parameters: Parameters,
    share: Share,
    /// Whether the login is done.
    started: bool,
    /// How many bytes came before that.
    start: usize,
    header: [u8; 5],
    filled: usize,
    message: Option<Message>,
    /// The body of a message that is kept.
    held: Vec<u8>,
    /// How many bytes came that nobody waits for.
    noise: usize,
}

/// A message that has begun.
struct Message {
    kind: u8,
    /// How much of its body is still to come.
    left: usize,
    course: Course,
}

/// What is done with it.
enum Course {
    /// It is passed on as it comes.
    Pass(Shape),
    /// It is kept until it is whole, and passed on once it was found good.
    Hold,
    /// It is not passed on.
    Drop,
}

/// Why no more is passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) fault: Fault,
    /// Whether all that was passed on are whole messages, so that another one may follow.
    pub(super) between_messages: bool,
}

impl Filter {
    /// For a new connection. `trusted`: the password may be sent as the server asks for it.
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

    /// Whether the login is done.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// Cancelled once the answer must end because those of all connections take too much.
    pub(super) fn ended(&self) -> CancellationToken {
        self.share.ended()
    }

    /// Whether all that was passed on are whole messages.
    pub(super) fn is_between_messages(&self) -> bool {
        !matches!(self.message, Some(Message { course: Course::Pass(_), .. }))
    }

    /// How many bytes came since this was last asked for that nobody waits for: notices, notifications, settings.
    pub(super) fn take_noise(&mut self) -> usize {
        std::mem::take(&mut self.noise)
    }

    /// Adds to `output` what may be passed on once `input` has come. After an error nothing more may be.
    pub(super) fn feed(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<(), Stop> {
        // Where the message begins in the output that it is in; none: it began earlier, and part of it was passed on.
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

    /// Takes what is there of a header. A message without a body is at its end with it.
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

    /// What is done with a message of this kind whose body is so long.
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
            // sqlx's buffer grows to up to twice a long message.
            let kept = if length > SHORT { 2 * length } else { length };
            self.share.take(kept as u64 + BESIDE)?;
        }
        Ok(course)
    }

    /// Takes what is there of a body.
    fn body(&mut self, mut message: Message, input: &mut &[u8], output: &mut Vec<u8>) -> Result<(), Fault> {
        let (part, rest) = input.split_at(input.len().min(message.left));
        *input = rest;
        message.left -= part.len();
        match &mut message.course {
            Course::Pass(shape) => {
                // With a body still to come there is nothing to follow after the header alone.
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
                // The room is kept unless it was large.
                self.held = if held.capacity() <= NOTIFICATION { held } else { Vec::new() };
                self.held.clear();
            }
            Course::Drop => self.noise += self.header.len(),
            Course::Pass(_) => {}
        }
        Ok(())
    }

    /// Checks a message that was kept.
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
