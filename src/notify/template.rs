//! Renders messages: templates in Jinja, each with a default as a fallback.

use std::borrow::Cow;
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};

use super::message::Message;
use super::view::View;
use super::{sample, sanitize, stack};
use crate::api::notifications;

/// Limit of a subject, in characters.
pub(super) const MAX_SUBJECT: usize = 200;

/// Limit of a rendered text or HTML, in bytes.
const MAX_OUTPUT: usize = 256 * 1024;

/// Limit of the work for one part, in instructions or 64 bytes of data: ten times what the default needs for a full message.
const FUEL: u64 = 200_000;

/// How many `+` and `~` a custom template may have: the engine evaluates a chain of constants while it compiles, which
/// [`FUEL`] does not cover and which takes time that grows with the square of their number.
const MAX_CONCATENATIONS: usize = 500;

/// Limit of recursive loops.
const RECURSION: usize = 50;

/// How much of an error is reported, in characters.
const MAX_ERROR: usize = 200;

/// A rendered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line of at most 200 characters.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML that loads nothing.
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
    /// Returns the name of the field in the spec.
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
    /// The part.
    pub part: Part,
    /// The line in the template, from 1, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

struct At(Option<usize>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// The templates of a store: custom ones and the defaults.
#[derive(Clone, Debug)]
pub struct Templates {
    environment: Environment<'static>,
    /// The custom templates, and their length in bytes.
    custom: Vec<(Part, usize)>,
}

impl Templates {
    /// Compiles the templates of a spec, and tries them on an example. A part with a syntax error falls back to the default; a
    /// part that fails on the example is kept, and tried on each message.
    pub fn new(spec: Option<&notifications::Templates>) -> (Self, Vec<TemplateError>) {
        let mut templates = Self { environment: environment(), custom: Vec::new() };
        let mut errors = Vec::new();
        let example = Value::from(Serde(View::of(&sample::message())));
        let none = notifications::Templates::default();
        let notifications::Templates { subject, text, html } = spec.unwrap_or(&none);
        for (part, source) in [(Part::Subject, subject), (Part::Text, text), (Part::Html, html)] {
            let default = Cow::Borrowed(part.default_source());
            if let Err(error) = templates.environment.add_template_owned(part.default_name(), default) {
                errors.push(template_error(part, &error));
            }
            let Some(source) = source.clone() else { continue };
            errors.extend(templates.add(part, source, &example).err());
        }
        (templates, errors)
    }

    /// Compiles a custom template, and tries it.
    fn add(&mut self, part: Part, source: String, example: &Value) -> Result<(), TemplateError> {
        if source.matches(['+', '~']).count() > MAX_CONCATENATIONS {
            let message = format!("it has more than {MAX_CONCATENATIONS} of + and ~");
            return Err(TemplateError { part, line: None, message });
        }
        let length = source.len();
        let environment = &mut self.environment;
        let add = || environment.add_template_owned(part.as_str(), source);
        stack::with_stack(length, add)
            .map_err(unexpected(part))?
            .map_err(|error| template_error(part, &error))?;
        self.custom.push((part, length));
        self.rendered(part.as_str(), part, length, example).map(drop)
    }

    /// Renders a message. A part that fails falls back to the default.
    pub fn render(&self, message: &Message) -> (Rendered, Vec<TemplateError>) {
        let view = View::of(message);
        let value = Value::from(Serde(&view));
        let mut errors = Vec::new();
        let mut part = |part| self.part(part, &value, &mut errors).unwrap_or_else(|| view.summary.clone());
        let rendered = Rendered {
            subject: sanitize::line(&part(Part::Subject), MAX_SUBJECT),
            text: part(Part::Text),
            html: part(Part::Html),
        };
        (rendered, errors)
    }

    fn part(&self, part: Part, view: &Value, errors: &mut Vec<TemplateError>) -> Option<String> {
        let custom = self.custom.iter().find(|(custom, _)| *custom == part);
        let custom = custom.map(|(_, length)| (part.as_str().to_owned(), *length));
        for (name, length) in custom.into_iter().chain([(part.default_name(), part.default_source().len())]) {
            match self.rendered(&name, part, length, view) {
                Ok(text) => return Some(text),
                Err(error) => errors.push(error),
            }
        }
        None
    }

    fn rendered(&self, name: &str, part: Part, length: usize, view: &Value) -> Result<String, TemplateError> {
        let render = || self.environment.get_template(name)?.render(view);
        let rendered = stack::with_stack(length, render).map_err(unexpected(part))?;
        let text = rendered.map_err(|error| template_error(part, &error))?;
        if text.len() <= MAX_OUTPUT {
            return Ok(text);
        }
        let message = format!("its output is longer than {MAX_OUTPUT} bytes");
        Err(TemplateError { part, line: None, message })
    }
}

fn unexpected(part: Part) -> impl Fn(std::io::Error) -> TemplateError {
    move |error| TemplateError { part, line: None, message: error.to_string() }
}

/// Creates an engine that cannot load or include anything, rejects unknown names, and escapes values in HTML.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    // Not needed here, and able to build endlessly nested values.
    for name in ["namespace", "dict", "debug"] {
        environment.remove_global(name);
    }
    environment.set_debug(true);
    environment.set_auto_escape_callback(|name| match name {
        name if name.ends_with(Part::Html.as_str()) => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    // A line with only a block leaves no empty line behind. Building cannot fail with the default delimiters.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment
}

fn template_error(part: Part, error: &Error) -> TemplateError {
    let mut message = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let place = error.range().and_then(|range| error.template_source()?.get(range));
    if let Some(place) = place.filter(|place| !place.is_empty() && !message.contains(place)) {
        message.push_str(&format!(" at `{place}`"));
    }
    TemplateError { part, line: error.line(), message: sanitize::line(&message, MAX_ERROR) }
}
