//! The errors of the API as problem details (RFC 9457), each with a reason from a fixed set and a sentence that says
//! what to do.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::limits::{BODY_LIMIT, BODY_TIMEOUT};
use crate::db::DbError;

/// The media type of problem details.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The error of a request.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// An anonymous caller does not have the right.
    #[error(
        "a token is required: send the header `Authorization: Bearer TOKEN`, for example with the output of `kubectl create token NAME`"
    )]
    Unauthenticated,
    /// The token is not valid.
    #[error("the token was rejected: {0}. Get a new one, for example with `kubectl create token NAME`")]
    TokenRefused(String),
    /// The caller does not have the right.
    #[error(
        "{user} may not {permission}: bind the ClusterRole jobexec-reader, jobexec-administrator, jobexec-health or jobexec-metrics, or select a store that you have access to with store=NAMESPACE/NAME"
    )]
    Forbidden {
        /// The name of the caller.
        user: String,
        /// The missing right.
        permission: String,
    },
    /// Kubernetes does not answer.
    #[error("Kubernetes cannot check your permissions at present: {0}. Try again soon")]
    AuthorizerUnavailable(String),
    /// The path does not exist.
    #[error("this path does not exist: GET /api/openapi.json lists all paths")]
    NotFound,
    /// The path does not support the method.
    #[error(
        "this path does not support the method: the header Allow and GET /api/openapi.json list the supported ones"
    )]
    MethodNotAllowed,
    /// A parameter of the query or the path is not valid.
    #[error("{0}")]
    InvalidParameter(String),
    /// The body is not valid.
    #[error("the body is not valid: {0}")]
    InvalidBody(String),
    /// The body is not JSON.
    #[error(
        "the body must be JSON: send it with the header `Content-Type: application/json`, or send no body"
    )]
    UnsupportedMediaType,
    /// The body is too large.
    #[error("the body has more than {BODY_LIMIT} bytes: send a smaller one, for example with fewer ids")]
    BodyTooLarge,
    /// The body arrives too slowly.
    #[error("the body did not arrive within {BODY_TIMEOUT:?}: send all of it at once")]
    BodyTooSlow,
    /// The operator manages no store with this name.
    #[error("this operator manages no ExecutionStore {0}")]
    StoreNotFound(String),
    /// The operator has just started.
    #[error("the operator has not read all ExecutionStores yet: try again soon")]
    StoresNotSeen,
    /// The store is not ready.
    #[error("ExecutionStore {store} is not ready ({why}): {message}")]
    StoreNotReady {
        /// The name of the store.
        store: String,
        /// The reason of its condition `Ready`.
        why: String,
        /// The message of that condition.
        message: String,
    },
    /// The table cannot hold the execution id.
    #[error("invalid id {id:?}: the ids of this table are of type {type_}")]
    InvalidExecutionId {
        /// The id, shortened.
        id: String,
        /// The SQL type of the ids.
        type_: &'static str,
    },
    /// The table cannot hold the job id.
    #[error("invalid job id {id:?}: the job ids of this table are of type {type_}")]
    InvalidJobId {
        /// The id, shortened.
        id: String,
        /// The SQL type of the job ids.
        type_: &'static str,
    },
    /// The execution does not exist.
    #[error("the store {store} has no execution {id}{}", if *.outside { ": table.filter excludes its row, so the operator ignores it" } else { "" })]
    ExecutionNotFound {
        /// The name of the store.
        store: String,
        /// The id of the execution.
        id: String,
        /// Whether a row with this id exists, but `table.filter` excludes it.
        outside: bool,
    },
    /// The operator's own tables are missing.
    #[error(
        "ExecutionStore {0} has no records: apply `jobexec schema`, and see its condition AuditAvailable"
    )]
    NothingRecorded(String),
    /// Another clean-up of the store is running.
    #[error(
        "a clean-up of {0} is already running: wait until it has ended, then check whether anything is left to clean up"
    )]
    CleanupUnderWay(String),
    /// The spec of the store does not enable the evidence that the clean-up is about.
    #[error("{0}")]
    EvidenceNotAsked(String),
    /// The store cannot have executions retried at a person's request.
    #[error("no execution of {store} can be retried: {why}")]
    RetryNotPossible {
        /// The name of the store.
        store: String,
        /// The reason, and what to do.
        why: String,
    },
    /// The execution is not retried.
    #[error("execution {id} is not retried: {why}")]
    NotRetried {
        /// The id of the execution.
        id: String,
        /// The reason.
        why: String,
    },
    /// The database returned an error or did not answer.
    #[error("the database of {store}: {error}")]
    Database {
        /// The name of the store.
        store: String,
        /// The error of the database.
        error: DbError,
    },
    /// The caller has too many concurrent requests.
    #[error(
        "this caller already has {0} concurrent requests, which is the maximum: wait until one of them ends"
    )]
    TooManyRequests(usize),
    /// Kubernetes rejected too many tokens from the caller's address.
    #[error("too many rejected tokens came from this address: try again in half a minute with a valid token")]
    TooManyAttempts,
    /// There are too many concurrent requests.
    #[error("too many concurrent requests: try again soon")]
    Overloaded,
    /// The operator is stopping.
    #[error("the operator is stopping: request the rest again once it, or another replica, is ready")]
    Stopping,
    /// Other requests are reading the store.
    #[error("ExecutionStore {0} is busy with other requests: try again soon")]
    Busy(String),
    /// The request exceeded its time limit.
    #[error(
        "the request did not finish within {0:?}: request less, or try again. A clean-up continues in the background"
    )]
    TimedOut(Duration),
    /// A bug. The details are only logged, since they can contain anything.
    #[error("internal error: please report it together with the operator's log of this time")]
    Internal(String),
}

