//! An image that is brought into the cache of one worker, for whoever runs this installation.
//!
//! The registry is asked as for a start, with what the workspace has for the image, and the worker
//! is given no more than a container of it would be. It ends when nobody waits for it.

use std::sync::Arc;

use broker::{CredentialChoice, Lease};
use control_store::{Publication, Worker};
use ids::{ContainerId, WorkspaceId};
use jiff::Timestamp;
use reference::Reference;
use registry_client::Platform;
use tokio::sync::{mpsc, oneshot, watch};

use super::build::{end, refusal, replaced};
use super::open::OpenImage;
use crate::builds::{self, LayerLines, Listener, say};
use crate::caller::Caller;
use crate::dispatch::{Onlooker, Reached, WorkerLink, reader_of};
use crate::foreign::size;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};

/// What is to be warmed, and where.
#[derive(Debug)]
pub struct WarmRequest {
    /// The worker's name or id.
    pub worker: String,
    pub image: Reference,
    pub credential: CredentialChoice,
}

/// A warming that is under way. It ends when this is dropped; what has come is kept.
#[derive(Debug)]
pub struct Warming {
    lines: mpsc::Receiver<String>,
    reached: watch::Receiver<Reached>,
    outcome: oneshot::Receiver<Result<Warmed, Problem>>,
}

/// An image that a worker has whole.
#[derive(Debug, Clone)]
pub struct Warmed {
    pub worker: String,
    pub image: String,
    pub manifest_digest: String,
    pub compressed_bytes: u64,
    pub reached: Reached,
}

/// What is to be said of it.
#[derive(Debug)]
pub enum WarmEvent {
    Progress(String),
    Reached(Reached),
    /// The last one.
    Ended(Box<Result<Warmed, Problem>>),
}

impl Warming {
    /// What happens next. Not to be asked after the end.
    pub async fn next(&mut self) -> WarmEvent {
        tokio::select! {
            biased;
            Some(line) = self.lines.recv() => WarmEvent::Progress(line),
            Ok(()) = self.reached.changed() => {
                WarmEvent::Reached(*self.reached.borrow_and_update())
            }
            outcome = &mut self.outcome => {
                WarmEvent::Ended(Box::new(outcome.unwrap_or_else(|_| Err(broken()))))
            }
        }
    }

    /// How it ends.
    pub async fn end(&mut self) -> Result<Warmed, Problem> {
        let outcome = &mut self.outcome;
        outcome.await.unwrap_or_else(|_| Err(broken()))
    }
}

/// One that ended without a word has panicked, which the log has.
fn broken() -> Problem {
    Problem::new(Kind::Internal, "the warming broke off").hint("the gateway's log says why")
}

/// A warming whose request was understood.
struct Warm {
    gateway: Gateway,
    workspace: WorkspaceId,
    reference: Reference,
    credential: CredentialChoice,
    worker: Worker,
    link: Arc<WorkerLink>,
    /// What the worker's questions are about.
    id: ContainerId,
    listener: Listener,
}

impl Gateway {
    /// Has a joined worker bring an image into its cache. Workers are for whoever runs the
    /// installation, as is what their disks hold.
    pub async fn warm_image(
        &self,
        caller: &Caller,
        request: WarmRequest,
    ) -> Result<Warming, Problem> {
        caller.must_operate()?;
        let worker = self.joined_worker(&request.worker).await?;
        let link = self.attached(worker.id).ok_or_else(|| {
            let message = format!("worker {} is not attached now", worker.name);
            Problem::new(Kind::Unavailable, message)
                .hint("`holdfast worker run` on its machine attaches it")
        })?;
        let place = self.builds().begin()?;
        let (listener, lines) = builds::listener();
        let (reached_in, reached) = watch::channel(Reached::default());
        let (mut ended, outcome) = oneshot::channel();
        let warm = Warm {
            gateway: self.clone(),
            workspace: caller.workspace(),
            reference: request.image,
            credential: request.credential,
            worker,
            link,
            id: ContainerId::new(),
            listener,
        };
        tokio::spawn(async move {
            let warmed = warm.run(&reached_in, &mut ended).await;
            let _ = ended.send(warmed);
            drop(place);
        });
        Ok(Warming {
            lines,
            reached,
            outcome,
        })
    }

