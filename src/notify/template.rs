//! What a message looks like: templates in the language of Jinja, each with a default to fall back on.

use std::borrow::Cow;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};

use super::message::Message;
use super::view::View;
use super::{plain, room, sample};
use crate::api::notifications;

/// How long a subject is at most, in characters.
pub(super) const SUBJECT: usize = 200;

/// How long a text or an HTML is at most, in bytes.
const LONGEST: usize = 256 * 1024;

/// How much work one part may be, in instructions or 64 bytes of data: ten times what the default of a full message needs.
const FUEL: u64 = 200_000;

/// How many `+` and `~` an own template may have: the engine works out a chain of them with constants when it compiles it,
/// which is not covered by [`FUEL`] and takes a time that grows with the square of their number.
const JOINTS: usize = 500;

/// How deep loops may call themselves.
const RECURSION: usize = 50;

/// How much of an error is told, in characters.
const TOLD: usize = 200;

/// A message as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line of at most 200 characters.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML with nothing to load.
    pub html: String,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The subject of an e-mail.
    Subject,
    /// The text of an e-mail and of a Slack message.
    Text,
    /// The HTML of an e-mail.
    Html,
}

impl Part {
    /// As the spec has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
        }
    }

    const fn default_source(self) -> &'static str {
        match self {
            Self::Subject => include_str!("templates/subject.txt"),
            Self::Text => include_str!("templates/message.txt"),
            Self::Html => include_str!("templates/message.html"),
        }
    }

    fn default_name(self) -> String {
        format!("default {}", self.as_str())
    }
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("templates.{part}{line}: {message}", part = part.as_str(), line = At(*line))]
pub struct TemplateError {
    /// Which.
    pub part: Part,
    /// In which of its lines, from 1, where that is known.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub message: String,
}

struct At(Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// The templates of a store, those of its own and the default ones.
#[derive(Clone, Debug)]
pub struct Templates {
    environment: Environment<'static>,
    /// Those that are not the default, and how long they are.
    own: Vec<(Part, usize)>,
}

impl Templates {
    /// Compiles the templates of a spec, and tries them on an example. A part with a syntax error is the default one; one
    /// that cannot be used for the example is kept, and tried on each message.
    pub fn new(spec: Option<&notifications::Templates>) -> (Self, Vec<TemplateError>) {
        let mut templates = Self { environment: environment(), own: Vec::new() };
        let mut errors = Vec::new();
        let example = Value::from(Serde(View::of(&sample::message())));
        let none = notifications::Templates::default();
        let notifications::Templates { subject, text, html } = spec.unwrap_or(&none);
        for (part, source) in [(Part::Subject, subject), (Part::Text, text), (Part::Html, html)] {
            let default = Cow::Borrowed(part.default_source());
            if let Err(error) = templates.environment.add_template_owned(part.default_name(), default) {
                errors.push(explained(part, &error));
            }
            let Some(source) = source.clone() else { continue };
            errors.extend(templates.add(part, source, &example).err());
        }
        (templates, errors)
    }

    /// Compiles an own template, and tries it.
    fn add(&mut self, part: Part, source: String, example: &Value) -> Result<(), TemplateError> {
        if source.matches(['+', '~']).count() > JOINTS {
            let message = format!("it has more than {JOINTS} of + and ~");
            return Err(TemplateError { part, line: None, message });
        }
        let length = source.len();
        let environment = &mut self.environment;
        let add = || environment.add_template_owned(part.as_str(), source);
        room::with_room(length, add).map_err(unexpected(part))?.map_err(|error| explained(part, &error))?;
        self.own.push((part, length));
        self.rendered(part.as_str(), part, length, example).map(drop)
    }

    /// What a message looks like. A part that cannot be rendered is the default one.
    pub fn render(&self, message: &Message) -> (Rendered, Vec<TemplateError>) {
        let view = View::of(message);
        let value = Value::from(Serde(&view));
        let mut errors = Vec::new();
        let mut part = |part| self.part(part, &value, &mut errors).unwrap_or_else(|| view.summary.clone());
        let rendered = Rendered {
            subject: plain::line(&part(Part::Subject), SUBJECT),
            text: part(Part::Text),
            html: part(Part::Html),
        };
        (rendered, errors)
    }

    fn part(&self, part: Part, view: &Value, errors: &mut Vec<TemplateError>) -> Option<String> {
        let own = self.own.iter().find(|(own, _)| *own == part);
        let own = own.map(|(_, length)| (part.as_str().to_owned(), *length));
        for (name, length) in own.into_iter().chain([(part.default_name(), part.default_source().len())]) {
            match self.rendered(&name, part, length, view) {
                Ok(text) => return Some(text),
                Err(error) => errors.push(error),
            }
        }
        None
    }

    fn rendered(&self, name: &str, part: Part, length: usize, view: &Value) -> Result<String, TemplateError> {
        let render = || self.environment.get_template(name)?.render(view);
        let rendered = room::with_room(length, render).map_err(unexpected(part))?;
        let text = rendered.map_err(|error| explained(part, &error))?;
        if text.len() <= LONGEST {
            return Ok(text);
        }
        let message = format!("what it makes is longer than {LONGEST} bytes");
        Err(TemplateError { part, line: None, message })
    }
}

fn unexpected(part: Part) -> impl Fn(std::io::Error) -> TemplateError {
    move |error| TemplateError { part, line: None, message: error.to_string() }
}

/// Nothing can be loaded or included, a name that does not exist is an error, and in HTML values are escaped.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    // What is of no use here, and could make a value within a value without end.
    for name in ["namespace", "dict", "debug"] {
        environment.remove_global(name);
    }
    environment.set_debug(true);
    environment.set_auto_escape_callback(|name| match name {
        name if name.ends_with(Part::Html.as_str()) => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    // A line with nothing but a block leaves no empty line behind. The usual delimiters cannot be wrong.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment
}

fn explained(part: Part, error: &Error) -> TemplateError {
    let mut message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let place = error.range().and_then(|range| error.template_source()?.get(range));
    if let Some(place) = place.filter(|place| !place.is_empty() && !message.contains(place)) {
        message.push_str(&format!(" at `{place}`"));
    }
    TemplateError { part, line: error.line(), message: plain::line(&message, TOLD) }
}