impl Problem {
    /// Returns the status, the reason (one word for programs), and the title of the problem. The title depends only on
    /// the reason.
    pub const fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        let (reason, title) = self.reason_and_title();
        (self.status(), reason, title)
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidParameter(_)
            | Self::InvalidBody(_)
            | Self::InvalidExecutionId { .. }
            | Self::InvalidJobId { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthenticated | Self::TokenRefused(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound | Self::StoreNotFound(_) | Self::ExecutionNotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::CleanupUnderWay(_)
            | Self::EvidenceNotAsked(_)
            | Self::RetryNotPossible { .. }
            | Self::NotRetried { .. } => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyRequests(_) | Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::AuthorizerUnavailable(_)
            | Self::StoresNotSeen
            | Self::StoreNotReady { .. }
            | Self::NothingRecorded(_)
            | Self::Database { .. }
            | Self::Overloaded
            | Self::Stopping
            | Self::Busy(_)
            | Self::TimedOut(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn reason_and_title(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unauthenticated => ("Unauthenticated", "A token is required"),
            Self::TokenRefused(_) => ("TokenRefused", "The token was rejected"),
            Self::Forbidden { .. } => ("Forbidden", "The caller does not have the right"),
            Self::AuthorizerUnavailable(_) => ("AuthorizerUnavailable", "Kubernetes does not answer"),
            Self::NotFound => ("NotFound", "The path does not exist"),
            Self::MethodNotAllowed => ("MethodNotAllowed", "The path does not support the method"),
            Self::InvalidParameter(_) => ("InvalidParameter", "A parameter is not valid"),
            Self::InvalidBody(_) => ("InvalidBody", "The body is not valid"),
            Self::UnsupportedMediaType => ("UnsupportedMediaType", "The body is not JSON"),
            Self::BodyTooLarge => ("BodyTooLarge", "The body is too large"),
            Self::BodyTooSlow => ("BodyTooSlow", "The body arrives too slowly"),
            Self::TooManyRequests(_) => ("TooManyRequests", "The caller has too many concurrent requests"),
            Self::TooManyAttempts => ("TooManyAttempts", "Too many tokens were rejected"),
            Self::StoreNotFound(_) => ("StoreNotFound", "The store does not exist"),
            Self::StoresNotSeen => ("StoresNotSeen", "The operator is starting"),
            Self::StoreNotReady { .. } => ("StoreNotReady", "The store is not ready"),
            Self::InvalidExecutionId { .. } => ("InvalidExecutionId", "The execution id is not valid"),
            Self::InvalidJobId { .. } => ("InvalidJobId", "The job id is not valid"),
            Self::ExecutionNotFound { .. } => ("ExecutionNotFound", "The execution does not exist"),
            Self::NothingRecorded(_) => ("NothingRecorded", "There are no records"),
            Self::CleanupUnderWay(_) => ("CleanupUnderWay", "A clean-up is already running"),
            Self::EvidenceNotAsked(_) => ("EvidenceNotAsked", "The store does not enable this evidence"),
            Self::RetryNotPossible { .. } => ("RetryNotPossible", "The store cannot have executions retried"),
            Self::NotRetried { .. } => ("NotRetried", "The execution is not retried"),
            Self::Database { error, .. } => (error.reason(), "The database request failed"),
            Self::Busy(_) => ("Busy", "The store is busy"),
            Self::Overloaded => ("Overloaded", "There are too many concurrent requests"),
            Self::Stopping => ("Stopping", "The operator is stopping"),
            Self::TimedOut(_) => ("TimedOut", "The request took too long"),
            Self::Internal(_) => ("Internal", "Internal error"),
        }
    }

    /// Returns the problem details.
    pub fn details(&self) -> Details {
        let (status, reason, title) = self.kind();
        Details {
            type_: format!("urn:jobexec:problem:{reason}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            reason: reason.to_owned(),
        }
    }
}

/// An error of a request (RFC 9457).
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Details {
    /// Identifies the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:jobexec:problem:StoreNotFound")]
    pub type_: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The status of the response.
    #[schema(example = 404)]
    pub status: u16,
    /// The cause of this problem, and what to do.
    pub detail: String,
    /// The kind of problem in one word.
    #[schema(example = "StoreNotFound")]
    pub reason: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}

impl Problem {
    /// Returns the delay after which to retry, in seconds, if retrying helps.
    pub(super) fn retry_after(&self) -> Option<HeaderValue> {
        match self.kind().0 {
            StatusCode::TOO_MANY_REQUESTS if matches!(self, Self::TooManyAttempts) => {
                Some(HeaderValue::from_static("30"))
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Some(HeaderValue::from_static("2"))
            }
            _ => None,
        }
    }

    /// Returns the response with the problem details.
    pub(super) fn response(&self) -> Response {
        let details = self.details();
        let (status, ..) = self.kind();
        if let Self::Internal(error) = self {
            tracing::error!(error, "internal server error");
        }
        let more: Option<(HeaderName, HeaderValue)> = if status == StatusCode::UNAUTHORIZED {
            Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"jobexec\"")))
        } else {
            self.retry_after().map(|after| (RETRY_AFTER, after))
        };
        let mut response = (status, Json(details)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().extend(more);
        response
    }
}
