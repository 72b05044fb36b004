//! Why a schema is not used.

/// Why a schema that is there is not used: nothing in it is read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One word for a condition's reason.
    pub reason: &'static str,
    /// What is wrong, and the statements that mend it.
    pub why: String,
    /// Whether records of the login's may be in it: its owner is trusted.
    pub owner_trusted: bool,
}
