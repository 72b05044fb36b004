//! What people are told: a message, what it looks like, and the ways to deliver it. Knows nothing of SQL or Kubernetes.

pub mod digest;
pub mod message;

pub use message::Message;
