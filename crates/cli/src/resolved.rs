//! An image between its name and its first use: what the registry says that it is, its layers'
//! indexes, its place on record, and what a mount process needs to serve it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerError, LeaseReader};
use control_store::Publication;
use image::{Fill, ImageError, LayerReport, PinnedImage};
use image_mount::{LayerRef, MountRequest};
use image_store::{ImageStore, IndexKey};
use layer_index::IndexSummary;
use reference::Reference;
use registry_client::{Platform, RegistryError};

use crate::app::{App, Opened, Reader};
use crate::commands::reference::parse;
use crate::failure::{Failure, Kind, Result};
use crate::progress::IndexProgress;

/// How long a read of a mounted file waits for a registry that is away or refuses.
const READ_DEADLINE: Duration = Duration::from_mins(2);

/// An image that was asked for just now, with the lease that answered.
pub(crate) struct Resolved {
    pub(crate) opened: Opened,
    pub(crate) reader: Reader,
    pub(crate) pinned: PinnedImage,
}

/// Asks the registry what the image is; the answer is the proof that it may be used.
pub(crate) async fn resolve(app: &App, image: &str, credential: Option<&str>) -> Result<Resolved> {
    resolve_for(app, LeaseReader::own(), image, credential).await
}

/// The same for a container of this machine.
pub(crate) async fn resolve_for(
    app: &App,
    reader: LeaseReader,
    image: &str,
    credential: Option<&str>,
) -> Result<Resolved> {
    let reference = parse(image)?;
    let opened = app.open().await?;
    let reader = opened.reader(reader, &reference, credential).await?;
    let pinned = image::resolve(&reader.client, &reference, &Platform::host()).await;
    let pinned = pinned.map_err(|error| explain_refusal(error, &reader, &reference))?;
    Ok(Resolved {
        opened,
        reader,
        pinned,
    })
}

/// A refusal of nobody is mended by a login, whatever the registry calls it; one of a credential as
/// the broker says.
fn explain_refusal(error: ImageError, reader: &Reader, image: &Reference) -> Failure {
    let Some(scope) = reader.lease.scope() else {
        let failure = Failure::from(error);
        let is_denied = failure.kind == Kind::Denied;
        let registry = image.registry();
        let hint = format!("no credential covers it: run `holdfast login {registry}`");
        return failure.hint_if(is_denied.then_some(hint));
    };
    let hint = match &error {
        ImageError::Registry(RegistryError::Auth(source)) => {
            let (scope, source) = (scope.clone(), source.clone());
            BrokerError::Auth { scope, source }.hint()
        }
        _ => None,
    };
    Failure::from(error).hint_if(hint)
}

impl Resolved {
    /// The indexes of all layers, made where they are missing, and the image on record.
    pub(crate) async fn index(&self, app: &App, fill: Fill) -> Result<Vec<LayerReport>> {
        let indexing = app.indexing()?;
        let progress = Arc::new(IndexProgress::new(app.output));
        let (client, sink) = (&self.reader.client, Arc::clone(&progress) as _);
        let layers = indexing.index(client, &self.pinned, fill, sink).await;
        progress.clear();
        let layers = layers?;
        self.record(&layers).await?;
        Ok(layers)
    }

    /// Image, alias and grant in one transaction.
    async fn record(&self, layers: &[LayerReport]) -> Result<()> {
        let Some(proof) = self.reader.lease.proof().await? else {
            return Ok(());
        };
        let publication = Publication {
            image: self.pinned.image(layers, jiff::Timestamp::now()),
            proof,
        };
        self.opened
            .broker
            .store()
            .publish(self.opened.workspace, &publication)
            .await?;
        Ok(())
    }

    /// What a mount process needs to serve the image.
    pub(crate) fn mount_request(
        &self,
        app: &App,
        layers: &[LayerReport],
        mountpoint: PathBuf,
    ) -> Result<MountRequest> {
        let endpoint = self.reader.lease.endpoint();
        let store = app.image_store()?;
        let layers = self.pinned.layers.iter().zip(layers);
        let layers = layers.map(|(layer, report)| {
            layer_ref(&store, self.pinned.index_key(layer), report.index.clone())
        });
        Ok(MountRequest {
            mountpoint,
            registry: self.pinned.reference.registry().clone(),
            repository: self.pinned.reference.repository().to_owned(),
            plain_http: endpoint.plain_http,
            ca_pem: endpoint.ca_pem.clone(),
            dial: app.settings.dial.clone(),
            layers: layers.collect::<Result<_>>()?,
            origin: self.pinned.origin.clone(),
            cache: app.span_cache()?,
            id_shift: None,
            read_deadline: READ_DEADLINE,
            foretold: Vec::new(),
            program: None,
            start_lasts: Duration::ZERO,
        })
    }

    /// Gives the lease back; one that cannot be given back lapses.
    pub(crate) async fn end(&self) {
        if let Err(error) = self.reader.lease.end().await {
            tracing::debug!(%error, "the lease lapses by itself");
        }
    }
}

/// An index that the store has, for a process that opens it.
pub(crate) fn layer_ref(
    store: &ImageStore,
    key: IndexKey<'_>,
    index: IndexSummary,
) -> Result<LayerRef> {
    let index_path = store.index_path(key)?;
    Ok(LayerRef { index_path, index })
}
