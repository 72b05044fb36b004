//! An object that could be read, shared with the cache: a pass over ten thousand of them copies none.

use std::ops::Deref;
use std::sync::Arc;

use crate::api::JobExecution;
use crate::kubernetes::guarded::Guarded;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Object(Arc<Guarded<JobExecution>>);

impl Object {
    /// The object, if it could be read.
    pub(super) fn readable(guarded: Arc<Guarded<JobExecution>>) -> Option<Self> {
        guarded.0.is_ok().then_some(Self(guarded))
    }
}

impl From<JobExecution> for Object {
    fn from(execution: JobExecution) -> Self {
        Self(Arc::new(Guarded(Ok(execution))))
    }
}

impl Deref for Object {
    type Target = JobExecution;

    fn deref(&self) -> &JobExecution {
        match &self.0.0 {
            Ok(execution) => execution,
            Err(_) => unreachable!("it was readable"),
        }
    }
}
