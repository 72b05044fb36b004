//! The reason why a schema is not used.

/// The reason why an existing schema is not used: the operator neither reads nor writes anything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason for a condition, one word.
    pub reason: &'static str,
    /// The problem, and the statements that fix it.
    pub why: String,
    /// True if the schema may contain records of the login, because its owner is trusted.
    pub owner_trusted: bool,
}
