//! What calls the face: the services' own clients, over plain HTTP/2.

use std::fmt::Debug;

use axum::http::Uri;
use beta9_protocol::MAX_MESSAGE_BYTES;
use beta9_protocol::function::function_service_client::FunctionServiceClient;
use beta9_protocol::gateway::gateway_service_client::GatewayServiceClient;
use beta9_protocol::image::image_service_client::ImageServiceClient;
use beta9_protocol::secret::secret_service_client::SecretServiceClient;
use beta9_protocol::volume::volume_service_client::VolumeServiceClient;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status};

use crate::support::{Caller, Stage};

pub(crate) type Transport = Client<HttpConnector, Body>;

pub(crate) fn transport() -> Transport {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(true).build_http()
}

/// Somebody with a token, or without.
#[derive(Clone)]
pub(crate) struct Beta9 {
    transport: Transport,
    origin: Uri,
    authorization: Option<String>,
}

macro_rules! services {
    ($($name:ident: $client:ident;)+) => {
        impl Beta9 {$(
            pub(crate) fn $name(&self) -> $client<Transport> {
                $client::with_origin(self.transport.clone(), self.origin.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES)
            }
        )+}
    };
}

services! {
    function: FunctionServiceClient;
    gateway: GatewayServiceClient;
    image: ImageServiceClient;
    secret: SecretServiceClient;
    volume: VolumeServiceClient;
}

impl Beta9 {
    pub(crate) fn of(stage: &Stage, caller: &Caller<'_>) -> Self {
        Self::showing(stage, Some(format!("Bearer {}", caller.token)))
    }

    pub(crate) fn showing(stage: &Stage, authorization: Option<String>) -> Self {
        Self {
            transport: transport(),
            origin: format!("http://{}", stage.address).parse().unwrap(),
            authorization,
        }
    }

    /// A message with the token beside it.
    pub(crate) fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            let value = authorization.parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

/// The text of a refusal that every client shows.
pub(crate) fn refusal<T: Debug>(result: Result<Response<T>, Status>) -> String {
    let status = result.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    status.message().to_owned()
}
