//! An image as a container is started from it: with a lease to read it with, and the proof that the
//! workspace still may.
//!
//! The registry is asked once for all containers of a credential's version, and again when what it
//! said is old. A new version, or a removed credential, is another question: what was proven with
//! the old one counts for nothing. Where the registry is away, a pinned image is started by what
//! was proven before, and the next start asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broker::{CredentialChoice, Lease, LeaseReader};
use bytes::Bytes;
use control_store::{GrantProof, Image, ImageLayer, Publication};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use ids::{SecretId, WorkspaceId};
use image::{ImageError, PinnedImage};
use reference::{Digest, Reference};
use registry_client::Platform;

use super::build::{end, refusal, replaced};
use super::no_image;
use crate::builds::Unwatched;
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::outage::{self, PATIENCE, PinnedStart};
use crate::problem::Problem;

/// How long a registry's word stands. A container reads with tokens that live about as long, so
/// that a right that the registry took back is not used for much longer than it would be anyway.
const PROOF_LIFE: Duration = Duration::from_mins(5);
/// Proofs remembered: an image each, and its configuration.
const PROOFS_LIMIT: usize = 512;

/// An image that a container is about to be started from.
#[derive(Debug, Clone)]
pub struct OpenImage {
    pub image: Image,
    /// What it is read with. Whoever starts the container ends it.
    pub lease: Arc<Lease>,
    /// The image by its manifest.
    pub reference: Reference,
}

/// What registries have said of images that are started from.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Mutex<HashMap<ProofKey, Flight>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ProofKey {
    workspace: WorkspaceId,
    image: Digest,
    origin: String,
    version: Option<(SecretId, u32)>,
}

/// An image as its registry has it now.
#[derive(Debug)]
struct Proven {
    pinned: PinnedImage,
    layers: Vec<ImageLayer>,
    /// Said by the registry, and not of it while it is away.
    is_word: bool,
}

type Answer = Result<Arc<Proven>, Problem>;

/// A question that is asked once, and its answer.
#[derive(Debug, Clone)]
struct Flight {
    answer: Shared<BoxFuture<'static, Answer>>,
    since: Instant,
}

impl Flight {
    /// Still asked, or answered well and not long ago.
    fn counts(&self) -> bool {
        match self.answer.peek() {
            None => true,
            Some(Ok(proven)) => proven.is_word && self.since.elapsed() < PROOF_LIFE,
            Some(Err(_)) => false,
        }
    }
}

impl Proofs {
    /// The question that is under way or answered, or this one.
    fn ask(&self, key: ProofKey, ask: impl FnOnce() -> BoxFuture<'static, Answer>) -> Flight {
        let mut flights = lock(&self.0);
        if let Some(flight) = flights.get(&key).filter(|flight| flight.counts()) {
            return flight.clone();
        }
        flights.retain(|_, flight| flight.counts());
        if flights.len() >= PROOFS_LIMIT {
            flights.retain(|_, flight| flight.answer.peek().is_none());
        }
        let flight = Flight {
            answer: ask().shared(),
            since: Instant::now(),
        };
        flights.insert(key, flight.clone());
        flight
    }
}

impl Gateway {
    /// An image of this workspace, ready to be read by this process.
    pub async fn open_image(
        &self,
        workspace: WorkspaceId,
        id: &Digest,
    ) -> Result<OpenImage, Problem> {
        self.open_image_for(LeaseReader::own(), workspace, id).await
    }

    /// An image of this workspace, ready to be read for a container.
    pub(crate) async fn open_image_for(
        &self,
        reader: LeaseReader,
        workspace: WorkspaceId,
        id: &Digest,
    ) -> Result<OpenImage, Problem> {
        let image = self.store().image(workspace, id).await?;
        let image = image.ok_or_else(|| no_image(id))?;
        let grant = self.store().grant(workspace, id, &image.origin).await?;
        let choice = match grant.ok_or_else(|| no_image(id))?.proof {
            GrantProof::Anonymous => CredentialChoice::None,
            GrantProof::Credential(_) => CredentialChoice::Auto,
        };
        let named =
            Reference::parse(&image.canonical).map_err(|error| Problem::internal(&error))?;
        let reference = named.pinned(image.manifest_digest.clone());
        let leasing = self
            .broker()
            .lease_for(reader, workspace, &reference, choice);
        let lease = leasing.await?;
        let mut open = OpenImage {
            image,
            lease: Arc::new(lease),
            reference,
        };
        match self.prove(workspace, &mut open).await {
            Ok(()) => Ok(open),
            Err(problem) => {
                end(&open.lease).await;
                Err(problem)
            }
        }
    }

    /// Has the registry's word for it, and all indexes.
    async fn prove(&self, workspace: WorkspaceId, open: &mut OpenImage) -> Result<(), Problem> {
        let version = open.lease.current_version().await?;
        let key = ProofKey {
            workspace,
            image: open.image.id.clone(),
            origin: open.lease.origin(),
            version: version.map(|proven| (proven.secret_id, proven.version)),
        };
        let flight = self.proofs().ask(key, || {
            let (gateway, open) = (self.clone(), open.clone());
            async move { gateway.ask_registry(workspace, open).await }.boxed()
        });
        let proven = flight.answer.await?;
        open.image.origin.clone_from(&proven.pinned.origin);
        open.image.layers.clone_from(&proven.layers);
        if self.unindexed_bytes(&proven.pinned)?.is_some() {
            let client = self.client(&open.lease)?;
            let indexed = self.index(&client, &proven.pinned, Arc::new(Unwatched));
            indexed.await.map_err(|error| refusal(error, &open.lease))?;
        }
        Ok(())
    }

