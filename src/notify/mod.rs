//! Notifications: messages, templates and delivery. Does not depend on SQL or Kubernetes.
//!
//! ```text
//! digest (recipients) → message → template (view → rendered) → email (mail, session) or webhook (payload, signature)
//! ```

mod deadline;
pub mod digest;
pub mod email;
pub mod error;
mod limited_stream;
mod mail;
pub mod message;
mod payload;
mod sample;
pub(crate) mod sanitize;
pub mod server;
mod session;
mod signature;
mod stack;
pub mod template;
mod tls_roots;
mod view;
pub mod webhook;

pub use error::SendError;
pub use message::Message;
pub use template::{Rendered, TemplateError, Templates};

use crate::net::Dialer;

/// The destination of a message.
#[derive(Clone, Debug)]
pub enum Destination {
    /// One e-mail recipient.
    Email {
        /// The mail server to use.
        server: server::Server,
        /// The address: `local@domain`, or whatever the owner column of a table contains.
        to: String,
    },
    /// An HTTP endpoint.
    Webhook(webhook::Target),
}

/// The result of a delivery attempt.
#[derive(Debug)]
pub struct Delivery {
    /// `Ok` if the peer has accepted the message.
    pub outcome: Result<(), SendError>,
    /// The templates that could not be used; the default templates replaced them.
    pub template_errors: Vec<TemplateError>,
}

impl Destination {
    /// Tries once to deliver a message, for at most [`email::LIMIT`] or [`webhook::LIMIT`]. `dialer` opens the connection.
    pub async fn deliver(&self, dialer: &Dialer, templates: &Templates, message: &Message) -> Delivery {
        let (rendered, template_errors) = templates.render(message);
        let outcome = match self {
            Self::Email { server, to } => email::send(dialer, server, to, &rendered, message).await,
            Self::Webhook(target) => webhook::send(dialer, target, &rendered, message).await,
        };
        Delivery { outcome, template_errors }
    }
}
