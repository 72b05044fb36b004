//! An object that could be decoded, shared with the cache: a pass over ten thousand objects copies none.

use std::ops::Deref;
use std::sync::Arc;

use crate::api::JobExecution;
use crate::kubernetes::guarded::Guarded;

/// A decoded object, shared with the cache.
#[derive(Clone, Debug)]
pub(super) struct Object(Arc<Guarded<JobExecution>>);

impl Object {
    /// Returns the object, if it could be decoded.
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
