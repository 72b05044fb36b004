//! What people are told: a message, what it looks like, and the ways to deliver it. Knows nothing of SQL or Kubernetes.
//!
//! ```text
//! digest (who is told) → message → template (view → rendered) → email (mail, session) or webhook (body, signature)
//! ```

mod body;
mod budget;
pub mod digest;
pub mod email;
pub mod error;
mod mail;
pub mod message;
mod metered;
pub(crate) mod plain;
mod room;
mod sample;
mod session;
mod signature;
pub mod template;
mod trust;
mod view;
pub mod webhook;

pub use error::SendError;
pub use message::Message;
pub use template::{Rendered, TemplateError, Templates};

use crate::net::Dialer;

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To one recipient, by e-mail.
    Email {
        /// By way of this mail server.
        server: email::Server,
        /// The address: `local@domain`, or whatever a table has in place of one.
        to: String,
    },
    /// To an endpoint, by HTTP.
    Webhook(webhook::Target),
}

/// What became of an attempt to deliver.
#[derive(Debug)]
pub struct Delivery {
    /// `Ok`: whoever is there has the message.
    pub outcome: Result<(), SendError>,
    /// Which templates could not be used; their parts were the default ones.
    pub template_errors: Vec<TemplateError>,
}

impl Destination {
    /// Tries once to deliver a message, for at most [`email::LIMIT`] or [`webhook::LIMIT`].
    /// `dialer` makes the connection.
    pub async fn deliver(&self, dialer: &Dialer, templates: &Templates, message: &Message) -> Delivery {
        let (rendered, template_errors) = templates.render(message);
        let outcome = match self {
            Self::Email { server, to } => email::send(dialer, server, to, &rendered, message).await,
            Self::Webhook(target) => webhook::send(dialer, target, &rendered, message).await,
        };
        Delivery { outcome, template_errors }
    }
}
