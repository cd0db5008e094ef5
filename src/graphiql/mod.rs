//! The page at `/`: GraphiQL, from this server alone.
//!
//! Responsible for the page, its scripts and styles, and the headers that fence them in. Not responsible for
//! `/graphql` and `/schema.graphql`, which the page talks to, nor for who may talk to them.
//!
//! ```text
//! build.rs ── npm pack, SHA-512 ──▶ OUT_DIR/graphiql ──┐
//! page.*, plain.*, first.graphql, icon.svg ────────────┴─▶ Asset ──▶ /graphiql/{hash}/{name}
//!                                                                     ▲ named by `/` and `/graphiql/plain`
//! ```
//!
//! Why this way. No crate carries GraphiQL's assets: those that name it link to a public CDN, which would end both
//! the work without internet and the strict policy below. Committing a megabyte of somebody else's minified code was
//! no choice either. So `build.rs` fetches three pinned packages once, with GraphiQL 4: the last line that a page can
//! load as it is, while 5 needs a bundler and five web workers. Where npm is absent the build goes on and `/` is the
//! plain page: a form with some JavaScript of our own, which is at `/graphiql/plain` in any case.
//!
//! Assets are named by their content, so that they are cached for good and a new build is seen at once. The page runs
//! programs on behalf of whoever has it open, hence the policy: no script that is not ours by name, nothing from and
//! nothing to another origin, no framing.

mod asset;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::asset::{Asset, Caching};

/// What `build.rs` fetched: empty where there was no npm.
const VENDORED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/graphiql_assets.rs"));

/// Our own files, for both pages.
const OWN: &[(&str, &[u8])] = &[
    ("icon.svg", include_bytes!("icon.svg")),
    ("page.css", include_bytes!("page.css")),
    ("page.js", include_bytes!("page.js")),
    ("plain.css", include_bytes!("plain.css")),
    ("plain.js", include_bytes!("plain.js")),
];

/// The operations that a first visitor finds in the editor.
const FIRST: &str = include_str!("first.graphql");

/// Sent with everything below `/` and `/graphiql`.
///
/// `style-src` needs 'unsafe-inline' because GraphiQL's dialogs add a style element that holds the page still behind
/// them; a style can at most disfigure the page. Fonts and a few images are data URLs inside its style sheet.
/// The referrer policy is not `no-referrer`, since that would turn `Origin` into `null` on some requests, and
/// `/graphql` refuses a foreign origin.
const FENCE: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
             font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Everything that these routes serve.
struct Site {
    /// What `/` answers: GraphiQL, or the plain page where there is none.
    front: Asset,
    plain: Asset,
    assets: Vec<Asset>,
}

impl Site {
    /// `vendored` is an argument so that a test can leave it out.
    fn new(vendored: &'static [(&'static str, &'static [u8])]) -> Self {
        let files = vendored.iter().chain(OWN);
        let assets: Vec<Asset> = files.map(|(name, bytes)| Asset::new(name, *bytes)).collect();
        let page = |template: &str| Asset::new("index.html", render(template, &assets).into_bytes());
        let plain = page(include_str!("plain.html"));
        let front = if vendored.is_empty() {
            plain.clone()
        } else {
            page(include_str!("page.html"))
        };
        Self { front, plain, assets }
    }
}

/// Writes the example and the assets' addresses into a template.
fn render(template: &str, assets: &[Asset]) -> String {
    let example = FIRST
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let page = template.replace("{{example}}", &example);
    assets.iter().fold(page, |page, asset| {
        page.replace(&format!("{{{{{}}}}}", asset.name()), &asset.path())
    })
}

/// The routes `/`, `/graphiql/plain` and `/graphiql/{hash}/{name}`.
///
/// They need no token: the page holds nothing secret, and a person has to open it in order to enter one.
pub fn routes() -> Router {
    static SITE: LazyLock<Arc<Site>> = LazyLock::new(|| Arc::new(Site::new(VENDORED)));
    serve(Arc::clone(&SITE))
}

fn serve(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/graphiql/plain", get(plain))
        .route("/graphiql/{hash}/{name}", get(file))
        .with_state(site)
}

async fn front(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    fenced(site.front.respond(&headers, Caching::Revalidate))
}

async fn plain(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    fenced(site.plain.respond(&headers, Caching::Revalidate))
}

async fn file(
    State(site): State<Arc<Site>>,
    Path((hash, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let asset = site
        .assets
        .iter()
        .find(|asset| asset.name() == name && asset.hash() == hash);
    fenced(match asset {
        Some(asset) => asset.respond(&headers, Caching::Immutable),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

fn fenced(mut response: Response) -> Response {
    response.headers_mut().extend(FENCE);
    response
}

#[cfg(test)]
mod tests;
