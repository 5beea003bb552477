//! The documents of this interface and of its events, and a page to read and try it.

use std::sync::{Arc, LazyLock};

use axum::{
    body::Bytes,
    http::{StatusCode, Uri, header},
    response::Response,
};
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::{
    app,
    problem::{ApiError, Result},
    reply::Reply,
};

mod asyncapi;

/// What the page needs: its own scripts and styles, and requests to this instance.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Read this document
#[utoipa::path(
    get, path = "/openapi.json", tag = "docs",
    responses((status = 200, description = "The OpenAPI document.", body = Object))
)]
pub(crate) async fn openapi_document() -> Response {
    // Made when it is first asked for: it takes memory to make that most processes never need.
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&app::openapi()).unwrap_or_default().into());
    Reply::text(StatusCode::OK, DOCUMENT.clone()).done()
}

/// Read what the events are
///
/// Their topics, types and schemas, as an AsyncAPI document.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "docs",
    responses((status = 200, description = "The AsyncAPI document.", body = Object))
)]
pub(crate) async fn asyncapi_document() -> Response {
    Reply::text(StatusCode::OK, asyncapi::document()).done()
}

/// Go to the page of this document
#[utoipa::path(get, path = "/docs", tag = "docs", responses((status = 307, description = "To /docs/.")))]
pub(crate) async fn docs_redirect() -> Response {
    redirect("/docs/")
}

/// Read and try the interface
#[utoipa::path(
    get, path = "/docs/", tag = "docs",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn docs_page() -> Result<Response> {
    file("index.html")
}

/// Read a file of the page
#[utoipa::path(
    get, path = "/docs/{file}", tag = "docs", params(("file" = String, Path, description = "Its name.")),
    responses((status = 200, description = "The file.", content_type = "*/*", body = Vec<u8>))
)]
pub(crate) async fn docs_file(uri: Uri) -> Result<Response> {
    file(uri.path().trim_start_matches("/docs/"))
}

/// Go to what there is to see
#[utoipa::path(get, path = "/", tag = "docs", responses((status = 307, description = "To /docs/.")))]
pub(crate) async fn home() -> Response {
    redirect("/docs/")
}

fn redirect(to: &str) -> Response {
    Reply::empty(StatusCode::TEMPORARY_REDIRECT).location(to).done()
}

fn file(name: &str) -> Result<Response> {
    let config = Config::from("/openapi.json").validator_url("none").persist_authorization(false);
    let found = utoipa_swagger_ui::serve(name, Arc::new(config)).ok().flatten();
    let SwaggerFile { bytes, content_type, gzpipped, .. } =
        found.ok_or_else(|| ApiError::not_found("the page has no such file"))?;
    let reply = Reply::text(StatusCode::OK, bytes.into_owned())
        .with(header::CONTENT_TYPE, &content_type)
        .with(header::CONTENT_SECURITY_POLICY, POLICY)
        .with(header::CACHE_CONTROL, "no-cache");
    Ok(if gzpipped { reply.with(header::CONTENT_ENCODING, "gzip") } else { reply }.done())
}
