//! What one client may take from the others, and any from the operator.

use std::time::Duration;

/// How many bytes a body may have.
pub(crate) const BODY_LIMIT: usize = 64 * 1_024;

/// The limits that whoever runs the operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request may take, its body included.
    pub request: Duration,
    /// How many requests are worked on at the same time, also those whose clients have gone; further ones are refused at once.
    /// Fewer than there may be connections, as each of those has one request at a time: else nobody would ever be told.
    pub requests: usize,
    /// How many connections each address may have. Further ones wait to be accepted. Each may hold an answer that is read
    /// slowly, and thus memory.
    pub connections: usize,
}

/// How long the TLS handshake may take.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long the head of a request may take, and how long a connection may be idle.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// How many bytes the head of a request may have.
pub(super) const HEAD_BYTES: usize = 16 * 1_024;

/// How old a connection becomes. Its client connects anew, so that one who does not read his answers does not stay.
pub(super) const CONNECTION_AGE: Duration = Duration::from_mins(10);

/// How long all that is under way may take when the operator is asked to stop: less than all of the operator has.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(3);
