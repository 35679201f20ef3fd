//! The face for the `beta9` client: gRPC, on the port of the HTTP face.
//!
//! ```text
//!   content-type: application/grpc… ──▶ admit ──▶ a service ──▶ operations
//!                                         │           └──▶ Problem: `ok` false, or a status
//!                                         └──▶ UNAUTHENTICATED, before a message is read
//! ```
//!
//! Invariants: what a person should read reaches both versions of the client (see [`refusal`]);
//! whatever is asked for and not served is refused by name, in the first method where the client
//! shows it. What a client sends and prints is in `docs/beta9-client.md`. Ids are bare UUIDs here.
//! Deliberately no rule of its own about a workspace: operations have them.

mod containers;
mod functions;
mod gateway_service;
mod images;
mod objects;
mod refusal;
mod secrets;
mod stubs;
mod tasks;
mod times;
mod tokens;
mod volumes;
mod workspace;

use std::fmt;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::Response;
use beta9_protocol::MAX_MESSAGE_BYTES;
use beta9_protocol::function::function_service_server::FunctionServiceServer;
use beta9_protocol::gateway::gateway_service_server::GatewayServiceServer;
use beta9_protocol::image::image_service_server::ImageServiceServer;
use beta9_protocol::secret::secret_service_server::SecretServiceServer;
use beta9_protocol::volume::volume_service_server::VolumeServiceServer;
use tonic::Status;
use tonic::codegen::Service;

use crate::caller::{Caller, refused};
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::watch::{Operation, Watch, watch};

use self::workspace::Address;

/// What every gRPC request's content type starts with.
const CONTENT_TYPE_PREFIX: &str = "application/grpc";

/// How often a stream that has nothing to say shows that it lives: proxies forget one that is
/// silent for a minute. Clients step over an empty message.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// All methods of the protocol.
const METHODS: [&str; 29] = [
    "gateway.GatewayService/Authorize",
    "gateway.GatewayService/ExportWorkspaceConfig",
    "gateway.GatewayService/HeadObject",
    "gateway.GatewayService/PutObjectStream",
    "gateway.GatewayService/CreateObject",
    "gateway.GatewayService/CreateObjectDelta",
    "gateway.GatewayService/GetOrCreateStub",
    "gateway.GatewayService/StartTask",
    "gateway.GatewayService/EndTask",
    "gateway.GatewayService/ListTasks",
    "gateway.GatewayService/StopTasks",
    "gateway.GatewayService/ListContainers",
    "gateway.GatewayService/StopContainer",
    "gateway.GatewayService/AttachToContainer",
    "gateway.GatewayService/CheckpointContainer",
    "gateway.GatewayService/CreateToken",
    "gateway.GatewayService/ListTokens",
    "gateway.GatewayService/ToggleToken",
    "gateway.GatewayService/DeleteToken",
    "image.ImageService/VerifyImageBuild",
    "image.ImageService/BuildImage",
    "function.FunctionService/FunctionInvoke",
    "function.FunctionService/FunctionSchedule",
    "secret.SecretService/CreateSecret",
    "secret.SecretService/UpdateSecret",
    "secret.SecretService/DeleteSecret",
    "secret.SecretService/GetSecret",
    "secret.SecretService/ListSecrets",
    "volume.VolumeService/GetOrCreateVolume",
];

/// All services of the protocol.
#[derive(Debug, Clone)]
struct Beta9 {
    gateway: Gateway,
}

type Answer<T> = Result<tonic::Response<T>, Status>;

/// A service under its path, told how long messages are: without, tonic refuses a full piece of
/// an upload.
macro_rules! serve {
    ($router:expr, $($path:literal: $server:ident($face:expr)),+ $(,)?) => {
        $router$(.route_service(
            $path,
            $server::new($face.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        ))+
    };
}

pub(crate) fn router(gateway: Gateway) -> Router {
    let face = Beta9 {
        gateway: gateway.clone(),
    };
    let watching = Watch {
        gateway: gateway.clone(),
        face: "beta9",
        operation,
    };
    let router = serve! {
        Router::new(),
        "/gateway.GatewayService/{*method}": GatewayServiceServer(face),
        "/image.ImageService/{*method}": ImageServiceServer(face),
        "/function.FunctionService/{*method}": FunctionServiceServer(face),
        "/secret.SecretService/{*method}": SecretServiceServer(face),
        "/volume.VolumeService/{*method}": VolumeServiceServer(face),
    };
    router
        .fallback(async || Status::unimplemented("not served").into_http::<axum::body::Body>())
        .layer(middleware::from_fn_with_state(gateway, admit))
        .layer(middleware::from_fn_with_state(watching, watch))
}

/// What a request asks for: one of the methods.
fn operation(request: &Request) -> Option<Operation> {
    let method = request.uri().path().strip_prefix('/')?;
    let known = METHODS.iter().find(|known| **known == method)?;
    Some(Operation::Borrowed(known))
}

/// Takes what is gRPC, whatever its path: a client of it understands no other answer.
pub(crate) async fn take(State(mut face): State<Router>, request: Request, next: Next) -> Response {
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_grpc = content_type
        .is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE_PREFIX.as_bytes()));
    if !is_grpc {
        return next.run(request).await;
    }
    let Ok(response) = face.call(request).await;
    response
}

/// Lets in who shows a token that counts, in the way of the HTTP face.
async fn admit(caller: Result<Caller, Problem>, mut request: Request, next: Next) -> Response {
    let caller = match caller {
        Ok(caller) => caller,
        Err(problem) => return refusal::status(problem).into_http(),
    };
    let address = Address::of(request.uri());
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(address);
    next.run(request).await
}

/// Who calls, and what they say.
fn called<T>(request: tonic::Request<T>) -> Result<(Caller, T), Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    let nobody = || refusal::status(refused("request shows no token"));
    Ok((caller.ok_or_else(nobody)?, request.into_inner()))
}

/// An id as the client has it, or as everybody else.
fn parse_id<T>(
    text: &str,
    parse_uuid: impl FnOnce(&str) -> Result<T, ids::ParseIdError>,
    missing: impl fmt::Display,
) -> Result<T, Problem>
where
    T: std::str::FromStr,
{
    let parsed = parse_uuid(text).ok().or_else(|| text.parse().ok());
    parsed.ok_or_else(|| Problem::not_found(missing))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_method_of_the_protocol_has_its_name() {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../beta9-protocol/proto");
        let mut declared = BTreeSet::new();
        for file in std::fs::read_dir(files).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let word_after = |line: &str, keyword: &str| {
                let rest = line.trim().strip_prefix(keyword)?.trim_start();
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric())?;
                Some(rest[..end].to_owned())
            };
            let package = text.lines().find_map(|line| word_after(line, "package "));
            let mut service = String::new();
            for line in text.lines() {
                service = word_after(line, "service ").unwrap_or(service);
                if let Some(method) = word_after(line, "rpc ") {
                    let package = package.as_deref().unwrap();
                    declared.insert(format!("{package}.{service}/{method}"));
                }
            }
        }
        assert_eq!(declared, METHODS.map(str::to_owned).into());
    }
}
