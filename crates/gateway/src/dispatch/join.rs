//! How a machine becomes a worker: by a token that counts once, and the key of its connection.
//!
//! All that may be asked before that is asked here, in one short message; a connection asks once.
//! What becomes of it is in the audit log, before the machine is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use broker::WorkerEvent;
use control_store::{Capacity, Joined, NewWorker, Worker};
use credential::{ExposeSecret, SecretString};
use ids::WorkerId;
use peer_identity::{Fingerprint, JoinToken};
use tonic::{Request, Response, Status, async_trait};
use worker_protocol::join_service_server::{JoinService, JoinServiceServer};
use worker_protocol::{JoinAnswer, JoinQuestion, MAX_JOIN_BYTES, MAX_NAME_BYTES};

use super::connection::unavailable;
use crate::denials::Denied;
use crate::gateway::Gateway;

/// Where the service is served.
const PATH: &str = "/holdfast.worker.v1.JoinService/{*method}";
/// What is said of a token, whatever is wrong with it.
const NO_TOKEN: &str = "the token is not known, is over, or was used before";

/// One connection of a machine that wants to join.
#[derive(Debug, Clone)]
struct Stranger {
    gateway: Gateway,
    key: Fingerprint,
    has_asked: Arc<AtomicBool>,
}

pub(super) fn router(gateway: Gateway, key: Fingerprint) -> Router {
    let stranger = Stranger {
        gateway,
        key,
        has_asked: Arc::default(),
    };
    let service = JoinServiceServer::new(stranger)
        .max_decoding_message_size(MAX_JOIN_BYTES)
        .max_encoding_message_size(MAX_JOIN_BYTES);
    Router::new().route_service(PATH, service)
}

#[async_trait]
impl JoinService for Stranger {
    async fn join(&self, request: Request<JoinQuestion>) -> Result<Response<JoinAnswer>, Status> {
        if self.has_asked.swap(true, Ordering::Relaxed) {
            return Err(Status::resource_exhausted("a connection asks once"));
        }
        // Goes on when the machine hangs up: what becomes of it is written down all the same.
        let (stranger, question) = (self.clone(), request.into_inner());
        let joining = tokio::spawn(async move { stranger.let_join(question).await });
        let joined = joining.await.map_err(|error| unavailable(&error))?;
        let worker = joined?.to_string();
        Ok(Response::new(JoinAnswer { worker }))
    }
}

impl Stranger {
    async fn let_join(&self, question: JoinQuestion) -> Result<WorkerId, Status> {
        let store = self.gateway.store();
        let known = store.worker_of_key(self.key.bytes()).await;
        if let Some(known) = known.map_err(|error| unavailable(&error))? {
            // It did not hear the first answer, or asks at each start.
            return Ok(known.id);
        }
        let token = SecretString::from(question.token);
        if !is_name(&question.name) {
            let reason = "a worker is named like a host: letters, digits, dots and dashes";
            return Err(self.refuse(Status::invalid_argument(reason)).await);
        }
        let Some(token) = JoinToken::parse(token.expose_secret()) else {
            return Err(self.refuse(Status::permission_denied(NO_TOKEN)).await);
        };
        let new = NewWorker {
            id: WorkerId::new(),
            name: question.name,
            key: *self.key.bytes(),
            capacity: Capacity {
                cpu_millicores: question.cpu_millicores,
                memory_bytes: question.memory_bytes,
            },
        };
        let joined = store.join_worker(&token.hash(), &new).await;
        match joined.map_err(|error| unavailable(&error))? {
            Joined::Worker(worker) => self.welcome(worker).await,
            Joined::TokenRefused => Err(self.refuse(Status::permission_denied(NO_TOKEN)).await),
            Joined::NameTaken => {
                let reason = "another worker has this name; the token still counts";
                Err(self.refuse(Status::already_exists(reason)).await)
            }
        }
    }

    /// Nobody is a worker of whom the audit log does not say so.
    async fn welcome(&self, worker: Worker) -> Result<WorkerId, Status> {
        tracing::info!(worker = %worker.id, name = worker.name, "a worker has joined");
        let event = WorkerEvent::Joined {
            worker: worker.id,
            name: &worker.name,
            key: &self.key.to_string(),
        };
        let Err(error) = self.gateway.broker().note_worker_event(event).await else {
            return Ok(worker.id);
        };
        if let Err(error) = self.gateway.store().remove_worker(worker.id).await {
            tracing::error!(%error, worker = %worker.id, "a worker could not be taken back");
        }
        Err(unavailable(&error))
    }

    async fn refuse(&self, status: Status) -> Status {
        let (key, reason) = (self.key, status.message().to_owned());
        self.gateway.deny(Denied::Join { key, reason }).await;
        status
    }
}

impl Gateway {
    /// What whoever holds this key is told that asks as a worker and is none, or is none any more:
    /// it has that in the audit log before, also when it hangs up meanwhile.
    pub(super) async fn refuse_stranger(&self, key: Fingerprint) -> Status {
        let status = not_known();
        let reason = status.message().to_owned();
        self.deny(Denied::NotKnown { key, reason }).await;
        status
    }
}

/// What whoever holds a key is told that is no worker's, or no longer.
fn not_known() -> Status {
    Status::unauthenticated("this machine is no worker here: it joins with a token")
}

fn is_name(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_named_like_hosts() {
        for name in ["a", "node-1.example", "GPU_2", &"x".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a b", "a\n", "a/b", "n\u{e9}", &"x".repeat(254)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
