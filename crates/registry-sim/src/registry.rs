//! The registry's own host.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;

use crate::answer::{blob_reply, error_reply, json_reply, reply, too_many_requests, with_header};
use crate::faults::Faults;
use crate::host::{Arrived, Handler};
use crate::realm;
use crate::sim::{Login, Shared, lock};
use crate::tokens::Standing;

/// Where registries of Azure exchange tokens of a directory.
const EXCHANGE_PATH: &str = "/oauth2/exchange";

/// What is asked for, read from the path.
enum Asked<'a> {
    Base,
    Manifest {
        repository: &'a str,
        reference: &'a str,
    },
    Blob {
        repository: &'a str,
        digest: &'a str,
    },
    Tags {
        repository: &'a str,
    },
}

pub(crate) fn handler(shared: &Arc<Shared>) -> Handler {
    let shared = Arc::clone(shared);
    Arc::new(move |arrived| {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            if arrived.parts.uri.path() == shared.token_path {
                return realm::answer(&shared, &arrived).await;
            }
            if arrived.parts.uri.path() == EXCHANGE_PATH {
                let exchange = lock(&shared.exchange);
                return match &*exchange {
                    Some(exchange) => exchange.answer(&arrived),
                    None => error_reply(404, "UNSUPPORTED", "no such path"),
                };
            }
            answer(&shared, &arrived)
        })
    })
}

fn answer(shared: &Shared, arrived: &Arrived) -> Response {
    if let Some(response) = busy(shared) {
        return response;
    }
    let Some(asked) = parse(arrived.parts.uri.path()) else {
        return error_reply(404, "UNSUPPORTED", "no such path");
    };
    let repository = match &asked {
        Asked::Base => None,
        Asked::Manifest { repository, .. }
        | Asked::Blob { repository, .. }
        | Asked::Tags { repository } => Some(*repository),
    };
    if let Some(refusal) = refuse(shared, arrived, repository) {
        return refusal;
    }
    match asked {
        Asked::Base => json_reply(200, &serde_json::json!({})),
        Asked::Manifest {
            repository,
            reference,
        } => manifest(shared, arrived, repository, reference),
        Asked::Blob { repository, digest } => blob(shared, arrived, repository, digest),
        Asked::Tags { repository } => tags(shared, repository),
    }
}

fn busy(shared: &Shared) -> Option<Response> {
    let mut faults = lock(&shared.faults);
    if Faults::take(&mut faults.too_many_requests) {
        return Some(too_many_requests(&faults));
    }
    Faults::take(&mut faults.unavailable)
        .then(|| error_reply(503, "UNAVAILABLE", "come back later"))
}

fn parse(path: &str) -> Option<Asked<'_>> {
    let rest = path.strip_prefix("/v2/")?;
    if rest.is_empty() {
        return Some(Asked::Base);
    }
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return Some(Asked::Tags { repository });
    }
    if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
        return Some(Asked::Manifest {
            repository,
            reference,
        });
    }
    let (repository, digest) = rest.rsplit_once("/blobs/")?;
    Some(Asked::Blob { repository, digest })
}

/// The reply to a request that is not allowed; `None` when it is.
fn refuse(shared: &Shared, arrived: &Arrived, repository: Option<&str>) -> Option<Response> {
    let headers = &arrived.parts.headers;
    let tokens = lock(&shared.tokens);
    match &shared.options.login {
        Login::Nobody => None,
        Login::Basic => (!tokens.knows(headers)).then(|| {
            let challenge = "Basic realm=\"basic realm\"";
            unauthorized(shared, arrived, challenge)
        }),
        Login::EcrLike if tokens.knows(headers) => None,
        Login::EcrLike if headers.contains_key("authorization") => Some(error_reply(
            403,
            "DENIED",
            "Your authorization token has expired. Reauthenticate and try again.",
        )),
        Login::EcrLike => Some(unauthorized(shared, arrived, "Basic realm=\"ecr\"")),
        Login::Bearer(_) | Login::PublicBearer => {
            let standing = tokens.standing(headers, repository);
            if standing == Standing::Expired && shared.options.is_400_for_expired {
                let text = "Your authorization token has expired. Reauthenticate and try again.";
                return Some(error_reply(400, "DENIED", text));
            }
            bearer_challenge(shared, repository, standing)
                .map(|challenge| unauthorized(shared, arrived, &challenge))
        }
    }
}

