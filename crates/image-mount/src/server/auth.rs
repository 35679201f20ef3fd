//! The mount process's source of registry auth: its parent. Keeps what it was given for as long as
//! it is good, asks once for all who want it, and gives the registry's refusal along.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::Duration;

use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, LocationFuture, LocationRequest, ReadFrom,
    ReadFuture, ReadRequest, RegistryAuth, Rejection, SharedFuture, SharedLayer, SharedRequest,
};
use jiff::Timestamp;
use reference::Digest;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::reads::RemoteReads;
use crate::wire::{self, Frame, ToParent, rejection_to_wire};

/// How long the parent may take: it may have to ask a slow token service, with retries.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// What comes without an end is asked for again after this, so that a new login or a revocation
/// arrives without the registry having to refuse first.
const UNDATED_LIFE: Duration = Duration::from_mins(5);

/// An auth is not used in the last fifth of its life, or in its last half minute.
const LIFE_SHARE: u32 = 5;
const LONGEST_MARGIN: Duration = Duration::from_secs(30);

/// What the parent gives.
#[derive(Debug)]
pub(super) enum Given {
    Auth(RegistryAuth),
    Location(ReadFrom),
    Shared(Option<SharedLayer>),
}

type Answer = Result<Given, AuthError>;

#[derive(Debug)]
pub(super) struct RemoteAuth {
    /// Weak, so that the socket can close while readers still wait.
    frames: mpsc::WeakSender<Frame>,
    waiting: StdMutex<HashMap<u64, oneshot::Sender<Answer>>>,
    held: Mutex<Option<Held>>,
    questions: AtomicU64,
    auth_requests: AtomicU64,
    reads: RemoteReads,
}

#[derive(Debug)]
struct Held {
    auth: RegistryAuth,
    good_until: Instant,
}

impl RemoteAuth {
    pub(super) fn new(frames: mpsc::WeakSender<Frame>) -> Self {
        Self {
            reads: RemoteReads::new(frames.clone()),
            frames,
            waiting: StdMutex::default(),
            held: Mutex::default(),
            questions: AtomicU64::default(),
            auth_requests: AtomicU64::default(),
        }
    }

    /// The parent's answer to question `id`. One that nobody waits for any more is dropped.
    pub(super) fn answer(&self, id: u64, answer: Answer) {
        if let Some(sender) = self.waiting().remove(&id) {
            let _ = sender.send(answer);
        }
    }

    /// What the parent reads for us.
    pub(super) fn reads(&self) -> &RemoteReads {
        &self.reads
    }

    /// Times that the parent was asked for an auth.
    pub(super) fn requests(&self) -> u64 {
        self.auth_requests.load(Relaxed)
    }

    fn waiting(&self) -> StdMutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, rejected: Option<Rejection>) -> Result<RegistryAuth, AuthError> {
        // Who comes while another asks waits here, and finds the answer.
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref()
            && Instant::now() < held.good_until
            && rejected
                .as_ref()
                .is_none_or(|rejected| rejected.serial != held.auth.serial)
        {
            return Ok(held.auth.clone());
        }
        *held = None;
        self.auth_requests.fetch_add(1, Relaxed);
        let rejected = rejected.as_ref().map(rejection_to_wire);
        let question = |id| ToParent::WantAuth { id, rejected };
        let Given::Auth(auth) = self.ask(question).await? else {
            return Err(other_answer());
        };
        let good_until = Instant::now() + usable_life(&auth, Timestamp::now());
        *held = Some(Held {
            auth: auth.clone(),
            good_until,
        });
        Ok(auth)
    }

    async fn locate(&self, digest: &Digest, refused: Option<u64>) -> Result<ReadFrom, AuthError> {
        let digest = digest.to_string();
        let question = |id| ToParent::WantLocation {
            id,
            digest,
            refused,
        };
        match self.ask(question).await? {
            Given::Location(location) => Ok(location),
            _ => Err(other_answer()),
        }
    }

    async fn find_shared(&self, digest: &Digest) -> Result<Option<SharedLayer>, AuthError> {
        let digest = digest.to_string();
        match self.ask(|id| ToParent::WantShared { id, digest }).await? {
            Given::Shared(shared) => Ok(shared),
            _ => Err(other_answer()),
        }
    }

    async fn ask(&self, question: impl FnOnce(u64) -> ToParent) -> Answer {
        let unreachable = |message: &str| AuthError::Unreachable {
            message: message.to_owned(),
        };
        let id = self.questions.fetch_add(1, Relaxed);
        let frame = wire::encode(&question(id)).map_err(|error| AuthError::Internal {
            message: error.to_string(),
        })?;
        let frames = self
            .frames
            .upgrade()
            .ok_or_else(|| unreachable("holdfast is ending"))?;
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(id, sender);
        let _forget = Forget { source: self, id };
        frames
            .send(frame)
            .await
            .map_err(|_| unreachable("holdfast is gone"))?;
        drop(frames);
        match tokio::time::timeout(ANSWER_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unreachable("holdfast is gone")),
            Err(_) => Err(unreachable("holdfast did not get a registry auth in time")),
        }
    }
}

fn other_answer() -> AuthError {
    AuthError::Internal {
        message: "holdfast answered another question".to_owned(),
    }
}

/// Takes the question back when the asker goes away.
struct Forget<'a> {
    source: &'a RemoteAuth,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.source.waiting().remove(&self.id);
    }
}

fn usable_life(auth: &RegistryAuth, now: Timestamp) -> Duration {
    let Some(not_after) = auth.not_after else {
        return UNDATED_LIFE;
    };
    let life = Duration::try_from(not_after.duration_since(now)).unwrap_or_default();
    life.saturating_sub((life / LIFE_SHARE).min(LONGEST_MARGIN))
}

