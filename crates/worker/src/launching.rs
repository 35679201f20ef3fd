//! Starting a container's program: what is asked for, and what is held while it runs.
//!
//! The seam between a container's conversation and the machine under it: tests start the runner as
//! a plain process instead.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use credential::auth::AuthSource;
use futures::future::BoxFuture;
use image_store::{ImageStore, Touch};
use launch::{MountLog, Outputs, Waterfall};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::container::end::{End, LaunchEnd};
use crate::plan::Plan;
use crate::warming::WarmOrder;

/// One try to start a container.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) plan: Arc<Plan>,
    /// A name or a path of a Python in the image.
    pub(crate) interpreter: String,
    /// The archive of the user's code on this machine.
    pub(crate) code: Option<PathBuf>,
    pub(crate) auth: Arc<dyn AuthSource>,
    pub(crate) waterfall: Arc<Waterfall>,
}

/// A program that starts, runs or has ended. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Our end of the runner's socket.
    pub(crate) socket: UnixStream,
    /// What the runner finds where.
    pub(crate) places: Places,
    /// Sent when the program runs.
    pub(crate) outputs: oneshot::Receiver<Outputs>,
    pub(crate) logs: mpsc::Receiver<MountLog>,
    /// What it has read in its start, once.
    pub(crate) touched: mpsc::Receiver<Vec<Touch>>,
    /// Cancelling it ends the program at once, whatever it is doing.
    pub(crate) kill: CancellationToken,
    /// Resolves when nothing of it is left.
    pub(crate) end: AbortOnDropHandle<LaunchEnd>,
}

/// Paths inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) code: Option<String>,
    /// Where the code is unpacked to.
    pub(crate) code_dir: String,
}

/// What starts programs.
pub(crate) trait Machine: fmt::Debug + Send + Sync + 'static {
    /// Where the indexes of images must be before a launch; nothing where no image is mounted.
    fn index_store(&self) -> Option<&ImageStore>;

    fn launch(&self, order: Order) -> io::Result<Launched>;

    /// Brings all of an image into the cache. Dropped, it ends that; what has come is kept.
    fn warm(&self, order: WarmOrder) -> BoxFuture<'static, Result<(), End>>;
}
