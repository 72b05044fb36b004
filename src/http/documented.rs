//! The `OpenAPI` document: what the handlers say of themselves, and what holds for all of them.

use std::collections::BTreeMap;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Header, Object, Ref, RefOr, Response, ResponseBuilder, Type};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::{Details, PROBLEM_JSON};

/// What the document says of the whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "jobexec",
        description = "What runs, what is stale, and what was done about it, for people and programs without a \
                       Kubernetes client. Kubernetes decides who may: send one of its tokens.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Details)),
    security(("token" = [])),
    tags((name = "system", description = "The executions of all stores that the operator looks after")),
    modifiers(&Token),
)]
pub(super) struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("A token of a Kubernetes ServiceAccount or user.".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Adds what holds for every answer: its headers.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
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

/// The headers of answers with this status.
fn headers(status: &str) -> impl Iterator<Item = (&'static str, Header)> {
    let text = Object::with_type(Type::String);
    let number = Object::with_type(Type::Integer);
    let own = match status {
        "401" => Some(("WWW-Authenticate", text.clone(), "How to say who one is.")),
        "429" | "503" => {
            Some(("Retry-After", number, "After how many seconds to try again; of problems only."))
        }
        _ => None,
    };
    let id = (
        "X-Request-Id",
        text,
        "Names the request in the operator's log: the client's own name for it, if it sent one.",
    );
    [Some(id), own].into_iter().flatten().map(|(name, schema, what)| {
        let mut header = Header::new(schema);
        header.description = Some(what.to_owned());
        (name, header)
    })
}

/// The problems that any request can meet.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("400", "A parameter or the body cannot be used."),
            ("401", "A token is needed, or the one that was sent does not count."),
            ("403", "The caller has not the right."),
            ("404", "There is no such store, execution or path."),
            ("413", "The body is too large."),
            ("429", "The caller has too many requests under way, or its address sent too many tokens that are refused."),
            ("503", "The operator, the store, its database or Kubernetes cannot answer at present: try again soon."),
        ]
        .into_iter()
        .map(|(status, what)| (status.to_owned(), problem(what)))
        .collect()
    }
}

/// The problems of a clean-up beside those of any request.
pub(super) struct Busy;

impl IntoResponses for Busy {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let conflict = ("409".to_owned(), problem("A clean-up of the store is under way."));
        let type_ = ("415".to_owned(), problem("The body is not JSON."));
        let slow = ("408".to_owned(), problem("The body comes too slowly."));
        BTreeMap::from([conflict, type_, slow])
    }
}

fn problem(what: &str) -> RefOr<Response> {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(what).content(PROBLEM_JSON, content).build().into()
}
