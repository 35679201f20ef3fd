//! Stubs: functions as they are defined. Everything that decides how one runs is bounded here, by
//! name, before it is on record; what it refers to must be the workspace's own.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use control_store::{Definition, Stub, TokenScope};
use ids::{ObjectId, StubId, WorkspaceId};
use reference::Digest;

use super::objects::ObjectNamed;
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem, Refusal};
use crate::variables;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A thousandth of a core is the least that a cgroup can have; no machine has so many as the most.
const CPU_MILLICORES: RangeInclusive<u32> = 1..=1_000_000;
/// A Python alone takes half of the least; no machine has so much as the most.
const MEMORY_BYTES: RangeInclusive<u64> = 16 << 20..=16 << 40;
/// One attempt. What takes longer than a day is a service and not a call.
const TIMEOUT_MS: RangeInclusive<u64> = 1..=DAY_MS;
/// What failed ten times fails.
const RETRIES: RangeInclusive<u32> = 0..=10;
/// Calls of one container at a time: a thread each.
const CONCURRENCY: RangeInclusive<u32> = 1..=64;
const KEEP_WARM_MS: RangeInclusive<u64> = 0..=DAY_MS;
/// Of one function. More are a cluster's, which there is not.
const MAX_CONTAINERS: RangeInclusive<u32> = 1..=100;
/// Calls that wait: rows that are looked through.
const MAX_PENDING: RangeInclusive<u32> = 1..=10_000;
/// Secrets of one function, each opened at every start.
const SECRETS_LIMIT: usize = 64;
/// Longest name of a function, with what clients put before it.
const NAME_LIMIT_BYTES: usize = 256;
const HANDLER_LIMIT_BYTES: usize = 256;

/// A function that somebody defines.
#[derive(Debug, Clone)]
pub struct StubRequest {
    pub name: String,
    /// An image that was built.
    pub image: Digest,
    /// An object that was uploaded; absent where the image has the code.
    pub code: Option<Digest>,
    /// `module:attribute`
    pub handler: String,
    pub cpu_millicores: u32,
    pub memory_bytes: u64,
    pub timeout_ms: u64,
    pub retries: u32,
    pub concurrency: u32,
    pub keep_warm_ms: u64,
    pub max_containers: u32,
    pub max_pending: u32,
    pub environment: Vec<(String, String)>,
    pub secrets: Vec<String>,
}

/// A function, with its code by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownStub {
    pub stub: Stub,
    pub code: Option<Digest>,
}

impl Gateway {
    /// Defines a function. The same name and definition give the same stub.
    pub async fn create_stub(
        &self,
        caller: &Caller,
        request: StubRequest,
    ) -> Result<ShownStub, Problem> {
        caller.must(TokenScope::Call)?;
        if !request.secrets.is_empty() {
            // Whoever decides what is run with a secret can read it.
            caller.must(TokenScope::Secrets)?;
        }
        check(&request)?;
        let workspace = caller.workspace();
        let code = request.code.clone();
        let name = request.name.clone();
        let definition = self.definition(workspace, request).await?;
        let stub = self.store().ensure_stub(workspace, &name, &definition);
        let stub = stub.await?;
        Ok(ShownStub { stub, code })
    }

    /// The functions of the workspace, newest first.
    pub async fn stubs(&self, caller: &Caller) -> Result<Vec<ShownStub>, Problem> {
        caller.must(TokenScope::Read)?;
        let stubs = self.store().stubs(caller.workspace()).await?;
        let mut shown = Vec::with_capacity(stubs.len());
        for stub in stubs {
            shown.push(self.shown(stub).await?);
        }
        Ok(shown)
    }

    pub async fn stub(&self, caller: &Caller, id: StubId) -> Result<ShownStub, Problem> {
        caller.must(TokenScope::Read)?;
        let stub = self.store().stub(caller.workspace(), id).await?;
        let no_stub = || Problem::not_own(format!("no function {id} in this workspace"));
        self.shown(stub.ok_or_else(no_stub)?).await
    }

    async fn shown(&self, stub: Stub) -> Result<ShownStub, Problem> {
        let code = match stub.definition.code {
            Some(id) => self.store().object(stub.workspace, id).await?,
            None => None,
        };
        Ok(ShownStub {
            code: code.map(|object| object.digest),
            stub,
        })
    }

