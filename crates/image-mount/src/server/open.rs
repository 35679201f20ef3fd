//! From a mount request to a filesystem: indexes read and checked, cache and registry client set
//! up. Nothing is dialled here, and no file of an image is opened.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use credential::auth::AuthSource;
use dial::Dialer;
use image_fs::{
    Allowance, BlobSource, FsOptions, ImageFs, LayerCache, NoticeSink, OpenError, Room,
};
use layer_index::LayerIndex;
use registry_client::{Endpoint, RegistryClient, RetryPolicy};

use super::blobs::RegistryBlobs;
use super::shared::{SharedBlobs, Store};
use crate::causes::in_one_line;
use crate::descriptors::LayerDescriptors;
use crate::request::{ExpectedLayer, ServerRequest};
use crate::wire::RefusalKind;

/// Tries within one request. The filesystem has its own patience on top, which knows the reader's
/// deadline and lets one flight knock for all.
const TRIES: u32 = 2;

/// Why the image is not mounted, to be told to the parent.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: RefusalKind,
    pub(super) message: String,
}

impl Refusal {
    fn new(kind: RefusalKind, error: &dyn std::error::Error) -> Self {
        let message = in_one_line(error);
        Self { kind, message }
    }

    #[allow(clippy::needless_pass_by_value)] // Its shape is what `map_err` calls.
    pub(super) fn internal(error: tokio::task::JoinError) -> Self {
        Self::new(RefusalKind::Internal, &error)
    }
}

impl Refusal {
    pub(super) fn no_device() -> Self {
        Self {
            kind: RefusalKind::Internal,
            message: "the parent sent no FUSE device".to_owned(),
        }
    }

    pub(super) fn handshake(error: &std::io::Error) -> Self {
        Self {
            kind: RefusalKind::NoFuse,
            message: format!("the kernel's FUSE does not answer as it should: {error}"),
        }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Merge(_) => RefusalKind::Image,
            OpenError::NoRuntime => RefusalKind::Internal,
        };
        Self::new(kind, &error)
    }
}

/// What a filesystem talks to beside the registry's own storage.
pub(super) struct Surroundings {
    pub(super) auth: Arc<dyn AuthSource>,
    pub(super) notices: NoticeSink,
    pub(super) room: Arc<dyn Room>,
    /// Counts what the shared cache gives.
    pub(super) bytes_shared: Arc<AtomicU64>,
}

/// Opens the image. What takes long is done away from the runtime's workers.
pub(super) async fn open(
    request: ServerRequest,
    files: Vec<LayerDescriptors>,
    surroundings: Surroundings,
) -> Result<ImageFs, Refusal> {
    let work = move || {
        let Surroundings {
            auth,
            notices,
            room,
            bytes_shared,
        } = surroundings;
        let allowance = Allowance::new(request.cache_limits, room);
        let layers = open_layers(&request.layers, files, &allowance)?;
        let registry = RegistryBlobs {
            client: client(&request, Arc::clone(&auth))?,
            repository: request.repository.clone(),
        };
        let source: Arc<dyn BlobSource> = if request.has_shared_cache {
            let store = Store::new(&request, auth, bytes_shared);
            Arc::new(SharedBlobs::new(store, registry))
        } else {
            Arc::new(registry)
        };
        let options = FsOptions {
            read_deadline: request.read_deadline,
            notices: Some(notices),
            fill_after: request.fill_when_idle.then_some(request.start_lasts),
            ..FsOptions::default()
        };
        Ok(ImageFs::new(layers, source, options)?)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Refusal::internal)?
}

fn open_layers(
    expected: &[ExpectedLayer],
    files: Vec<LayerDescriptors>,
    allowance: &Arc<Allowance>,
) -> Result<Vec<LayerCache>, Refusal> {
    if expected.len() != files.len() {
        return Err(Refusal {
            kind: RefusalKind::Internal,
            message: format!("{} layers and files of {}", expected.len(), files.len()),
        });
    }
    let layers = expected.iter().zip(files);
    let open = |(expected, files): (&ExpectedLayer, LayerDescriptors)| {
        let index = open_index(expected, files.index)?;
        LayerCache::new(files.cache, index, Arc::clone(allowance)).map_err(|error| Refusal {
            kind: RefusalKind::Cache,
            message: format!("cached layer {}: {error}", expected.digest),
        })
    };
    layers.map(open).collect()
}

/// The index must be the one that the parent means, and the layer's.
pub(super) fn open_index(expected: &ExpectedLayer, file: File) -> Result<LayerIndex, Refusal> {
    let refused = |message: String| Refusal {
        kind: RefusalKind::Index,
        message: format!("index of layer {}: {message}", expected.digest),
    };
    let index = LayerIndex::open(file).map_err(|error| refused(in_one_line(&error)))?;
    if index.root() != expected.root || index.header().layer_digest != expected.digest {
        return Err(refused(
            "it is not the one that belongs to the image".to_owned(),
        ));
    }
    Ok(index)
}

fn client(request: &ServerRequest, auth: Arc<dyn AuthSource>) -> Result<RegistryClient, Refusal> {
    let endpoint = Endpoint {
        registry: request.registry.clone(),
        plain_http: request.plain_http,
        ca_pem: request.ca_pem.clone(),
    };
    let dialer = Dialer::new(request.dial.clone());
    let retry = RetryPolicy {
        attempts: TRIES,
        resume: Duration::ZERO,
        ..RetryPolicy::default()
    };
    RegistryClient::at_locations(&dialer, endpoint, auth, retry)
        .map_err(|error| Refusal::new(RefusalKind::Registry, &error))
}
