//! From a mount request to a filesystem: indexes read and checked, cache and registry client set
//! up. Nothing is dialled here.

use std::fs::File;
use std::sync::Arc;

use credential::auth::AuthSource;
use dial::Dialer;
use image_fs::{CacheLimits, FsOptions, ImageFs, NoticeSink, OpenError, SpanCache};
use layer_index::LayerIndex;
use registry_client::{Endpoint, RegistryClient, RetryPolicy};

use super::blobs::RegistryBlobs;
use crate::mount::MountFailure;
use crate::request::{LayerRef, MountRequest};
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
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self { kind, message }
    }

    #[allow(clippy::needless_pass_by_value)] // Its shape is what `map_err` calls.
    pub(super) fn internal(error: tokio::task::JoinError) -> Self {
        Self::new(RefusalKind::Internal, &error)
    }
}

impl From<MountFailure> for Refusal {
    fn from(failure: MountFailure) -> Self {
        let kind = match &failure {
            MountFailure::NoDevice | MountFailure::Handshake(_) => RefusalKind::NoFuse,
            MountFailure::NotPermitted => RefusalKind::NotPermitted,
            MountFailure::Mountpoint { .. } => RefusalKind::Mountpoint,
        };
        Self::new(kind, &failure)
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Merge(_) => RefusalKind::Index,
            OpenError::Cache(_) => RefusalKind::Cache,
            OpenError::NoRuntime => RefusalKind::Internal,
        };
        Self::new(kind, &error)
    }
}

/// Opens the image. What takes long is done away from the runtime's workers.
pub(super) async fn open(
    request: MountRequest,
    auth: Arc<dyn AuthSource>,
    notices: NoticeSink,
) -> Result<ImageFs, Refusal> {
    let work = move || {
        let layers = request
            .layers
            .iter()
            .map(open_index)
            .collect::<Result<Vec<_>, _>>()?;
        let source = Arc::new(RegistryBlobs {
            client: client(&request, auth)?,
            repository: request.repository.clone(),
        });
        let limits = CacheLimits {
            max_bytes: request.cache_limit_bytes,
        };
        let cache = SpanCache::open(&request.cache_dir, limits).map_err(OpenError::Cache)?;
        let origin = image_fs::origin(&request.registry, &request.repository);
        let options = FsOptions {
            read_deadline: request.read_deadline,
            notices: Some(notices),
            ..FsOptions::default()
        };
        Ok(ImageFs::new(&layers, &origin, &cache, source, options)?)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Refusal::internal)?
}

/// The index must be the one that the parent means, and the layer's.
fn open_index(layer: &LayerRef) -> Result<LayerIndex, Refusal> {
    let refused = |message: String| Refusal {
        kind: RefusalKind::Index,
        message: format!("index of layer {}: {message}", layer.digest),
    };
    let file = File::open(&layer.index_path).map_err(|error| refused(error.to_string()))?;
    let index = LayerIndex::open(file)
        .map_err(|error| refused(Refusal::new(RefusalKind::Index, &error).message))?;
    if index.root() != layer.root {
        return Err(refused(
            "it is not the one that belongs to the image".to_owned(),
        ));
    }
    let header = index.header();
    if header.layer_digest != layer.digest || header.compressed_size != layer.size {
        return Err(refused("it is of another layer".to_owned()));
    }
    Ok(index)
}

fn client(request: &MountRequest, auth: Arc<dyn AuthSource>) -> Result<RegistryClient, Refusal> {
    let endpoint = Endpoint {
        registry: request.registry.clone(),
        plain_http: request.plain_http,
        ca_pem: request.ca_pem.clone(),
    };
    let dialer = Dialer::new(request.dial.clone());
    let retry = RetryPolicy {
        attempts: TRIES,
        ..RetryPolicy::default()
    };
    RegistryClient::with_retry(&dialer, endpoint, auth, retry)
        .map_err(|error| Refusal::new(RefusalKind::Registry, &error))
}
