//! What `image` and `cache` take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct ImageArg {
    /// Image to work on
    pub(crate) image: String,
    /// Credential to use: a scope of `credentials list`, or none for an anonymous pull
    #[arg(long, value_name = "SCOPE|none")]
    pub(crate) credential: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WarmArgs {
    #[command(flatten)]
    pub(crate) image: ImageArg,
    /// Bring it into the cache of this worker, which has joined the gateway that serves the data
    /// directory; Ctrl-C ends it, and what has come is kept
    #[arg(long, value_name = "WORKER")]
    pub(crate) worker: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Read every layer once and index it
    Index(ImageArg),
    /// Show manifest, configuration and layers
    Inspect(ImageArg),
    /// Mount an image read-only until interrupted
    Mount {
        #[command(flatten)]
        image: ImageArg,
        /// Existing directory to mount on
        directory: PathBuf,
    },
    /// Check an image's indexes and cached spans against their digests
    Verify(ImageArg),
    /// List images known here
    List,
    /// Bring every layer of an image into the cache, here or on a worker
    Warm(WarmArgs),
    /// Bring every layer of an image into the cache and keep it there
    ///
    /// The image starts also while its registry does not answer, for as long as `workspace set
    /// --offline` allows. A registry that answers has the last word.
    Pin(ImageArg),
    /// Let the cache evict an image that was pinned by this name
    Unpin {
        /// Image, as it was pinned
        image: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show what the cache holds
    Du,
    /// Remove layers that no container uses and no pin keeps, oldest first
    Prune {
        /// Remove all of them
        #[arg(long, conflicts_with = "keep")]
        all: bool,
        /// Keep at most this much, such as 10g
        #[arg(long, value_name = "SIZE", required_unless_present = "all")]
        keep: Option<String>,
        /// Remove pinned layers too, and the pins of their images
        #[arg(long)]
        pinned: bool,
    },
}
