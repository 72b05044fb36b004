//! The labels that the operator sets on `JobExecution` objects.

/// The label with the name of the store.
pub const STORE: &str = "jobexec.dev/store";

/// The label with the id of the job.
pub const JOB: &str = "jobexec.dev/job";

/// The label with the type of the job, where the store knows types.
pub const TYPE: &str = "jobexec.dev/type";

/// The label with where the execution stands, in lower case.
pub const PHASE: &str = "jobexec.dev/phase";

/// All of them.
pub const LABELS: [&str; 4] = [STORE, JOB, TYPE, PHASE];
