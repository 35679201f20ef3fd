//! Functions as the client defines them.
//!
//! Of the fifty fields of its request many belong to other things than functions. What a user may
//! have said of a function is used or refused by name. What no user can say of one is not looked
//! at: pool and line have sizes that let `map` do what it does there, where each call has a
//! container of its own. A refusal is a status: told in a reply, 0.1.245 goes on with `None`.

use beta9_protocol::gateway::{
    Autoscaler, GetOrCreateStubRequest, GetOrCreateStubResponse, SecretVar, TaskPolicy,
};
use ids::ObjectId;
use reference::Digest;

use super::parse_id;
use super::refusal::{refuse, unsupported};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::stubs::StubRequest;
use crate::problem::{Kind, Problem};

/// A `schedule` is a function too, until it is deployed.
const TYPES: [&str; 2] = ["function", "schedule"];
/// What stands for something that is to be put in its place.
const REFERENCE: &str = "${{";
/// Containers of one function: as many calls as a `map` of 0.1.291 has under way.
const MAX_CONTAINERS: u32 = 32;
/// Calls that may wait: a `map` of 0.1.245 makes one for each of its inputs at once.
const MAX_PENDING: u32 = 1000;
/// How long a container without calls is kept, where the client does not say: the time that
/// 0.1.245 says.
const KEEP_WARM_MS: u64 = 10_000;
const HINT: &str = "a function has an image, cpu, memory, timeout, retries, env and secrets";

pub(super) async fn create(
    gateway: &Gateway,
    caller: &Caller,
    request: GetOrCreateStubRequest,
) -> Result<GetOrCreateStubResponse, Problem> {
    refuse_others(&request)?;
    let code = match &*request.object_id {
        "" => None,
        id => Some(code(gateway, caller, id).await?),
    };
    let stub = gateway.create_stub(caller, parse(request, code)?).await?;
    Ok(GetOrCreateStubResponse {
        ok: true,
        stub_id: stub.stub.id.uuid().to_string(),
        ..Default::default()
    })
}

/// The digest of the user's files. A process of 0.1.245 asks once whether they are here, and goes
/// on with its id for as long as it runs.
async fn code(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Digest, Problem> {
    let gone = "the files of the program are no longer here";
    let hint = "start the program again: it sends them then";
    let id = parse_id(id, ObjectId::parse_uuid, gone).map_err(|problem| problem.hint(hint))?;
    match gateway.object_of_id(caller, id).await {
        Ok(object) => Ok(object.digest),
        Err(problem) if problem.kind == Kind::NotFound => Err(Problem::not_own(gone).hint(hint)),
        Err(problem) => Err(problem),
    }
}

fn parse(request: GetOrCreateStubRequest, code: Option<Digest>) -> Result<StubRequest, Problem> {
    let image = Digest::parse(&request.image_id);
    let image = image.map_err(|error| Problem::invalid(format!("image_id: {error}")))?;
    let policy = request.task_policy.unwrap_or_default();
    let memory_mib: u64 = number("memory", request.memory)?;
    Ok(StubRequest {
        name: request.name,
        image,
        code,
        handler: request.handler,
        cpu_millicores: number("cpu", request.cpu)?,
        memory_bytes: memory_mib.saturating_mul(1 << 20),
        timeout_ms: parse_timeout(policy)?,
        retries: policy.max_retries,
        concurrency: request.concurrent_requests.max(1),
        keep_warm_ms: parse_keep_warm(request.keep_warm_seconds),
        max_containers: MAX_CONTAINERS,
        max_pending: MAX_PENDING,
        environment: parse_environment(&request.env)?,
        secrets: request.secrets.into_iter().map(name).collect(),
    })
}

fn name(secret: SecretVar) -> String {
    secret.name
}

fn number<N: TryFrom<i64>>(argument: &str, value: i64) -> Result<N, Problem> {
    let absurd = |_| Problem::invalid(format!("{argument} is {value}, which nothing can have"));
    N::try_from(value).map_err(absurd)
}

fn parse_timeout(policy: TaskPolicy) -> Result<u64, Problem> {
    let endless = |_| {
        unsupported("timeout=-1 is not supported: every call has a limit")
            .hint("a day is the most: timeout=86400")
    };
    let seconds = u64::try_from(policy.timeout).map_err(endless)?;
    Ok(seconds.saturating_mul(1000))
}

/// Nothing is what a client sends that has no such argument.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and what is out of bounds is refused after it"
)]
fn parse_keep_warm(seconds: f32) -> u64 {
    if seconds > 0.0 {
        (f64::from(seconds) * 1000.0) as u64
    } else {
        KEEP_WARM_MS
    }
}

/// `KEY=VALUE`, in the clear.
pub(super) fn parse_environment(lines: &[String]) -> Result<Vec<(String, String)>, Problem> {
    let parsed = lines.iter().map(|line| {
        let malformed = || Problem::invalid("environment: a variable is written as KEY=VALUE");
        let (name, value) = line.split_once('=').ok_or_else(malformed)?;
        if value.contains(REFERENCE) {
            let message = format!("environment: {name:?} is a reference, which is not supported");
            return Err(unsupported(message).hint("a secret goes into secrets=, by its name"));
        }
        Ok((name.to_owned(), value.to_owned()))
    });
    parsed.collect()
}

fn refuse_others(request: &GetOrCreateStubRequest) -> Result<(), Problem> {
    if request.force_create {
        let problem = unsupported("deployments are not supported");
        return Err(problem.hint("call the function with .remote()"));
    }
    if !TYPES.contains(&&*request.stub_type) {
        let message = format!("{:?} is not supported: functions are", request.stub_type);
        return Err(unsupported(message));
    }
    let policy = request.task_policy.unwrap_or_default();
    let scaler = request.autoscaler.as_ref();
    let parts = [
        ("gpu", !request.gpu.is_empty() || request.gpu_count != 0),
        ("volumes", !request.volumes.is_empty()),
        ("disks", !request.disks.is_empty()),
        ("callback_url", !request.callback_url.is_empty()),
        ("on_start", !request.on_start.is_empty()),
        ("on_deploy", !request.on_deploy.is_empty()),
        ("ttl", policy.ttl != 0),
        ("inputs", request.inputs.is_some()),
        ("outputs", request.outputs.is_some()),
        ("pool", request.pool.is_some()),
        ("pricing", request.pricing.is_some()),
        ("workers", request.workers > 1),
        ("autoscaler", scaler.is_some_and(is_chosen)),
        ("authorized=False", !request.authorized),
        ("block_network", request.block_network),
        ("allow_list", !request.allow_list.is_empty()),
        ("entrypoint", !request.entrypoint.is_empty()),
        ("ports", !request.ports.is_empty() || request.tcp),
        ("docker_enabled", request.docker_enabled),
        ("use_vm", request.use_vm),
        (
            "checkpoint_enabled",
            request.checkpoint_enabled || request.checkpoint_trigger.is_some(),
        ),
        ("serving", request.serving.is_some() || request.is_service),
        ("hostname", !request.hostname.is_empty()),
        ("persistent_root", request.persistent_root.is_some()),
        ("managed_endpoint", !request.managed_endpoint.is_empty()),
        ("extra", !["", "{}"].contains(&&*request.extra)),
    ];
    refuse(&parts, HINT)
}

/// Whether somebody asks for other than a container where there are calls.
fn is_chosen(scaler: &Autoscaler) -> bool {
    !["", "queue_depth"].contains(&&*scaler.r#type)
        || scaler.min_containers != 0
        || scaler.tasks_per_container > 1
}
