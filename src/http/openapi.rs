//! The `OpenAPI` document: the descriptions of the handlers, and the parts that all of them share.

use std::collections::BTreeMap;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Header, Object, Ref, RefOr, Response, ResponseBuilder, Type};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::{Details, PROBLEM_JSON};

/// The general part of the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "jobexec",
        description = "Running executions, stale ones, and the actions of the operator, for people and programs without a \
                       Kubernetes client. Kubernetes authorizes requests: send one of its tokens.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Details)),
    security(("token" = [])),
    tags((name = "system", description = "The executions of all stores that the operator manages")),
    modifiers(&BearerToken),
)]
pub(super) struct Document;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("A token of a Kubernetes ServiceAccount or user.".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Adds the headers that all responses have.
pub(super) fn add_headers(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response {
                    let headers = headers(status).map(|(name, header)| (name.to_owned(), header.into()));
                    response.headers.extend(headers);
                }
            }
        }
    }
}

/// Returns the headers of responses with this status.
fn headers(status: &str) -> impl Iterator<Item = (&'static str, Header)> {
    let text = Object::with_type(Type::String);
    let number = Object::with_type(Type::Integer);
    let own = match status {
        "401" => Some(("WWW-Authenticate", text.clone(), "How to authenticate.")),
        "429" | "503" => {
            Some(("Retry-After", number, "The delay after which to retry, in seconds; only with problems."))
        }
        _ => None,
    };
    let id = (
        "X-Request-Id",
        text,
        "The id of the request in the operator's log: the client's own, if it sent one.",
    );
    [Some(id), own].into_iter().flatten().map(|(name, schema, what)| {
        let mut header = Header::new(schema);
        header.description = Some(what.to_owned());
        (name, header)
    })
}

/// The problems that any request can return.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("400", "A parameter or the body is not valid."),
            ("401", "A token is required, or the token is not valid."),
            ("403", "The caller does not have the right."),
            ("404", "The store, execution or path does not exist."),
            ("413", "The body is too large."),
            ("429", "The caller has too many concurrent requests, or its address sent too many rejected tokens."),
            ("503", "The operator, the store, its database or Kubernetes cannot answer at present: try again soon."),
        ]
        .into_iter()
        .map(|(status, what)| (status.to_owned(), problem(what)))
        .collect()
    }
}

/// The additional problems that a clean-up can return.
pub(super) struct CleanupProblems;

impl IntoResponses for CleanupProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let conflict = ("409".to_owned(), problem("A clean-up of the store is already running."));
        let type_ = ("415".to_owned(), problem("The body is not JSON."));
        let slow = ("408".to_owned(), problem("The body arrives too slowly."));
        BTreeMap::from([conflict, type_, slow])
    }
}

/// The additional problem that a retry can return.
pub(super) struct RetryProblems;

impl IntoResponses for RetryProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let conflict = problem("The store cannot have executions retried, or the execution is not retried.");
        BTreeMap::from([("409".to_owned(), conflict)])
    }
}

fn problem(what: &str) -> RefOr<Response> {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(what).content(PROBLEM_JSON, content).build().into()
}
