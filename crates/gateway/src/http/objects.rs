//! Uploaded objects, by the digest of their bytes.

use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Method};
use control_store::Object;
use futures::TryStreamExt;
use reference::Digest;
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::answer::Failed;
use super::body::Id;
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::objects::{OBJECT_LIMIT_BYTES, ObjectNamed};
use crate::problem::{Kind, Problem};

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownObject {
    id: String,
    digest: String,
    size_bytes: u64,
    created_at: String,
}

impl From<Object> for ShownObject {
    fn from(object: Object) -> Self {
        Self {
            id: object.id.to_string(),
            digest: object.digest.to_string(),
            size_bytes: object.size_bytes,
            created_at: object.created_at.to_string(),
        }
    }
}

/// What is known of an object
///
/// `HEAD` asks whether it is there.
#[utoipa::path(
    get,
    path = "/v1/objects/{digest}",
    params(("digest" = String, Path, description = "sha256:…")),
    responses((status = 200, body = ShownObject), (status = "default", body = Failed))
)]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    caller: Caller,
    method: Method,
    Id(digest): Id<Digest>,
) -> Answer<Json<ShownObject>> {
    let found = gateway.object(&caller, ObjectNamed::Digest(&digest)).await;
    let object = found.map_err(|problem| match method {
        Method::HEAD => problem.into_answer(),
        _ => problem,
    })?;
    Ok(Json(object.into()))
}

/// Upload an object of up to 64 MiB
#[utoipa::path(
    put,
    path = "/v1/objects/{digest}",
    params(("digest" = String, Path, description = "sha256:…, of the bytes")),
    request_body(content_type = "application/octet-stream", description = "the bytes"),
    responses((status = 200, body = ShownObject), (status = "default", body = Failed))
)]
pub(super) async fn put(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(digest): Id<Digest>,
    headers: HeaderMap,
    body: RawBody,
) -> Answer<Json<ShownObject>> {
    check_length(&headers)?;
    let broken = |_| Problem::invalid("the upload broke off");
    let bytes = body.into_data_stream().map_err(broken);
    let object = gateway.put_object(&caller, ObjectNamed::Digest(&digest), bytes);
    Ok(Json(object.await?.into()))
}

/// What says that it is too long is not read.
fn check_length(headers: &HeaderMap) -> Answer<()> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|bytes| bytes > OBJECT_LIMIT_BYTES) {
        let message = format!("object is larger than {OBJECT_LIMIT_BYTES} bytes");
        return Err(Problem::new(Kind::TooLarge, message));
    }
    Ok(())
}
