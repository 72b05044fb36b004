//! The names under which the operator applies fields (server-side apply).

/// Applies the status of objects.
pub(crate) const FIELD_MANAGER: &str = "jobexec-operator";

/// Applies the condition of an object that cannot be decoded. Applied under [`FIELD_MANAGER`], it would remove the rest
/// of the status, which remembers that a cancel was carried out and that the circuit breaker was closed. The next regular
/// status removes the condition.
pub(crate) const REFUSAL_MANAGER: &str = "jobexec-refusal";

/// Creates and labels the `JobExecution` objects of executions.
pub(crate) const OBJECTS_MANAGER: &str = "jobexec-objects";