    /// Asks with this lease, makes the indexes that are missing, and has the image and the right to
    /// it on record as they are now.
    async fn ask_registry(&self, workspace: WorkspaceId, open: OpenImage) -> Answer {
        let OpenImage {
            image,
            lease,
            reference,
        } = open;
        let is_pinned = self.is_pinned(workspace, &image, &lease)?;
        let client = self.client(&lease)?;
        let known = image.config.as_deref();
        let answer = if is_pinned {
            outage::ask(&self.client_with(&lease, PATIENCE)?, &reference, known).await
        } else {
            image::resolve(&client, &reference, &Platform::host(), known).await
        };
        let mut pinned = match answer {
            Ok(pinned) => pinned,
            Err(error) if is_pinned => {
                let start = PinnedStart {
                    indexing: self.indexing(),
                    lease: &lease,
                    reference: &reference,
                    image: &image,
                };
                return stand_in(start, error).await;
            }
            Err(error) => return Err(refusal(error, &lease)),
        };
        let layers = self.index(&client, &pinned, Arc::new(Unwatched)).await;
        let layers = layers.map_err(|error| refusal(error, &lease))?;
        let found = pinned.image(&layers, image.created_at);
        // Nobody asks for it again, and it may be large.
        pinned.config = Bytes::new();
        let proof = lease.proof().await?.ok_or_else(replaced)?;
        let image = Image {
            origin: found.origin,
            layers: found.layers.clone(),
            ..image
        };
        let publication = Publication { image, proof };
        self.store().publish(workspace, &publication).await?;
        Ok(Arc::new(Proven {
            pinned,
            layers: found.layers,
            is_word: true,
        }))
    }

    /// Whether this machine keeps it for the workspace.
    fn is_pinned(
        &self,
        workspace: WorkspaceId,
        image: &Image,
        lease: &Lease,
    ) -> Result<bool, Problem> {
        let Some(cache) = &self.indexing().cache else {
            return Ok(false);
        };
        let pins = cache.pins().map_err(|error| Problem::internal(&error))?;
        let (owner, origin) = (workspace.to_string(), lease.origin());
        let manifest = &image.manifest_digest;
        Ok(!image::names_pinned(&pins, &owner, &origin, manifest).is_empty())
    }
}

/// The image as it was proven, where its registry does not say anything else now.
async fn stand_in(start: PinnedStart<'_>, error: ImageError) -> Answer {
    let ImageError::Registry(asked) = &error else {
        return Err(refusal(error, start.lease));
    };
    match start.despite(asked).await {
        Ok(mut stand) => {
            tracing::warn!("{}", stand.notice(asked));
            stand.pinned.config = Bytes::new();
            Ok(Arc::new(Proven {
                pinned: stand.pinned,
                layers: start.image.layers.clone(),
                is_word: false,
            }))
        }
        Err(no) => Err(refusal(error, start.lease).hint_if(no.hint())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::problem::Kind;

    fn key(version: u32) -> ProofKey {
        ProofKey {
            workspace: WorkspaceId::new(),
            image: Digest::sha256([1; 32]),
            origin: "registry.example/acme/app".to_owned(),
            version: Some((SecretId::new(), version)),
        }
    }

    #[tokio::test]
    async fn a_question_is_asked_again_when_its_answer_is_bad_or_old() {
        let (proofs, key) = (Proofs::default(), key(1));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |is_good: bool| {
            let count = Arc::clone(&asked);
            let flight = proofs.ask(key.clone(), || {
                async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    let away = Problem::new(Kind::Unavailable, "away");
                    is_good.then(|| Arc::new(proven())).ok_or(away)
                }
                .boxed()
            });
            flight.answer
        };
        let (one, other) = tokio::join!(ask(false), ask(false));
        assert!(one.is_err() && other.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1, "at once");
        for _ in 0..3 {
            ask(true).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2, "after a bad answer");
        proofs.age(&key);
        ask(true).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3, "after an old one");
    }

    #[tokio::test]
    async fn what_counts_in_an_outage_is_for_those_who_wait_and_the_next_asks_again() {
        let (proofs, key) = (Proofs::default(), key(1));
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |is_word: bool| {
            let count = Arc::clone(&asked);
            let flight = proofs.ask(key.clone(), || {
                async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok(Arc::new(Proven {
                        is_word,
                        ..proven()
                    }))
                }
                .boxed()
            });
            flight.answer
        };
        let (one, other) = tokio::join!(ask(false), ask(false));
        assert!(!one.unwrap().is_word && !other.unwrap().is_word);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for _ in 0..2 {
            assert!(ask(true).await.unwrap().is_word);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn proofs_are_bounded() {
        let proofs = Proofs::default();
        for version in 0..=u32::try_from(PROOFS_LIMIT).unwrap() {
            let answer = proofs.ask(key(version), || async { Ok(Arc::new(proven())) }.boxed());
            answer.answer.now_or_never().unwrap().unwrap();
        }
        assert_eq!(proofs.0.lock().unwrap().len(), 1);
    }

    impl Proofs {
        /// As if its answer had been given long ago.
        fn age(&self, key: &ProofKey) {
            let mut flights = self.0.lock().unwrap();
            let flight = flights.get_mut(key).unwrap();
            flight.since = flight.since.checked_sub(PROOF_LIFE).unwrap();
        }
    }

    fn proven() -> Proven {
        Proven {
            pinned: PinnedImage {
                reference: Reference::parse("registry.example/acme/app").unwrap(),
                origin: String::new(),
                manifest_digest: Digest::sha256([1; 32]),
                config_digest: Digest::sha256([2; 32]),
                config: Bytes::new(),
                layers: Vec::new(),
            },
            layers: Vec::new(),
            is_word: true,
        }
    }
}