fn bearer_challenge(
    shared: &Shared,
    repository: Option<&str>,
    standing: Standing,
) -> Option<String> {
    let error = match standing {
        Standing::Good => return None,
        Standing::Expired => ",error=\"invalid_token\"",
        Standing::Insufficient => ",error=\"insufficient_scope\"",
        Standing::Unknown => "",
    };
    let scope = repository
        .map(|repository| format!(",scope=\"repository:{repository}:pull\""))
        .unwrap_or_default();
    let realm = &shared.realm_url;
    Some(format!(
        "Bearer realm=\"{realm}\",service=\"sim\"{scope}{error}"
    ))
}

fn unauthorized(shared: &Shared, arrived: &Arrived, challenge: &str) -> Response {
    let faults = lock(&shared.faults);
    let challenge = faults.challenge.as_deref().unwrap_or(challenge);
    let sent = arrived
        .parts
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let message = match sent.filter(|_| faults.echo_authorization) {
        Some(sent) => format!("you sent {sent}"),
        None => "authentication required".to_owned(),
    };
    let refusal = error_reply(401, "UNAUTHORIZED", &message);
    if faults.challenge_at_door_only && arrived.parts.uri.path() != "/v2/" {
        return refusal;
    }
    with_header(refusal, "www-authenticate", challenge)
}

fn manifest(shared: &Shared, arrived: &Arrived, repository: &str, reference: &str) -> Response {
    let mut faults = lock(&shared.faults);
    let Some(left) = faults.pulls_left else {
        drop(faults);
        return unlimited_manifest(shared, repository, reference);
    };
    if left == 0 && arrived.parts.method == Method::GET {
        return too_many_requests(&faults);
    }
    let left = left - u32::from(arrived.parts.method == Method::GET);
    faults.pulls_left = Some(left);
    drop(faults);
    let headers = [
        ("ratelimit-limit", "100;w=21600".to_owned()),
        ("ratelimit-remaining", format!("{left};w=21600")),
        ("docker-ratelimit-source", "127.0.0.1".to_owned()),
    ];
    let response = unlimited_manifest(shared, repository, reference);
    let headers = headers.into_iter();
    headers.fold(response, |response, (name, value)| {
        with_header(response, name, &value)
    })
}

fn unlimited_manifest(shared: &Shared, repository: &str, reference: &str) -> Response {
    let Some(stored) = lock(&shared.store).manifest(repository, reference) else {
        return error_reply(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    let mut bytes = stored.bytes.to_vec();
    if lock(&shared.faults).wrong_manifest {
        bytes.push(b' ');
    }
    let response = reply(200, &stored.media_type, Bytes::from(bytes));
    with_header(response, "docker-content-digest", &stored.digest)
}

fn tags(shared: &Shared, repository: &str) -> Response {
    match lock(&shared.store).tags(repository) {
        Some(tags) => json_reply(
            200,
            &serde_json::json!({ "name": repository, "tags": tags }),
        ),
        None => error_reply(404, "NAME_UNKNOWN", "repository name not known to registry"),
    }
}

fn blob(shared: &Shared, arrived: &Arrived, repository: &str, digest: &str) -> Response {
    let Some(bytes) = lock(&shared.store).blob(repository, digest) else {
        return error_reply(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let mut faults = lock(&shared.faults);
    if let Some(target) = &faults.redirect_to {
        return with_header(reply(307, "text/plain", Bytes::new()), "location", target);
    }
    if shared.options.redirect_blobs {
        let life = shared.options.location_life;
        let signed = lock(&shared.signatures).sign(&shared.storage_url, repository, digest, life);
        return with_header(reply(307, "text/plain", Bytes::new()), "location", &signed);
    }
    blob_reply(&bytes, arrived, &mut faults, &shared.blob_bytes)
}
