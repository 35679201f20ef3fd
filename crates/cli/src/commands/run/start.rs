//! A start, beside the registry's word for its image, and what becomes of it when that comes.
//!
//! What a name meant last it mostly means still. That image is mounted and its container made while
//! the registry is asked, and gets leave to begin when the answer is what was guessed; nothing of
//! it runs before. Any other answer takes all of it away, and the start begins anew with what was
//! said.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use broker::{Lease, LeaseReader};
use image::{LayerReport, PinnedImage};
use launch::{
    LaunchError, LaunchRequest, Leave, LeaveGiver, Outcome, Preparing, Signals, Waterfall,
};

use super::{Log, Wanted, end_when_called_off, interrupted, is_cold, say};
use crate::app::App;
use crate::args::RunArgs;
use crate::failure::Result;
use crate::resolved::{Asking, Guess, Resolved, mount_request};

/// What is started.
pub(super) struct Start<'a> {
    pub(super) app: &'a App,
    pub(super) args: &'a RunArgs,
    pub(super) wanted: Wanted,
    pub(super) waterfall: Arc<Waterfall>,
}

/// What the registry has said, with all that is needed of it here.
pub(super) struct Proven {
    pub(super) resolved: Resolved,
    layers: Vec<LayerReport>,
    /// Nothing of it was in the cache.
    pub(super) cold: bool,
}

/// A start whose command has ended, or did not begin for a reason of this machine.
pub(super) struct Ended {
    pub(super) proven: Proven,
    pub(super) launched: Result<Outcome, LaunchError>,
    /// The mount has met bytes that are not right.
    pub(super) is_damaged: bool,
}

/// How a start by a guess came out.
enum Beside {
    Ended(Box<Ended>),
    /// The name means something else.
    Wrong(Box<Proven>),
}

