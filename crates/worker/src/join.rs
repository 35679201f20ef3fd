//! How a machine becomes a worker of a gateway: once, by a token.

use std::time::Duration;

use credential::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tonic::{Code, Status};
use worker_protocol::JoinQuestion;

use crate::attach::ask_to_join;
use crate::config::Capacity;
use crate::worker::shown;

/// A row on a disk, and one in a log.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What a gateway is asked.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    pub token: SecretString,
    pub name: String,
    pub capacity: Capacity,
}

/// Why a machine is no worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Asking again the same way is of no use.
    #[error("the gateway does not let this machine join: {}", .0.message().escape_debug())]
    Refused(Status),
    /// The token is as good as before.
    #[error("the gateway takes no worker of this name: {}", .0.message().escape_debug())]
    Name(Status),
    #[error("the gateway cannot let this machine join now: {}", shown(.0))]
    Failed(Status),
    #[error("cannot speak to the gateway")]
    Connect(#[source] hyper::Error),
    #[error("the gateway does not answer")]
    Silent,
}

/// Joins over a connection that proves who both ends are; answers the worker's id. A machine that
/// has joined before is answered the same again, whatever became of the token.
pub async fn join<Channel>(channel: Channel, request: JoinRequest) -> Result<String, JoinError>
where
    Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let question = JoinQuestion {
        token: request.token.expose_secret().to_owned(),
        name: request.name,
        cpu_millicores: request.capacity.cpu_millicores,
        memory_bytes: request.capacity.memory_bytes,
    };
    let asking = timeout(JOIN_TIMEOUT, ask_to_join(channel, question)).await;
    let asked = asking.map_err(|_| JoinError::Silent)?;
    let answer = asked.map_err(JoinError::Connect)?;
    Ok(answer.map_err(join_error)?.worker)
}

fn join_error(status: Status) -> JoinError {
    match status.code() {
        Code::PermissionDenied => JoinError::Refused(status),
        Code::AlreadyExists | Code::InvalidArgument => JoinError::Name(status),
        _ => JoinError::Failed(status),
    }
}