    async fn joined_worker(&self, named: &str) -> Result<Worker, Problem> {
        let workers = self.store().workers().await?;
        let is_meant = |worker: &Worker| worker.name == named || worker.id.to_string() == named;
        let found = workers.into_iter().find(is_meant);
        found.ok_or_else(|| {
            Problem::not_found(format!("no worker {named:?} has joined"))
                .hint("`holdfast worker list` shows those that have")
        })
    }
}

impl Warm {
    async fn run(
        self,
        reached: &watch::Sender<Reached>,
        outcome: &mut oneshot::Sender<Result<Warmed, Problem>>,
    ) -> Result<Warmed, Problem> {
        let reader = reader_of(self.id, self.link.worker());
        let broker = self.gateway.broker();
        let choice = self.credential.clone();
        let leasing = broker.lease_for(reader, self.workspace, &self.reference, choice);
        let lease = Arc::new(leasing.await?);
        let warmed = self.warm_with(&lease, reached, outcome).await;
        end(&lease).await;
        warmed
    }

    async fn warm_with(
        &self,
        lease: &Arc<Lease>,
        reached: &watch::Sender<Reached>,
        outcome: &mut oneshot::Sender<Result<Warmed, Problem>>,
    ) -> Result<Warmed, Problem> {
        let (image, compressed_bytes) = tokio::select! {
            opened = self.open(lease) => opened?,
            () = outcome.closed() => return Err(broken()),
        };
        self.say(format!("{} brings it into its cache", self.worker.name));
        let onlooker = Onlooker { reached, outcome };
        let link = Arc::clone(&self.link);
        let reached = self.gateway.warm_on(link, self.id, &image, onlooker);
        Ok(Warmed {
            reached: reached.await?,
            worker: self.worker.name.clone(),
            image: self.reference.canonical(),
            manifest_digest: image.image.manifest_digest.to_string(),
            compressed_bytes,
        })
    }

    /// The image as its registry has it, with its indexes and the right to it on record; and how
    /// many bytes its layers are.
    async fn open(&self, lease: &Arc<Lease>) -> Result<(OpenImage, u64), Problem> {
        self.say(format!("asking for {}", self.reference.canonical()));
        let client = self.gateway.client(lease)?;
        let pinned = image::resolve(&client, &self.reference, &Platform::host(), None).await;
        let pinned = pinned.map_err(|error| refusal(error, lease))?;
        let (layers, bytes) = (pinned.layers.len(), pinned.compressed_bytes());
        let digest = &pinned.manifest_digest;
        self.say(format!("found {digest}: {layers} layers, {}", size(bytes)));
        let site = self.gateway.builds().site(self.workspace, digest);
        let _turn = site.turn(&self.listener).await;
        let missing_bytes = self.gateway.unindexed_bytes(&pinned)?.unwrap_or_default();
        let lines = LayerLines::new(Arc::clone(&site), missing_bytes);
        let layers = self.gateway.index(&client, &pinned, Arc::new(lines)).await;
        let layers = layers.map_err(|error| refusal(error, lease))?;
        let image = pinned.image(&layers, Timestamp::now());
        let proof = lease.proof().await?.ok_or_else(replaced)?;
        let publication = Publication {
            image: image.clone(),
            proof,
        };
        let store = self.gateway.store();
        store.publish(self.workspace, &publication).await?;
        let open = OpenImage {
            image,
            lease: Arc::clone(lease),
            reference: self.reference.pinned(pinned.manifest_digest.clone()),
        };
        Ok((open, bytes))
    }

    fn say(&self, line: String) {
        say(&self.listener, line);
    }
}
