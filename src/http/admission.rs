//! Authenticates a request, checks whether its caller may send a body, and reads the body.
//!
//! This takes no slot and counts towards the request's time limit, so that a client that sends slowly delays only
//! itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::app::App;
use super::auth::{Caller, User};
use super::origin::Origin;
use super::problem::Problem;
use super::slots::{CallerPermit, ClientKey, Slots};
use super::{cleanup, extract, page};

/// The credentials that a group of routes accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// By the header `Authorization`. A request without it is that of `system:anonymous`.
    Token,
    /// By the cookie of the page. Errors are rendered as a page.
    Cookie,
    /// No authentication.
    None,
}

/// The state of the middleware.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) app: Arc<App>,
    pub(super) slots: Arc<Slots>,
    pub(super) credentials: Credentials,
}

/// Admits a request, with the caller in its extensions and the body read.
pub(super) async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    match admission.prepare(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// Runs a request only if a slot is free. The caller's permit is released when the work ends, not when the client
/// disconnects.
pub(super) async fn with_slot(State(slots): State<Arc<Slots>>, mut request: Request, next: Next) -> Response {
    let permit = request.extensions_mut().remove::<Arc<CallerPermit>>();
    let slot = match slots.acquire() {
        Ok(slot) => slot,
        Err(problem) => return problem.into_response(),
    };
    let response = next.run(request).await;
    drop((slot, permit));
    response
}

impl Admission {
    async fn prepare(&self, request: Request) -> Result<Request, Response> {
        let (mut parts, body) = request.into_parts();
        let origin = origin_of(&parts).map_err(Problem::into_response)?;
        let user = self.user(&parts, origin).await?;
        let client = match &user {
            Some(user) if !user.is_anonymous() => ClientKey::User(user.name.clone()),
            _ => ClientKey::Anonymous(origin),
        };
        let has_body = parts.method == Method::POST && !axum::body::HttpBody::is_end_stream(&body);
        // The files of the page are public and quick to serve, so they need no permit and cannot block a sign-in.
        let permit = if has_body || self.credentials != Credentials::None {
            Some(self.slots.acquire_for(client).map_err(|problem| self.refusal(&problem))?)
        } else {
            None
        };
        let body = if has_body {
            self.authorize(&mut parts, user.as_ref()).await?;
            extract::read_body(body).await.map_err(|problem| self.refusal(&problem))?.into()
        } else {
            // Other requests have no use for a body, so it is not read.
            Body::empty()
        };
        if let Some(permit) = permit {
            parts.extensions.insert(Arc::new(permit));
        }
        if let Some(user) = user {
            parts.extensions.insert(user);
        }
        Ok(Request::from_parts(parts, body))
    }

    async fn user(&self, parts: &Parts, origin: Origin) -> Result<Option<Arc<User>>, Response> {
        let authorizer = &self.app.authorizer;
        match self.credentials {
            Credentials::Token => authorizer
                .authenticate_request(&parts.headers, origin)
                .await
                .map(Some)
                .map_err(Problem::into_response),
            Credentials::Cookie => page::user(authorizer, &parts.headers, origin).await.map(Some),
            Credentials::None => Ok(None),
        }
    }

    /// Rejects callers without the right to send a body before it is read. Signing in is open to everybody, since the
    /// token is in the body.
    async fn authorize(&self, parts: &mut Parts, user: Option<&Arc<User>>) -> Result<(), Response> {
        let Some(user) = user else { return Ok(()) };
        let caller = Caller(user.clone());
        let allowed = match self.credentials {
            Credentials::Token => cleanup::authorize_body(&self.app, &caller, parts).await,
            Credentials::Cookie => cleanup::authorize_any_store(&self.app, &caller).await,
            Credentials::None => Ok(()),
        };
        allowed.map_err(|problem| self.refusal(&problem))
    }

    fn refusal(&self, problem: &Problem) -> Response {
        match self.credentials {
            Credentials::Cookie => page::refusal(problem),
            Credentials::Token | Credentials::None => problem.response(),
        }
    }
}

/// Returns the origin of a request's connection.
pub(super) fn origin_of(parts: &Parts) -> Result<Origin, Problem> {
    let origin = parts.extensions.get::<Origin>().copied();
    origin.ok_or_else(|| Problem::Internal("the request has no origin".to_owned()))
}
