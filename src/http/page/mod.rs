//! The page at `/`: what the API tells and does, for a person with a browser.
//!
//! - `visitor` is who looks at it, by a token in a cookie, and whether a form was sent from the page itself;
//! - `board` gathers what is shown, from the same parts as the API, and `stats` what is shown at `/stats`;
//! - `view` is the HTML, `assets` what it refers to.
//!
//! Nothing is kept here between two requests. All works without a script; the script only refreshes and plots.

mod assets;
mod board;
mod stats;
mod view;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Form, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, SET_COOKIE};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use self::board::Board;
use self::view::Shown;
pub(super) use self::visitor::user;
use self::visitor::{OwnForm, Visitor};
use super::app::App;
use super::cleanup;
use super::extract::Query;
use super::origin::Origin;
use super::problem::Problem;
use super::stores::{Store, StoreName};

/// What is served to browsers whose cookie has a token that counts.
pub(super) fn visited() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(index))
        .route("/board", get(board))
        .route("/stats", get(stats))
        .route("/clean-up", post(clean_up))
}

/// What is served to every browser.
pub(super) fn open() -> Router<Arc<App>> {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/assets/{name}", get(assets::asset))
}

/// What is wrong with a request before it is worked on.
pub(super) fn refusal(problem: &Problem) -> Response {
    view::problem(None, problem).into_response()
}

/// Which stores to show.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Only this one; empty: all.
    #[serde(default)]
    store: String,
}

/// The whole page.
async fn index(
    visitor: Visitor,
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Shown, Shown> {
    let board = gather(&app, &visitor, &wanted).await.map_err(|problem| visitor.shown(&problem))?;
    Ok(view::page(&visitor.name, &board))
}

/// What changes of it.
async fn board(
    visitor: Visitor,
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Shown, Shown> {
    let board = gather(&app, &visitor, &wanted).await.map_err(|problem| visitor.shown(&problem))?;
    Ok(view::fragment(&board))
}

/// How often each job type ends well, and how long that takes.
async fn stats(
    visitor: Visitor,
    State(app): State<Arc<App>>,
    Query(wanted): Query<stats::Wanted>,
) -> Result<Shown, Shown> {
    let shown = stats::gather(&app, &visitor, &wanted).await.map_err(|problem| visitor.shown(&problem))?;
    Ok(view::stats(&visitor.name, &shown))
}

async fn gather(app: &App, visitor: &Visitor, wanted: &Wanted) -> Result<Board, Problem> {
    let (stores, cleaned) = app.offered_to(&visitor.caller).await?;
    let (stores, only) = chosen(stores, &wanted.store)?;
    Ok(board::gather(app.fresh(stores).await, cleaned, only).await)
}

/// The store of this name, or all if there is none.
fn chosen(stores: Vec<Store>, name: &str) -> Result<(Vec<Store>, Option<StoreName>), Problem> {
    if name.is_empty() {
        return Ok((stores, None));
    }
    let name = StoreName::try_from(name.to_owned()).map_err(Problem::InvalidParameter)?;
    let stores: Vec<Store> = stores.into_iter().filter(|store| store.name == name).collect();
    if stores.is_empty() { Err(Problem::StoreNotFound(name.to_string())) } else { Ok((stores, Some(name))) }
}

/// A token.
#[derive(Deserialize)]
struct Token {
    token: String,
}

/// Keeps the token in a cookie, if it is one.
async fn sign_in(
    _: OwnForm,
    Extension(origin): Extension<Origin>,
    State(app): State<Arc<App>>,
    Form(Token { token }): Form<Token>,
) -> Response {
    let signed_in = async {
        let cookie = visitor::cookie(token.trim())?;
        app.gate.holder(token.trim(), origin).await?;
        Ok(cookie)
    };
    match signed_in.await {
        Ok(cookie) => home(cookie),
        Err(problem) => view::sign_in(Some(&problem)).into_response(),
    }
}

async fn sign_out(_: OwnForm) -> Response {
    home(HeaderValue::from_static(visitor::NO_COOKIE))
}

/// Back to the page, so that loading it again sends no form again.
fn home(cookie: HeaderValue) -> Response {
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// What to clean up, and how far to go.
#[derive(Debug, Deserialize)]
struct Order {
    /// Empty: every store that the visitor may clean up.
    #[serde(default)]
    store: String,
    /// Empty: what is stale by the policies.
    #[serde(default)]
    max_hours: String,
    #[serde(default)]
    include_governed: Option<String>,
    step: Step,
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// Tell what would be done.
    Dry,
    /// Tell it, and ask.
    Ask,
    /// Do it.
    Do,
}

/// A dry run, the question, or the clean-up.
async fn clean_up(
    visitor: Visitor,
    _: OwnForm,
    State(app): State<Arc<App>>,
    form: Result<Form<Order>, axum::extract::rejection::FormRejection>,
) -> Result<Shown, Shown> {
    let cleaned = async {
        let Form(order) = form.map_err(|error| Problem::InvalidBody(error.to_string()))?;
        let (stores, wanted) = order.resolve(&app, &visitor).await?;
        let report = cleanup::clean(&app, &stores, &wanted.order(&visitor.caller)?).await?;
        Ok::<_, Problem>((order, report))
    };
    let (order, report) = cleaned.await.map_err(|problem| visitor.shown(&problem))?;
    let status = if report.unavailable.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(view::cleanup(&visitor.name, &order, &report).with(status))
}

impl Order {
    /// The stores, and what the API would be asked for.
    async fn resolve(&self, app: &App, visitor: &Visitor) -> Result<(Vec<Store>, cleanup::Wanted), Problem> {
        let text = self.max_hours.trim();
        let hours = (!text.is_empty()).then(|| text.parse::<f64>()).transpose();
        let max_hours = hours.map_err(|_| {
            Problem::InvalidParameter(format!(
                "{text:?} is no number of hours: write for example 0.5, or nothing"
            ))
        })?;
        let store = (!self.store.is_empty()).then(|| StoreName::try_from(self.store.clone())).transpose();
        let wanted = cleanup::Wanted {
            max_hours,
            dry_run: Some(self.step != Step::Do),
            store: store.map_err(Problem::InvalidParameter)?,
            include_governed: Some(self.include_governed.is_some()),
            ..cleanup::Wanted::default()
        };
        if wanted.store.is_none() {
            let (mut stores, cleaned) = app.offered_to(&visitor.caller).await?;
            stores.retain(|store| cleaned.contains(&store.name));
            if !stores.is_empty() {
                return Ok((stores, wanted));
            }
        }
        // It says which right is wanting.
        let stores = app.cleaned_by(&visitor.caller, wanted.store.clone()).await?;
        Ok((stores, wanted))
    }
}
