//! Having a confined process bring all of an image into the cache, without mounting it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthSource;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::child::Server;
use super::conversation::{Answers, Conversation, Reply};
use super::hand_over::{HandOverError, hand_over};
use super::{ANSWER_TIMEOUT, InCache, MountError, blocking, died};
use crate::request::{MountLog, MountRequest, MountStats};
use crate::wire::{ToChild, WireError, WireFilled, WireMount};

/// How often somebody who looks on is told how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why not all of an image is in the cache.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error("the cache, or its disk, has no room for all of it")]
    NoRoom,
    /// The registry did not give it.
    #[error("{message}")]
    Unread { message: String },
    /// An index, or what the registry gives, is not what it should be.
    #[error("{message}")]
    Damaged { message: String },
    #[error(transparent)]
    Process(#[from] MountError),
}

/// Who looks on.
#[derive(Debug)]
pub struct FillWatch<Progress> {
    /// What belongs into a log; what nobody has read yet is dropped.
    pub logs: mpsc::Sender<MountLog>,
    /// How far it is, now and then.
    pub progress: Progress,
}

/// Brings all of the image that `request` would mount into the cache, evicting what may be. Where
/// it is mounted is left out of account. Dropped, it ends the process; what has come is kept.
pub async fn fill(
    program: &Path,
    request: MountRequest,
    auth: Arc<dyn AuthSource>,
    mut watch: FillWatch<impl FnMut(MountStats)>,
) -> Result<MountStats, FillError> {
    let (mut server, ours) = Server::start(program)?;
    let question = ToChild::Fill(Box::new(WireMount::from(&request)));
    let answers = Answers::to(&request, auth);
    let in_cache = InCache::of(request);
    if !in_cache.may_hold_all() {
        return Err(FillError::NoRoom);
    }
    let handed = blocking(move || (hand_over(&ours, None, &in_cache).map(|_| ours), in_cache));
    let (handed, _in_cache) = handed.await?;
    let socket = match handed {
        Ok(socket) => UnixStream::from_std(socket).map_err(died)?,
        Err(HandOverError::Refused(error)) => return Err(error.into()),
        Err(HandOverError::Socket) => return Err(server.death().await.into()),
    };
    let mut conversation = Conversation::start(socket, answers, watch.logs);
    let reply = {
        let mut filling = std::pin::pin!(conversation.mount(&question, Duration::MAX));
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                reply = &mut filling => break reply,
                _ = looks.tick() => {}
            }
            let asked = conversation
                .ask(|id| ToChild::Stats { id }, ANSWER_TIMEOUT)
                .await;
            if let Ok(Reply::Stats(stats)) = asked {
                (watch.progress)(stats.into());
            }
        }
    };
    conversation.close();
    let death = server.death().await;
    match reply {
        Ok(Reply::Filled(filled, stats)) => said(filled).map(|()| stats.into()),
        Ok(Reply::Refused(refused)) => Err(MountError::refused(refused).into()),
        Err(WireError::TooLong(bytes)) => {
            let message = format!("the request to fill is too long: {bytes} bytes");
            Err(MountError::Request { message }.into())
        }
        Ok(_) | Err(_) => Err(death.into()),
    }
}

fn said(filled: WireFilled) -> Result<(), FillError> {
    match filled {
        WireFilled::Whole => Ok(()),
        WireFilled::NoRoom => Err(FillError::NoRoom),
        WireFilled::Unread { message } => Err(FillError::Unread { message }),
        WireFilled::Damaged { message } => Err(FillError::Damaged { message }),
    }
}