impl AuthSource for RemoteAuth {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        // The parent knows which registry and repository this mount is for, and answers for those
        // alone; what is asked for here decides nothing.
        Box::pin(self.get(request.rejected))
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(self.locate(request.digest, request.refused))
    }

    fn shared<'a>(&'a self, request: SharedRequest<'a>) -> SharedFuture<'a> {
        Box::pin(self.find_shared(request.digest))
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(self.reads.read(request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use credential::auth::AuthScheme;

    use super::*;
    use crate::wire::ToParent;

    fn auth(serial: u64, seconds: Option<i64>) -> RegistryAuth {
        let not_after = seconds.map(|seconds| {
            Timestamp::now()
                .checked_add(jiff::SignedDuration::from_secs(seconds))
                .unwrap()
        });
        let scheme = AuthScheme::Bearer(format!("token-{serial}").into());
        RegistryAuth {
            scheme,
            not_after,
            serial,
        }
    }

    fn rejection(serial: u64) -> Rejection {
        Rejection {
            serial,
            status: 401,
            challenges: vec!["Bearer".to_owned()],
            says_expired: false,
            is_hearsay: false,
        }
    }

    /// A source and the questions that it asks its parent.
    fn source() -> (Arc<RemoteAuth>, mpsc::Sender<Frame>, mpsc::Receiver<Frame>) {
        let (sender, questions) = mpsc::channel(8);
        (
            Arc::new(RemoteAuth::new(sender.downgrade())),
            sender,
            questions,
        )
    }

    fn question(frame: &Frame) -> (u64, Option<u64>) {
        match wire::PROTOCOL.decode(&frame[4..]).unwrap() {
            ToParent::WantAuth { id, rejected } => (id, rejected.map(|rejected| rejected.serial)),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn many_askers_are_one_question() {
        let (source, _frames, mut questions) = source();
        let askers: Vec<_> = (0..50)
            .map(|_| {
                let source = Arc::clone(&source);
                tokio::spawn(async move { source.get(None).await })
            })
            .collect();
        let (id, rejected) = question(&questions.recv().await.unwrap());
        assert_eq!(rejected, None);
        source.answer(id, Ok(Given::Auth(auth(1, Some(600)))));
        for asker in askers {
            assert_eq!(asker.await.unwrap().unwrap().serial, 1);
        }
        assert_eq!(source.requests(), 1);
        // A refusal of what is no longer held renews nothing; of what is held, it does.
        assert_eq!(source.get(Some(rejection(0))).await.unwrap().serial, 1);
        let renewing = tokio::spawn({
            let source = Arc::clone(&source);
            async move { source.get(Some(rejection(1))).await }
        });
        let (id, rejected) = question(&questions.recv().await.unwrap());
        assert_eq!(rejected, Some(1));
        source.answer(id, Ok(Given::Auth(auth(2, Some(600)))));
        assert_eq!(renewing.await.unwrap().unwrap().serial, 2);
        assert_eq!(source.requests(), 2);
    }

    #[tokio::test]
    async fn an_asker_that_goes_away_is_forgotten() {
        let (source, _frames, mut questions) = source();
        let asker = tokio::spawn({
            let source = Arc::clone(&source);
            async move { source.get(None).await }
        });
        let (first, _) = question(&questions.recv().await.unwrap());
        asker.abort();
        assert!(asker.await.unwrap_err().is_cancelled());
        assert!(source.waiting().is_empty());
        source.answer(first, Ok(Given::Auth(auth(1, None))));
        let next = tokio::spawn({
            let source = Arc::clone(&source);
            async move { source.get(None).await }
        });
        let (second, _) = question(&questions.recv().await.unwrap());
        assert_ne!(first, second);
        source.answer(
            second,
            Err(AuthError::Revoked {
                message: "gone".to_owned(),
            }),
        );
        assert!(matches!(
            next.await.unwrap(),
            Err(AuthError::Revoked { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_transient() {
        let (source, frames, _questions) = source();
        let error = source.get(None).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        drop(frames);
        let error = source.get(None).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }

    #[tokio::test]
    async fn a_location_is_asked_for_by_its_digest() {
        let (source, _frames, mut questions) = source();
        let digest = Digest::sha256([7; 32]);
        let asker = tokio::spawn({
            let (source, digest) = (Arc::clone(&source), digest.clone());
            async move { source.locate(&digest, Some(4)).await }
        });
        let frame = questions.recv().await.unwrap();
        let question = wire::PROTOCOL.decode(&frame[4..]).unwrap();
        let ToParent::WantLocation {
            id,
            digest: asked,
            refused,
        } = question
        else {
            panic!("{question:?}");
        };
        assert_eq!((asked, refused), (digest.to_string(), Some(4)));
        source.answer(id, Ok(Given::Location(ReadFrom::Registry)));
        let found = asker.await.unwrap().unwrap();
        assert!(matches!(found, ReadFrom::Registry), "{found:?}");
        assert_eq!(source.requests(), 0, "no auth was asked for");
    }

    #[test]
    fn an_auth_is_not_used_to_its_very_end() {
        let now = Timestamp::UNIX_EPOCH;
        let seconds = Duration::from_secs;
        let cases = [
            (None, UNDATED_LIFE),
            (Some(-5), Duration::ZERO),
            (Some(0), Duration::ZERO),
            (Some(2), Duration::from_millis(1600)),
            (Some(100), seconds(80)),
            (Some(3600), seconds(3570)),
        ];
        for (life, expected) in cases {
            let not_after = life.map(|life| Timestamp::from_second(life).unwrap());
            let auth = RegistryAuth {
                not_after,
                ..auth(1, None)
            };
            assert_eq!(usable_life(&auth, now), expected, "{life:?}");
        }
    }
}
