//! An image that is brought into this machine's cache, whole, and not started: from the message
//! that asks for it to the last one about it.
//!
//! It is a delivery among containers: taken, stopped and ended as one, and what it reads with is
//! asked of the control plane in the same way. The work is a process of its own, confined as one
//! that mounts, which ends with this. Exactly one `Ended`.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthSource;
use launch::{MountLog, MountStats};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use worker_protocol as message;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message;

use crate::auth::LeaseAuth;
use crate::container::conversation::{heed_early, late};
use crate::container::end::{End, Trouble, explained};
use crate::container::{Lines, Node, unless_ended};
use crate::indexes;
use crate::plan::{Image, PlanError};

/// Longest that an image is brought for: five hundred gigabytes at 50 Mbit/s.
const LONGEST: Duration = Duration::from_hours(24);

/// Notices that wait while others are heard; later ones are dropped.
const MAX_LOGS: usize = 64;

/// One image to be brought.
#[derive(Debug)]
pub(crate) struct WarmOrder {
    pub(crate) image: Arc<Image>,
    pub(crate) auth: Arc<dyn AuthSource>,
    pub(crate) logs: mpsc::Sender<MountLog>,
    /// How far it is.
    pub(crate) progress: watch::Sender<MountStats>,
}

/// Brings the image, and says how that ended.
pub(crate) async fn run(warm: message::Warm, node: Node, mut lines: Lines) {
    let image = warm.image.ok_or(PlanError::Missing("image"));
    let end = match image.and_then(Image::parse) {
        Ok(image) => bring(Arc::new(image), node, &mut lines).await,
        Err(error) => End::new(Cause::Machine, format!("what to warm: {error}")),
    };
    let ended = end.message(lines.uplink.delivery());
    lines.uplink.say(Message::Ended(ended)).await;
}

async fn bring(image: Arc<Image>, node: Node, lines: &mut Lines) -> End {
    let deadline = Instant::now() + LONGEST;
    let delivery = lines.uplink.delivery();
    if let Some(store) = node.machine.index_store() {
        let completing = indexes::complete(store, &image, &node.control_plane, &delivery);
        match unless_ended(completing, &mut lines.inbox, deadline).await {
            Ok(Ok(())) => {}
            Ok(Err((layer, error))) => {
                return End::new(Cause::Index, format!("the index of {layer}: {error}"));
            }
            Err(end) => return end,
        }
    }
    let (logs_in, mut logs) = mpsc::channel(MAX_LOGS);
    let (progress_in, mut progress) = watch::channel(MountStats::default());
    let mut bringing = node.machine.warm(WarmOrder {
        image,
        auth: Arc::new(LeaseAuth::new(node.control_plane, delivery)),
        logs: logs_in,
        progress: progress_in,
    });
    let mut trouble = None;
    loop {
        tokio::select! {
            // What is said of the registry before the end explains it.
            biased;
            Some(log) = logs.recv() => trouble = Trouble::after(trouble, &log),
            brought = &mut bringing => {
                let reached = *progress.borrow();
                say(lines, &reached).await;
                return match brought {
                    Ok(()) => End::new(Cause::Warmed, "all of the image is in the cache"),
                    Err(end) => explained(end, trouble),
                };
            }
            command = lines.inbox.recv() => {
                if let Err(end) = heed_early(command.as_ref()) {
                    return end;
                }
            }
            Ok(()) = progress.changed() => {
                let reached = *progress.borrow_and_update();
                say(lines, &reached).await;
            }
            () = tokio::time::sleep_until(deadline) => return late(),
        }
    }
}

async fn say(lines: &Lines, reached: &MountStats) {
    let warming = message::Warming {
        delivery: Some(lines.uplink.delivery()),
        spans: reached.spans,
        spans_present: reached.spans_present,
        bytes_fetched: reached.fs.bytes_fetched,
    };
    lines.uplink.say(Message::Warming(warming)).await;
}
