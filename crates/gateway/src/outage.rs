//! A start whose registry is away: of an image that is pinned and whole here, by what was proven.
//!
//! Whether a proof still counts is `broker`'s to say; that a start needs nothing but the word is
//! seen to here. Commands that start containers come through here too.

use std::fmt::Display;
use std::time::Duration;

use broker::{Lease, NoStanding, Standing, is_outage};
use control_store::Image;
use image::{ImageError, Indexing, PinnedImage};
use reference::Reference;
use registry_client::{Platform, RegistryClient, RegistryError, RetryPolicy};

/// How often a registry is asked where there is something to go on with: again where it is being
/// restarted, or limits us for a moment.
pub const PATIENCE: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_pause: Duration::from_millis(200),
    longest_pause: Duration::from_secs(1),
    budget: Duration::from_secs(3),
    resume: Duration::ZERO,
};

/// Longest wait for all of its answers then: as long as a connection may take. One that takes
/// questions and says nothing is away, too.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Asks a registry, by a client of this patience, what a pinned image is now. Its configuration is
/// not asked for where that is still the known one.
pub async fn ask(
    client: &RegistryClient,
    reference: &Reference,
    known: Option<&[u8]>,
) -> Result<PinnedImage, ImageError> {
    let platform = Platform::host();
    let asking = image::resolve(client, reference, &platform, known);
    let answered = tokio::time::timeout(ANSWERS_WITHIN, asking).await;
    answered.unwrap_or_else(|_| {
        let silence = RegistryError::Unreachable {
            registry: reference.registry().to_string(),
            message: format!("no answer within {ANSWERS_WITHIN:?}"),
        };
        Err(silence.into())
    })
}

/// A pinned image that is about to be started from.
#[derive(Debug, Clone, Copy)]
pub struct PinnedStart<'a> {
    pub indexing: &'a Indexing,
    pub lease: &'a Lease,
    pub reference: &'a Reference,
    /// As it is on record.
    pub image: &'a Image,
}

/// What it is started from.
#[derive(Debug)]
pub struct Stand {
    pub pinned: PinnedImage,
    pub standing: Standing,
}

/// Why it is not started; the registry's own answer is the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoStand {
    /// The registry has answered.
    Answered,
    /// For people.
    Because(String),
}

impl PinnedStart<'_> {
    /// The image without its registry, which gave this error. A refusal is remembered.
    pub async fn despite(self, error: &RegistryError) -> Result<Stand, NoStand> {
        if !is_outage(error) {
            let noted = self.lease.note_refusal(&self.image.manifest_digest, error);
            if let Err(error) = noted.await {
                tracing::warn!(%error, "a refusal could not be noted");
            }
            return Err(NoStand::Answered);
        }
        let standing = self.standing().await?;
        let pinned = self.pinned()?;
        Ok(Stand { pinned, standing })
    }

    async fn standing(self) -> Result<Standing, NoStand> {
        let standing = self.lease.standing(&self.image.manifest_digest).await;
        let standing = standing.map_err(|error| because(&error))?;
        standing.map_err(|why: NoStanding| because(&why))
    }

    fn pinned(self) -> Result<PinnedImage, NoStand> {
        let not_whole = || NoStand::Because("some of it is not here any more".to_owned());
        let origin = self.lease.origin();
        let pinned = PinnedImage::on_record(self.reference, origin, self.image);
        let pinned = pinned.ok_or_else(not_whole)?;
        let roots = self.image.layers.iter().map(|layer| layer.index_root);
        let roots: Vec<_> = roots.collect();
        let is_whole = self.indexing.is_whole(&pinned, &roots);
        if is_whole.map_err(|error| because(&error))? {
            return Ok(pinned);
        }
        Err(not_whole())
    }
}

impl NoStand {
    /// Of an image that nothing proves a right to.
    pub fn without_grant(error: &RegistryError) -> Self {
        if is_outage(error) {
            because(&NoStanding::NotProven)
        } else {
            Self::Answered
        }
    }

    /// What is added to the registry's own error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Answered => None,
            Self::Because(why) => Some(format!(
                "it is pinned, but cannot be started while its registry is away: {why}"
            )),
        }
    }
}

impl Stand {
    /// What is said of a start that did without its registry's word.
    pub fn notice(&self, error: &RegistryError) -> String {
        let Standing { proven_at, until } = self.standing;
        let reference = &self.pinned.reference;
        let (registry, image) = (reference.registry(), reference.canonical());
        let digest = &self.pinned.manifest_digest;
        format!(
            "{registry} was not reached: {error}; {image} is started as it was pinned, with \
             {digest}, by what was proven at {proven_at:.0} and counts until {until:.0}"
        )
    }
}

fn because(why: &dyn Display) -> NoStand {
    NoStand::Because(why.to_string())
}
