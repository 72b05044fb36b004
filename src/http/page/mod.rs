//! The page at `/`, which offers the API to a person with a browser.
//!
//! - `browser_session` authenticates the user by a token in a cookie, and checks that forms come from the page
//!   itself;
//! - `dashboard` collects the contents of the dashboard from the same functions as the API, `stats` those of
//!   `/stats`;
//! - `view` renders the HTML, and `assets` serves static files.
//!
//! The server keeps no state between requests. Everything works without JavaScript, except refreshing and the plot.

mod assets;
mod browser_session;
mod dashboard;
mod stats;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Form, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, SET_COOKIE};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

pub(super) use self::browser_session::user;
use self::browser_session::{BrowserSession, SameOriginForm};
use self::dashboard::Dashboard;
use self::view::Rendered;
use super::app::App;
use super::cleanup;
use super::extract::Query;
use super::origin::Origin;
use super::problem::Problem;
use super::stores::{Store, StoreName};

/// The routes that require a cookie with a valid token.
pub(super) fn signed_in_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(index))
        .route("/board", get(dashboard_fragment))
        .route("/stats", get(stats))
        .route("/clean-up", post(clean_up))
}

/// The routes that everybody may use.
pub(super) fn public_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/assets/{name}", get(assets::asset))
}

/// Renders an error that occurs before a handler runs.
pub(super) fn refusal(problem: &Problem) -> Response {
    view::problem(None, problem).into_response()
}

/// The parameters of the dashboard.
#[derive(Debug, Default, Deserialize)]
struct Params {
    /// Only this store; empty for all stores.
    #[serde(default)]
    store: String,
}

/// Serves the dashboard as a whole page.
async fn index(
    session: BrowserSession,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Rendered, Rendered> {
    let dashboard =
        gather(&app, &session, &params).await.map_err(|problem| session.render_problem(&problem))?;
    Ok(view::page(&session.name, &dashboard))
}

/// Serves the part of the dashboard that the script refreshes.
async fn dashboard_fragment(
    session: BrowserSession,
    State(app): State<Arc<App>>,
    Query(params): Query<Params>,
) -> Result<Rendered, Rendered> {
    let dashboard =
        gather(&app, &session, &params).await.map_err(|problem| session.render_problem(&problem))?;
    Ok(view::fragment(&dashboard))
}

/// Serves the execution statistics.
async fn stats(
    session: BrowserSession,
    State(app): State<Arc<App>>,
    Query(params): Query<stats::Params>,
) -> Result<Rendered, Rendered> {
    let stats =
        stats::gather(&app, &session, &params).await.map_err(|problem| session.render_problem(&problem))?;
    Ok(view::stats(&session.name, &stats))
}

async fn gather(app: &App, session: &BrowserSession, params: &Params) -> Result<Dashboard, Problem> {
    let (stores, cleanable) = app.stores_visible_to(&session.caller).await?;
    let (stores, selected) = select_store(stores, &params.store)?;
    Ok(dashboard::gather(app.with_fresh_counts(stores).await, cleanable, selected).await)
}

/// Returns the store of this name, or all stores if the name is empty.
fn select_store(stores: Vec<Store>, name: &str) -> Result<(Vec<Store>, Option<StoreName>), Problem> {
    if name.is_empty() {
        return Ok((stores, None));
    }
    let name = StoreName::try_from(name.to_owned()).map_err(Problem::InvalidParameter)?;
    let stores: Vec<Store> = stores.into_iter().filter(|store| store.name == name).collect();
    if stores.is_empty() { Err(Problem::StoreNotFound(name.to_string())) } else { Ok((stores, Some(name))) }
}

/// The sign-in form.
#[derive(Deserialize)]
struct Token {
    token: String,
}

/// Stores the token in a cookie, if it is valid.
async fn sign_in(
    _: SameOriginForm,
    Extension(origin): Extension<Origin>,
    State(app): State<Arc<App>>,
    Form(Token { token }): Form<Token>,
) -> Response {
    let result = async {
        let cookie = browser_session::cookie(token.trim())?;
        app.authorizer.authenticate(token.trim(), origin).await?;
        Ok(cookie)
    };
    match result.await {
        Ok(cookie) => redirect_home(cookie),
        Err(problem) => view::sign_in(Some(&problem)).into_response(),
    }
}

async fn sign_out(_: SameOriginForm) -> Response {
    redirect_home(HeaderValue::from_static(browser_session::NO_COOKIE))
}

/// Redirects to the page, so that reloading does not send the form again.
fn redirect_home(cookie: HeaderValue) -> Response {
    ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// The clean-up form.
#[derive(Debug, Deserialize)]
struct CleanupForm {
    /// Only this store; empty for all stores that the user may clean up.
    #[serde(default)]
    store: String,
    /// The threshold in hours; empty for executions that are stale by the policies.
    #[serde(default)]
    max_hours: String,
    #[serde(default)]
    include_governed: Option<String>,
    #[serde(rename = "step")]
    action: Action,
}

/// The button that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// Show what a clean-up would do.
    Dry,
    /// Show what a clean-up would do, and ask for confirmation.
    Ask,
    /// Clean up.
    Do,
}

/// Serves a dry run, the confirmation, or the result of a clean-up.
async fn clean_up(
    session: BrowserSession,
    _: SameOriginForm,
    State(app): State<Arc<App>>,
    form: Result<Form<CleanupForm>, axum::extract::rejection::FormRejection>,
) -> Result<Rendered, Rendered> {
    let result = async {
        let Form(form) = form.map_err(|error| Problem::InvalidBody(error.to_string()))?;
        let (stores, params) = form.resolve(&app, &session).await?;
        let report = cleanup::clean(&app, &stores, &params.to_request(&session.caller)?).await?;
        Ok::<_, Problem>((form, report))
    };
    let (form, report) = result.await.map_err(|problem| session.render_problem(&problem))?;
    let status = if report.unavailable.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(view::cleanup(&session.name, &form, &report).with(status))
}

impl CleanupForm {
    /// Returns the stores to clean up and the parameters for the API.
    async fn resolve(
        &self,
        app: &App,
        session: &BrowserSession,
    ) -> Result<(Vec<Store>, cleanup::Params), Problem> {
        let text = self.max_hours.trim();
        let hours = (!text.is_empty()).then(|| text.parse::<f64>()).transpose();
        let max_hours = hours.map_err(|_| {
            Problem::InvalidParameter(format!(
                "{text:?} is not a number of hours: enter for example 0.5, or nothing"
            ))
        })?;
        let store = (!self.store.is_empty()).then(|| StoreName::try_from(self.store.clone())).transpose();
        let params = cleanup::Params {
            max_hours,
            dry_run: Some(self.action != Action::Do),
            store: store.map_err(Problem::InvalidParameter)?,
            include_governed: Some(self.include_governed.is_some()),
            ..cleanup::Params::default()
        };
        if params.store.is_none() {
            let (mut stores, cleanable) = app.stores_visible_to(&session.caller).await?;
            stores.retain(|store| cleanable.contains(&store.name));
            if !stores.is_empty() {
                return Ok((stores, params));
            }
        }
        // This returns the error that names the missing right.
        let stores = app.cleanable_stores(&session.caller, params.store.clone()).await?;
        Ok((stores, params))
    }
}
