//! Extractors for queries, paths and bodies that return problem details instead of axum's plain text.

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::limits::{BODY_LIMIT, BODY_TIMEOUT};
use super::problem::Problem;

/// The query. Unknown parameters are rejected: one may be a misspelt `dry_run`.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(query) =
            query.map_err(|error| Problem::InvalidParameter(source_of(&error)))?;
        Ok(Self(query))
    }
}

/// The variable parts of the path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(path) = path.map_err(|error| Problem::InvalidParameter(source_of(&error)))?;
        Ok(Self(path))
    }
}

/// Reads a body, with limits on its size and on its total time.
pub(super) async fn read_body(body: axum::body::Body) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect());
    match read.await.map_err(|_| Problem::BodyTooSlow)? {
        Ok(read) => Ok(read.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::BodyTooLarge),
        Err(error) => Err(Problem::InvalidBody(source_of(&*error))),
    }
}

/// A JSON body, or none.
pub(super) struct Body<T>(pub(super) Option<T>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(None));
        }
        let type_ = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json = type_.is_some_and(is_json);
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Problem::InvalidBody(source_of(&error)))?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        if !json {
            return Err(Problem::UnsupportedMediaType);
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Problem::InvalidBody(error.to_string()))
    }
}

fn is_json(type_: &str) -> bool {
    let essence = type_.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Returns the text of the innermost error: the outer ones only say that there was one.
fn source_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), source_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_media_type() {
        assert!(is_json("application/json") && is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("application/x-www-form-urlencoded") && !is_json("text/json") && !is_json(""));
    }
}
