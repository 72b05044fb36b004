//! What happens to a request before it is worked on: who sends it, whether that caller may send a body, and the body itself.
//!
//! Nothing of this takes a slot, and all of it ends with the time limit of the request: a client that sends slowly holds up
//! nobody but itself.

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
use super::slots::{Asker, Share, Slots};
use super::{cleanup, extract, page};

/// How a group of paths knows its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// By the header `Authorization`; without one a request is that of `system:anonymous`.
    Token,
    /// By the cookie of the page. What is wrong is shown as a page.
    Cookie,
    /// Not at all.
    None,
}

/// What the middleware needs.
#[derive(Clone)]
pub(super) struct Entrance {
    pub(super) app: Arc<App>,
    pub(super) slots: Arc<Slots>,
    pub(super) credentials: Credentials,
}

/// Admits a request, with its caller in its extensions and its body read.
pub(super) async fn admit(State(entrance): State<Entrance>, request: Request, next: Next) -> Response {
    match entrance.enter(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

/// Works on a request only where there is a slot for it. The caller's share is given back when the work has ended, not when the
/// client has gone.
pub(super) async fn in_a_slot(State(slots): State<Arc<Slots>>, mut request: Request, next: Next) -> Response {
    let share = request.extensions_mut().remove::<Arc<Share>>();
    let slot = match slots.slot() {
        Ok(slot) => slot,
        Err(problem) => return problem.into_response(),
    };
    let response = next.run(request).await;
    drop((slot, share));
    response
}

impl Entrance {
    async fn enter(&self, request: Request) -> Result<Request, Response> {
        let (mut parts, body) = request.into_parts();
        let origin = origin_of(&parts).map_err(Problem::into_response)?;
        let user = self.user(&parts, origin).await?;
        let asker = match &user {
            Some(user) if !user.is_anonymous() => Asker::User(user.name.clone()),
            _ => Asker::Nobody(origin),
        };
        let has_body = parts.method == Method::POST && !axum::body::HttpBody::is_end_stream(&body);
        // The files of the page are for everybody, and are not waited for: they compete with nobody's sign-in.
        let share = if has_body || self.credentials != Credentials::None {
            Some(self.slots.share(asker).map_err(|problem| self.refusal(&problem))?)
        } else {
            None
        };
        let body = if has_body {
            self.authorize(&mut parts, user.as_ref()).await?;
            extract::whole(body).await.map_err(|problem| self.refusal(&problem))?.into()
        } else {
            // No other request has a use for one, so it is not waited for.
            Body::empty()
        };
        if let Some(share) = share {
            parts.extensions.insert(Arc::new(share));
        }
        if let Some(user) = user {
            parts.extensions.insert(user);
        }
        Ok(Request::from_parts(parts, body))
    }

    async fn user(&self, parts: &Parts, origin: Origin) -> Result<Option<Arc<User>>, Response> {
        let gate = &self.app.gate;
        match self.credentials {
            Credentials::Token => {
                gate.caller(&parts.headers, origin).await.map(Some).map_err(Problem::into_response)
            }
            Credentials::Cookie => page::user(gate, &parts.headers, origin).await.map(Some),
            Credentials::None => Ok(None),
        }
    }

    /// Refuses who may not do anything with a body, before it is read. Signing in is for everybody: the token is in the body.
    async fn authorize(&self, parts: &mut Parts, user: Option<&Arc<User>>) -> Result<(), Response> {
        let Some(user) = user else { return Ok(()) };
        let caller = Caller(user.clone());
        let may = match self.credentials {
            Credentials::Token => cleanup::may_begin(&self.app, &caller, parts).await,
            Credentials::Cookie => cleanup::may_some(&self.app, &caller).await,
            Credentials::None => Ok(()),
        };
        may.map_err(|problem| self.refusal(&problem))
    }

    fn refusal(&self, problem: &Problem) -> Response {
        match self.credentials {
            Credentials::Cookie => page::refusal(problem),
            Credentials::Token | Credentials::None => problem.response(),
        }
    }
}

/// Where the connection of a request comes from.
pub(super) fn origin_of(parts: &Parts) -> Result<Origin, Problem> {
    let origin = parts.extensions.get::<Origin>().copied();
    origin.ok_or_else(|| Problem::Internal("a request without an origin".to_owned()))
}
