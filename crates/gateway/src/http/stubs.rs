//! Functions as they are defined.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use ids::StubId;
use reference::Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use super::answer::Failed;
use super::body::{Body, Id};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::stubs::{ShownStub as Stub, StubRequest};
use crate::problem::Problem;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStub {
    /// What it is called in lists; any number may have one name
    name: String,
    /// Of an image that was built: `sha256:…`
    image: String,
    /// Of an object that was uploaded: `sha256:…`; without, the image has the code
    #[serde(default)]
    code: Option<String>,
    /// `module:function`
    handler: String,
    /// Kept for each container; of what nobody else uses it gets up to 1000, or this if it is more
    #[serde(default = "default_cpu")]
    #[schema(default = default_cpu)]
    cpu_millicores: u32,
    #[serde(default = "default_memory")]
    #[schema(default = default_memory)]
    memory_bytes: u64,
    /// How long one attempt may take
    #[serde(default = "default_timeout")]
    #[schema(default = default_timeout)]
    timeout_ms: u64,
    /// Attempts beyond the first
    #[serde(default)]
    retries: u32,
    /// Calls that one container takes at a time
    #[serde(default = "one")]
    #[schema(default = one)]
    concurrency: u32,
    /// How long a container without calls is kept
    #[serde(default = "default_keep_warm")]
    #[schema(default = default_keep_warm)]
    keep_warm_ms: u64,
    #[serde(default = "one")]
    #[schema(default = one)]
    max_containers: u32,
    /// Calls that may wait
    #[serde(default = "default_max_pending")]
    #[schema(default = default_max_pending)]
    max_pending: u32,
    /// Variables, in the clear
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Names of the workspace's secrets, which become variables of these names
    #[serde(default)]
    secrets: Vec<String>,
}

fn default_cpu() -> u32 {
    125
}

fn default_memory() -> u64 {
    128 << 20
}

fn default_timeout() -> u64 {
    60 * 60 * 1000
}

fn default_keep_warm() -> u64 {
    10_000
}

fn default_max_pending() -> u32 {
    100
}

fn one() -> u32 {
    1
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownStub {
    id: String,
    name: String,
    image: String,
    code: Option<String>,
    handler: String,
    cpu_millicores: u32,
    memory_bytes: u64,
    timeout_ms: u64,
    retries: u32,
    concurrency: u32,
    keep_warm_ms: u64,
    max_containers: u32,
    max_pending: u32,
    environment: BTreeMap<String, String>,
    secrets: Vec<String>,
    created_at: String,
}

impl From<Stub> for ShownStub {
    fn from(shown: Stub) -> Self {
        let Stub { stub, code } = shown;
        let definition = stub.definition;
        Self {
            id: stub.id.to_string(),
            name: stub.name,
            image: definition.image.to_string(),
            code: code.map(|digest| digest.to_string()),
            handler: definition.handler,
            cpu_millicores: definition.cpu_millicores,
            memory_bytes: definition.memory_bytes,
            timeout_ms: definition.timeout_ms,
            retries: definition.retries,
            concurrency: definition.concurrency,
            keep_warm_ms: definition.keep_warm_ms,
            max_containers: definition.max_containers,
            max_pending: definition.max_pending,
            environment: definition.environment.into_iter().collect(),
            secrets: definition.secrets,
            created_at: stub.created_at.to_string(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stubs {
    /// Newest first
    stubs: Vec<ShownStub>,
}

/// The functions of the workspace
#[utoipa::path(
    get,
    path = "/v1/stubs",
    responses((status = 200, body = Stubs), (status = "default", body = Failed))
)]
pub(super) async fn list(State(gateway): State<Gateway>, caller: Caller) -> Answer<Json<Stubs>> {
    let stubs = gateway.stubs(&caller).await?;
    let stubs = stubs.into_iter().map(ShownStub::from).collect();
    Ok(Json(Stubs { stubs }))
}

/// Define a function
///
/// The same name and definition give the same stub.
#[utoipa::path(
    post,
    path = "/v1/stubs",
    request_body = NewStub,
    responses((status = 200, body = ShownStub), (status = "default", body = Failed))
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(new): Body<NewStub>,
) -> Answer<Json<ShownStub>> {
    let request = StubRequest {
        image: parse_digest("image", &new.image)?,
        code: new
            .code
            .map(|code| parse_digest("code", &code))
            .transpose()?,
        name: new.name,
        handler: new.handler,
        cpu_millicores: new.cpu_millicores,
        memory_bytes: new.memory_bytes,
        timeout_ms: new.timeout_ms,
        retries: new.retries,
        concurrency: new.concurrency,
        keep_warm_ms: new.keep_warm_ms,
        max_containers: new.max_containers,
        max_pending: new.max_pending,
        environment: new.environment.into_iter().collect(),
        secrets: new.secrets,
    };
    let stub = gateway.create_stub(&caller, request).await?;
    Ok(Json(stub.into()))
}

/// One function
#[utoipa::path(
    get,
    path = "/v1/stubs/{id}",
    params(("id" = String, Path, description = "stub-…")),
    responses((status = 200, body = ShownStub), (status = "default", body = Failed))
)]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<StubId>,
) -> Answer<Json<ShownStub>> {
    let stub = gateway.stub(&caller, id).await?;
    Ok(Json(stub.into()))
}

fn parse_digest(field: &str, text: &str) -> Answer<Digest> {
    let parsed = Digest::parse(text);
    parsed.map_err(|error| Problem::invalid(format!("{field}: {error}")))
}