    /// The request with what it refers to, which must be the workspace's own.
    async fn definition(
        &self,
        workspace: WorkspaceId,
        request: StubRequest,
    ) -> Result<Definition, Problem> {
        let image = self.built_image(workspace, &request.image).await;
        let image = image.map_err(|problem| match problem.kind {
            Kind::NotFound => Problem {
                kind: Kind::Invalid,
                ..problem
            },
            _ => problem,
        })?;
        let code = match &request.code {
            Some(digest) => Some(self.code(workspace, digest).await?),
            None => None,
        };
        let environment = variables::parse(request.environment)?;
        let secrets = self.secrets_of(workspace, request.secrets).await?;
        let twice = |(name, _): &&(String, String)| secrets.contains(name);
        if let Some((name, _)) = environment.iter().find(twice) {
            let message = format!("{name} is both a variable and a secret");
            return Err(Problem::invalid(message));
        }
        Ok(Definition {
            image: request.image,
            code,
            handler: request.handler,
            python: image.python.program,
            cpu_millicores: request.cpu_millicores,
            memory_bytes: request.memory_bytes,
            timeout_ms: request.timeout_ms,
            retries: request.retries,
            concurrency: request.concurrency,
            keep_warm_ms: request.keep_warm_ms,
            max_containers: request.max_containers,
            max_pending: request.max_pending,
            environment,
            secrets,
        })
    }

    async fn code(&self, workspace: WorkspaceId, digest: &Digest) -> Result<ObjectId, Problem> {
        let found = self.find_object(workspace, ObjectNamed::Digest(digest));
        let object = found.await?.ok_or_else(|| {
            Problem::invalid(format!("code: no object {digest} in this workspace"))
                .refuses(Refusal::Name)
                .hint("upload it first")
        })?;
        Ok(object.id)
    }

    /// The names in their order, each of a secret that is there.
    async fn secrets_of(
        &self,
        workspace: WorkspaceId,
        names: Vec<String>,
    ) -> Result<Vec<String>, Problem> {
        let names: BTreeSet<String> = names.into_iter().collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.broker().named_secrets(workspace).await?;
        let is_known = |name: &String| known.iter().any(|secret| secret.name.as_str() == name);
        if let Some(missing) = names.iter().find(|name| !is_known(name)) {
            let missing = crate::foreign::shown(missing);
            let problem = Problem::invalid(format!("no secret {missing:?} in this workspace"));
            return Err(problem
                .refuses(Refusal::Name)
                .hint("`holdfast secret set NAME` makes one"));
        }
        Ok(names.into_iter().collect())
    }
}

fn check(request: &StubRequest) -> Result<(), Problem> {
    check_name(&request.name)?;
    check_handler(&request.handler)?;
    within("cpu_millicores", &request.cpu_millicores, &CPU_MILLICORES)?;
    within("memory_bytes", &request.memory_bytes, &MEMORY_BYTES)?;
    within("timeout_ms", &request.timeout_ms, &TIMEOUT_MS)?;
    within("retries", &request.retries, &RETRIES)?;
    within("concurrency", &request.concurrency, &CONCURRENCY)?;
    within("keep_warm_ms", &request.keep_warm_ms, &KEEP_WARM_MS)?;
    within("max_containers", &request.max_containers, &MAX_CONTAINERS)?;
    within("max_pending", &request.max_pending, &MAX_PENDING)?;
    if request.secrets.len() > SECRETS_LIMIT {
        let message = format!("secrets: at most {SECRETS_LIMIT}");
        return Err(Problem::invalid(message));
    }
    Ok(())
}

fn within<N>(field: &str, number: &N, range: &RangeInclusive<N>) -> Result<(), Problem>
where
    N: PartialOrd + Display,
{
    if range.contains(number) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    let message = format!("{field} is {number} and may be from {least} to {most}");
    Err(Problem::invalid(message))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let is_shown = !name.chars().any(char::is_control);
    if !name.trim().is_empty() && name.len() <= NAME_LIMIT_BYTES && is_shown {
        return Ok(());
    }
    let message = format!(
        "name: a function needs one, of characters that can be shown and at most \
         {NAME_LIMIT_BYTES} bytes"
    );
    Err(Problem::invalid(message))
}

/// Dotted names on both sides of one colon. Files may have names that are no identifiers.
fn check_handler(handler: &str) -> Result<(), Problem> {
    let is_name = |name: &str| {
        let mut characters = name.chars();
        !name.is_empty() && characters.all(|c| c == '_' || c == '-' || c.is_alphanumeric())
    };
    let is_dotted = |names: &str| names.split('.').all(is_name);
    let parts = handler.split_once(':');
    let is_good = parts.is_some_and(|(module, attribute)| {
        is_dotted(module) && is_dotted(attribute) && !attribute.contains('-')
    });
    if is_good && handler.len() <= HANDLER_LIMIT_BYTES {
        return Ok(());
    }
    Err(Problem::invalid("handler is written as module:function")
        .hint("such as app:predict, or package.module:Class.method"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_a_module_and_what_is_in_it() {
        for good in ["app:f", "a.b.c:f", "my-app:F.g", "__main__:f", "überall:ü"] {
            assert_eq!(check_handler(good), Ok(()), "{good}");
        }
        let long = format!("{}:f", "m".repeat(HANDLER_LIMIT_BYTES));
        for bad in [
            "", "app", ":f", "app:", "app:f:g", ".app:f", "app.:f", "a..b:f", "app:f g", "a/b:f",
            "app:f-g", "app:f\n", &long,
        ] {
            assert!(check_handler(bad).is_err(), "{bad:?}");
        }
    }
}
