//! What can be wrong with a request, as problem details (RFC 9457): a bounded reason and a sentence that says what to do.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::limits::{BODY_LIMIT, BODY_TIME};
use crate::db::DbError;

/// The media type of problem details.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nobody asks, and nobody may.
    #[error(
        "this needs a token: send the header `Authorization: Bearer TOKEN`, for example of `kubectl create token NAME`"
    )]
    Unauthenticated,
    /// The token is not one.
    #[error("the token is refused: {0}. Get a new one, for example with `kubectl create token NAME`")]
    TokenRefused(String),
    /// The caller may not.
    #[error(
        "{user} may not {access}: bind the ClusterRole jobexec-reader, jobexec-administrator, jobexec-health or jobexec-metrics, or name a store that you may see with store=NAMESPACE/NAME"
    )]
    Forbidden {
        /// Who.
        user: String,
        /// What.
        access: String,
    },
    /// Kubernetes could not be asked.
    #[error("whether you may do this cannot be asked at present: {0}. Try again soon")]
    AuthorizerUnavailable(String),
    /// There is nothing at this path.
    #[error("there is nothing here: GET /api/openapi.json lists what there is")]
    NotFound,
    /// Not with this method.
    #[error("not with this method: the header Allow and GET /api/openapi.json say which ones there are")]
    MethodNotAllowed,
    /// A parameter of the query or the path.
    #[error("{0}")]
    InvalidParameter(String),
    /// The body.
    #[error("the body cannot be used: {0}")]
    InvalidBody(String),
    /// The body is not JSON.
    #[error("the body must be JSON: send it with the header `Content-Type: application/json`, or none")]
    UnsupportedMediaType,
    /// The body is too big.
    #[error("the body has more than {BODY_LIMIT} bytes: nothing here needs as many")]
    BodyTooLarge,
    /// The body comes too slowly.
    #[error("the body did not arrive within {BODY_TIME:?}: send all of it at once")]
    BodyTooSlow,
    /// The operator does not know a store of this name.
    #[error("there is no ExecutionStore {0} that this operator looks after")]
    StoreNotFound(String),
    /// The operator has just started.
    #[error("the operator has not seen all ExecutionStores yet: try again soon")]
    StoresNotSeen,
    /// The store cannot be worked on.
    #[error("the ExecutionStore {store} cannot be used at present ({why}): {message}")]
    StoreNotReady {
        /// Which one.
        store: String,
        /// The reason of its condition `Ready`.
        why: String,
        /// The message of that condition.
        message: String,
    },
    /// No row of this table can have the id.
    #[error("{id:?} is no id of this table, whose ids are of type {type_}")]
    InvalidExecutionId {
        /// What was given.
        id: String,
        /// The type of the ids.
        type_: &'static str,
    },
    /// No job of this table can have the id.
    #[error("{id:?} is no job id of this table, whose job ids are of type {type_}")]
    InvalidJobId {
        /// What was given.
        id: String,
        /// The type of the ids.
        type_: &'static str,
    },
    /// There is no such row.
    #[error("the store {store} has no execution {id}{}", if *.outside { ": its row is outside of table.filter, and is left alone" } else { "" })]
    ExecutionNotFound {
        /// The store.
        store: String,
        /// The id.
        id: String,
        /// Whether there is a row that `table.filter` leaves out.
        outside: bool,
    },
    /// The operator's own tables are missing.
    #[error(
        "nothing is recorded of {0}: apply `jobexec schema`, see the condition AuditAvailable of the store"
    )]
    NothingRecorded(String),
    /// Somebody else is at it.
    #[error(
        "a clean-up of {0} is under way: wait until it has ended, then look whether there is anything left to do"
    )]
    CleanupUnderWay(String),
    /// The spec of the store does not ask for the evidence that a clean-up is about.
    #[error("{0}")]
    EvidenceNotAsked(String),
    /// The database.
    #[error("the database of {store}: {error}")]
    Database {
        /// The store.
        store: String,
        /// What it said.
        error: DbError,
    },
    /// The caller has too many requests under way.
    #[error(
        "this caller has {0} requests under way already, which is the most for one: wait until one of them ends"
    )]
    TooManyRequests(usize),
    /// Too many tokens that Kubernetes refused came from the address of the caller.
    #[error(
        "too many refused tokens come from this address: send a token that counts, and try again in half a minute"
    )]
    TooManyAttempts,
    /// Too many requests at once.
    #[error("too many requests at once: try again soon")]
    Overloaded,
    /// The operator ends.
    #[error("the operator was asked to stop: ask again for the rest once it, or another one, is ready")]
    Stopping,
    /// Others read it.
    #[error("others read ExecutionStore {0}, and it takes long: try again")]
    Busy(String),
    /// It took too long.
    #[error(
        "no answer was found within {0:?}: ask for less, or try again. A clean-up goes on without being waited for"
    )]
    TimedOut(Duration),
    /// This should not be. What happened is for the log only, as it may have been anything.
    #[error("the operator met a defect: please report it with what its log says at this time")]
    Internal(String),
}