impl Start<'_> {
    pub(super) async fn run(&self, signals: Signals) -> Result<Ended> {
        let (control, mut signals) = signals.with_control();
        // What the image has no say in is made meanwhile.
        let sandbox = self.sandbox()?;
        let asking = match unless_interrupted(self.ask(), &mut signals).await {
            Ok(asking) => asking,
            Err(failure) => {
                sandbox.undo().await;
                return Err(failure);
            }
        };
        let lease = Arc::clone(asking.lease());
        let watching = tokio::spawn(end_when_called_off(Arc::clone(&lease), control));
        let ended = self.start(asking, lease, sandbox, &mut signals).await;
        watching.abort();
        ended
    }

    fn sandbox(&self) -> Result<Preparing> {
        let request = self.wanted.sandbox(self.app)?;
        Ok(Preparing::begin(request, &self.waterfall))
    }

    async fn ask(&self) -> Result<Asking> {
        let reader = LeaseReader {
            worker: None,
            container: self.wanted.id.to_string(),
        };
        let credential = self.args.credential.as_deref();
        let asking = Asking::begin(self.app, reader, &self.args.image, credential);
        self.waterfall.measure("lease", asking).await
    }

    async fn start(
        &self,
        asking: Asking,
        lease: Arc<Lease>,
        sandbox: Preparing,
        signals: &mut Signals,
    ) -> Result<Ended> {
        let Some((guess, giver, request)) = self.guess(&asking).await else {
            let proven = unless_interrupted(self.prove(asking), signals).await;
            return self.after(proven, lease, sandbox, signals).await;
        };
        let beside = self.beside(request, sandbox, &lease, signals, async {
            let proven = self.prove(asking).await?;
            let is_right = guess.is(&proven.resolved.pinned, &proven.layers);
            if is_right {
                giver.give();
            }
            Ok((proven, is_right))
        });
        let proven = match Box::pin(beside).await? {
            Beside::Ended(ended) => return Ok(*ended),
            Beside::Wrong(proven) => *proven,
        };
        self.after(Ok(proven), lease, self.sandbox()?, signals)
            .await
    }

    /// What to begin with before the registry has answered. Where anything is amiss there is no
    /// guess: who waits for the answer is told.
    async fn guess(&self, asking: &Asking) -> Option<(Guess, LeaveGiver, LaunchRequest)> {
        let (giver, leave) = Leave::awaited();
        let guessing = async {
            let Some(guess) = asking.guess(self.app).await? else {
                return Ok(None);
            };
            let request = self.request(asking.lease(), &guess.pinned, &guess.layers, leave)?;
            Ok(Some((guess, giver, request)))
        };
        let guessed: Result<_> = guessing.await;
        guessed.unwrap_or_else(|failure| {
            tracing::debug!(?failure, "nothing is begun before the registry answers");
            None
        })
    }

    fn request(
        &self,
        lease: &Lease,
        pinned: &PinnedImage,
        layers: &[LayerReport],
        leave: Leave,
    ) -> Result<LaunchRequest> {
        let mount = mount_request(self.app, lease, pinned, layers, Path::new("/").to_owned())?;
        self.wanted
            .complete(self.app, self.args, mount, pinned, leave)
    }

    /// Asks the registry and indexes what is new. What was typed is held against the image's own
    /// configuration first, since indexing may take minutes.
    async fn prove(&self, asking: Asking) -> Result<Proven> {
        let (app, waterfall) = (self.app, &self.waterfall);
        let resolving = asking.resolve_for_start(app);
        let resolved = waterfall.measure("resolve", resolving).await?;
        if let Some(outage) = &resolved.outage {
            say(app.output, "outage", outage);
        }
        self.wanted.process(&resolved.pinned, self.args)?;
        let indexing = resolved.index(app, image::Fill::Unindexed);
        let layers = waterfall.measure("index", indexing).await?;
        let cold = is_cold(app, &resolved.pinned.origin, &layers)?;
        Ok(Proven {
            resolved,
            layers,
            cold,
        })
    }

    /// Launches while the registry is asked.
    async fn beside(
        &self,
        request: LaunchRequest,
        sandbox: Preparing,
        lease: &Arc<Lease>,
        signals: &mut Signals,
        proving: impl Future<Output = Result<(Proven, bool)>>,
    ) -> Result<Beside> {
        let mut log = Log::new(self.app.output);
        let mut proving = pin!(proving);
        let (proven, launched) = {
            let launching = self.launch(request, sandbox, lease, signals, &mut log);
            let mut launching = pin!(launching);
            tokio::select! {
                launched = &mut launching => (None, launched),
                proven = &mut proving => (Some(proven), launching.await),
            }
        };
        if let Err(LaunchError::Interrupted { signal }) = launched {
            return Err(interrupted(signal));
        }
        let (proven, is_right) = match proven {
            Some(proven) => proven?,
            // What went wrong may be the guess.
            None => unless_interrupted(proving, signals).await?,
        };
        if !is_right {
            return Ok(Beside::Wrong(Box::new(proven)));
        }
        Ok(Beside::Ended(Box::new(Ended {
            proven,
            launched,
            is_damaged: log.is_damaged,
        })))
    }

    /// Launches what the registry has said.
    async fn after(
        &self,
        proven: Result<Proven>,
        lease: Arc<Lease>,
        sandbox: Preparing,
        signals: &mut Signals,
    ) -> Result<Ended> {
        let requested = proven.and_then(|proven| {
            let (pinned, layers) = (&proven.resolved.pinned, &proven.layers);
            let request = self.request(&lease, pinned, layers, Leave::given())?;
            Ok((proven, request))
        });
        let (proven, request) = match requested {
            Ok(requested) => requested,
            Err(failure) => {
                sandbox.undo().await;
                return Err(failure);
            }
        };
        let mut log = Log::new(self.app.output);
        let launched = self
            .launch(request, sandbox, &lease, signals, &mut log)
            .await;
        Ok(Ended {
            proven,
            launched,
            is_damaged: log.is_damaged,
        })
    }

    async fn launch(
        &self,
        request: LaunchRequest,
        sandbox: Preparing,
        lease: &Arc<Lease>,
        signals: &mut Signals,
        log: &mut Log,
    ) -> Result<Outcome, LaunchError> {
        let lease = Arc::clone(lease);
        launch::launch(request, sandbox, lease, signals, &self.waterfall, log).await
    }
}

async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T>>,
    signals: &mut Signals,
) -> Result<T> {
    tokio::select! {
        done = work => done,
        signal = signals.asked_to_end() => Err(interrupted(signal)),
    }
}
