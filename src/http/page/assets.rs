//! The static files of the page. Their names contain a hash of their contents, so that browsers may cache them
//! forever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use ring::digest::{SHA256, digest};

use crate::http::problem::Problem;

/// A static file.
pub(super) struct Asset {
    /// The path in URLs.
    pub(super) path: String,
    type_: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    fn new(name: &str, ending: &str, type_: &'static str, bytes: &'static [u8]) -> Self {
        let hash: String =
            digest(&SHA256, bytes).as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { path: format!("/assets/{name}.{hash}.{ending}"), type_, bytes }
    }
}

/// All static files. uPlot is unmodified.
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    pub(super) plot_style: Asset,
    pub(super) plot: Asset,
    pub(super) icon: Asset,
}

pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let (css, js) = ("text/css; charset=utf-8", "text/javascript; charset=utf-8");
    Assets {
        style: Asset::new("page", "css", css, include_bytes!("assets/page.css")),
        script: Asset::new("page", "js", js, include_bytes!("assets/page.js")),
        plot_style: Asset::new("uplot", "css", css, include_bytes!("assets/uPlot.min.css")),
        plot: Asset::new("uplot", "js", js, include_bytes!("assets/uPlot.iife.min.js")),
        icon: Asset::new("icon", "svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    }
});

/// Serves a file without authentication: the files are public.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let Assets { style, script, plot_style, plot, icon } = &*ASSETS;
    let all = [style, script, plot_style, plot, icon];
    let found = all.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(&name));
    let Asset { type_, bytes, .. } = found.ok_or(Problem::NotFound)?;
    let headers = [(CONTENT_TYPE, *type_), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, *bytes).into_response())
}