impl Problem {
    /// The status, one word for programs, and a title that is the same for all problems of the kind.
    pub const fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthenticated", "A token is needed"),
            Self::TokenRefused(_) => (StatusCode::UNAUTHORIZED, "TokenRefused", "The token is refused"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden", "The caller has not the right"),
            Self::AuthorizerUnavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "AuthorizerUnavailable", "Kubernetes cannot be asked")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "NotFound", "There is no such path"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The path has no such method")
            }
            Self::InvalidParameter(_) => {
                (StatusCode::BAD_REQUEST, "InvalidParameter", "A parameter cannot be used")
            }
            Self::InvalidBody(_) => (StatusCode::BAD_REQUEST, "InvalidBody", "The body cannot be used"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", "The body is not JSON")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", "The body is too large"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "BodyTooSlow", "The body comes too slowly"),
            Self::TooManyRequests(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                "The caller has too many requests under way",
            ),
            Self::TooManyAttempts => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyAttempts", "Too many tokens were refused")
            }
            Self::StoreNotFound(_) => (StatusCode::NOT_FOUND, "StoreNotFound", "There is no such store"),
            Self::StoresNotSeen => {
                (StatusCode::SERVICE_UNAVAILABLE, "StoresNotSeen", "The operator is starting")
            }
            Self::StoreNotReady { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "StoreNotReady", "The store cannot be used at present")
            }
            Self::InvalidExecutionId { .. } => {
                (StatusCode::BAD_REQUEST, "InvalidExecutionId", "The table has no such ids")
            }
            Self::InvalidJobId { .. } => {
                (StatusCode::BAD_REQUEST, "InvalidJobId", "The table has no such jobs")
            }
            Self::ExecutionNotFound { .. } => {
                (StatusCode::NOT_FOUND, "ExecutionNotFound", "There is no such execution")
            }
            Self::NothingRecorded(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "NothingRecorded", "There are no records")
            }
            Self::CleanupUnderWay(_) => (StatusCode::CONFLICT, "CleanupUnderWay", "A clean-up is under way"),
            Self::EvidenceNotAsked(_) => {
                (StatusCode::CONFLICT, "EvidenceNotAsked", "The store does not ask for that evidence")
            }
            Self::Database { error, .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, error.reason(), "The database did not do its part")
            }
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "Busy", "Others read this store"),
            Self::Overloaded => {
                (StatusCode::SERVICE_UNAVAILABLE, "Overloaded", "There are too many requests at once")
            }
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "Stopping", "The operator is stopping"),
            Self::TimedOut(_) => (StatusCode::SERVICE_UNAVAILABLE, "TimedOut", "The request took too long"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal", "The operator has a defect"),
        }
    }

    /// As it is sent.
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

/// What is wrong with a request (RFC 9457).
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Details {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:jobexec:problem:StoreNotFound")]
    pub type_: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The status of the answer.
    #[schema(example = 404)]
    pub status: u16,
    /// What is wrong with this request, and what to do.
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
    /// When to try again, in seconds, where that helps.
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

    /// As an answer.
    pub(super) fn response(&self) -> Response {
        let details = self.details();
        let (status, ..) = self.kind();
        if let Self::Internal(error) = self {
            tracing::error!(error, "a request met a defect");
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
