//! The HTTP face: JSON in and out, described by an OpenAPI document that is made of it.

mod answer;
mod body;
mod containers;
mod events;
mod images;
mod issuer;
mod metrics;
mod objects;
mod secrets;
mod stubs;
mod tasks;
mod tokens;
mod whoami;
mod workers;

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::{Actor, Caller, refused};
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};
use crate::watch::{Asker, Operation, Watch, watch};

/// Largest body of a request that has no limit of its own: a secret of the largest size, escaped.
const BODY_LIMIT_BYTES: usize = 2 << 20;
/// The header of a request over the operators' socket that names the workspace: no token does.
pub const WORKSPACE_HEADER: &str = "holdfast-workspace";
const WORKSPACE: HeaderName = HeaderName::from_static(WORKSPACE_HEADER);
/// The methods that any route knows.
const METHODS: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];
/// How long the stores may take to say that they are there.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Functions in private container images, on your own machines. Every \
                       request but those for health, and for what clouds ask of an \
                       issuer, shows an API token. What is not understood is refused."
    ),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Document;

/// Marks a request that came by the socket that only operators can open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OperatorsSocket;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn described() -> OpenApiRouter<Gateway> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(whoami::whoami))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::switch, tokens::remove))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::set, secrets::remove))
        .routes(routes!(images::list, images::build))
        .routes(routes!(images::show))
        .routes(routes!(objects::show, objects::put))
        .routes(routes!(stubs::list, stubs::create))
        .routes(routes!(stubs::show))
        .merge(calls())
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::get))
        .routes(routes!(tasks::events))
        .routes(routes!(tasks::cancel))
        .routes(routes!(containers::list))
        .routes(routes!(containers::stop))
        .routes(routes!(workers::warm))
        .routes(routes!(issuer::configuration))
        .routes(routes!(issuer::keys))
}

/// Bodies of calls are as long as what they carry.
fn calls() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(tasks::call))
        .layer(DefaultBodyLimit::max(tasks::CALL_LIMIT_BYTES))
}

/// The document as it is checked in.
pub fn openapi_document() -> String {
    let document = described().into_openapi();
    let mut text = document.to_pretty_json().expect("texts serialise");
    text.push('\n');
    text
}

pub(crate) fn router(gateway: Gateway) -> Router {
    let watching = Watch {
        gateway: gateway.clone(),
        face: "http",
        operation,
    };
    let (router, document) = described().split_for_parts();
    router
        .route("/openapi.json", get(async move || Json(document)))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::show))
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::invalid("not with this method"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .layer(middleware::from_fn(never_cached))
        .layer(middleware::from_fn_with_state(watching, watch))
        .with_state(gateway)
}

/// What a request asks for: one of the routes, by a method that somebody has heard of.
fn operation(request: &Request) -> Option<Operation> {
    let route = request.extensions().get::<MatchedPath>()?;
    let method = METHODS.iter().find(|method| **method == request.method())?;
    Some(format!("{method} {}", route.as_str()).into())
}

/// Ready is who can read its stores.
async fn ready(State(gateway): State<Gateway>) -> Answer<&'static str> {
    let asking = tokio::time::timeout(READY_TIMEOUT, gateway.store().workspaces());
    let silent = |_| Problem::new(Kind::Unavailable, "the store does not answer");
    asking.await.map_err(silent)??;
    Ok("ok\n")
}

/// Answers are of the moment and of one caller.
async fn never_cached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

impl FromRequestParts<Gateway> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        let text = |name: &HeaderName| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let asker = parts.extensions.get::<Asker>().cloned().unwrap_or_default();
        if parts.extensions.get::<OperatorsSocket>().is_some() {
            asker.is(Actor::Operator(None));
            let workspace =
                text(&WORKSPACE).ok_or_else(|| Problem::invalid("no workspace is named"))?;
            let caller = gateway.operator(workspace).await?;
            asker.is(Actor::Operator(Some(caller.workspace())));
            return Ok(caller);
        }
        let token = text(&AUTHORIZATION).and_then(bearer);
        let token = token.ok_or_else(|| refused("request shows no token"))?;
        let token = gateway.token(token).await?;
        asker.is(Actor::Token(token.id, token.workspace));
        gateway.holder(token).await
    }
}

/// The token of an `Authorization` header, whose scheme has no case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

type Answer<T> = Result<T, Problem>;

/// Nothing to say but that it is done.
const DONE: StatusCode = StatusCode::NO_CONTENT;
