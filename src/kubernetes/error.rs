//! Calls to the API server, each with a time limit, and the errors of a reconcile.

use std::time::Duration;

use crate::boundary::Panicked;

/// The longest that a call to the API server takes, the client's own retries included.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// A reconcile that failed. It is tried again with backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused the call or is unreachable.
    #[error("the Kubernetes API: {0}")]
    Kube(#[from] Box<kube::Error>),
    /// The database's records could not be read.
    #[error("the database: {0}")]
    Database(#[from] crate::db::DbError),
    /// A panic, which is a bug.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The API server did not answer in time.
    #[error("the Kubernetes API did not answer within {API_TIMEOUT:?}")]
    Timeout,
}

impl ReconcileError {
    /// The HTTP status of a refusal.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// Reports whether the API server refuses the request, for example because of a missing permission or quota: an
    /// immediate retry is useless.
    pub(crate) fn refused(&self) -> bool {
        self.code().is_some_and(|code| (400..500).contains(&code) && code != 429)
    }
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Bounds the duration of one call to the API server.
pub(crate) async fn bounded<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReconcileError> {
    tokio::time::timeout(API_TIMEOUT, call).await.map_err(|_| ReconcileError::Timeout)?.map_err(Into::into)
}
