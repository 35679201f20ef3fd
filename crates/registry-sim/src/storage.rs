//! The host of the signed URLs, in the ways of an object store: a good signature is all that
//! counts, and a request that also carries `Authorization` is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;

use crate::answer::{blob_reply, reply};
use crate::host::{Arrived, Handler};
use crate::sim::{Shared, lock};

/// Signatures given out, and until when they are good.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    given: HashMap<String, Instant>,
    count: u64,
}

impl Signatures {
    pub(crate) fn sign(
        &mut self,
        base: &str,
        repository: &str,
        digest: &str,
        life: Duration,
    ) -> String {
        self.count += 1;
        let signature = format!("sim-signature-{}", self.count);
        self.given.insert(signature.clone(), Instant::now() + life);
        let seconds = life.as_secs();
        format!("{base}/{repository}/{digest}?X-Amz-Expires={seconds}&X-Amz-Signature={signature}")
    }

    pub(crate) fn expire_all(&mut self) {
        self.given.clear();
    }

    fn is_good(&self, query: &str) -> bool {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "X-Amz-Signature")
            .and_then(|(_, signature)| self.given.get(signature.as_ref()))
            .is_some_and(|until| Instant::now() < *until)
    }
}

pub(crate) fn handler(shared: &Arc<Shared>) -> Handler {
    let shared = Arc::clone(shared);
    Arc::new(move |arrived| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { answer(&shared, &arrived) })
    })
}

fn answer(shared: &Shared, arrived: &Arrived) -> Response {
    if arrived.parts.headers.contains_key("authorization") {
        return refusal(400, "InvalidArgument: only one auth mechanism allowed");
    }
    if !lock(&shared.signatures).is_good(arrived.parts.uri.query().unwrap_or_default()) {
        return refusal(403, "AccessDenied: request has expired");
    }
    let path = arrived.parts.uri.path().trim_start_matches('/');
    let found = path
        .rsplit_once('/')
        .and_then(|(repository, digest)| lock(&shared.store).blob(repository, digest));
    match found {
        Some(bytes) => {
            let faults = &mut lock(&shared.faults);
            blob_reply(&bytes, arrived, faults, &shared.blob_bytes)
        }
        None => refusal(404, "NoSuchKey"),
    }
}

fn refusal(status: u16, message: &str) -> Response {
    reply(
        status,
        "application/xml",
        format!("<Error>{message}</Error>").into(),
    )
}
