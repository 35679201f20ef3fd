//! An image between its name and its first use: what the registry says that it is, its layers'
//! indexes, its place on record, and what a mount process needs to serve it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerError, Lease, LeaseReader};
use control_store::{Image, Publication};
use gateway::{NoStand, PATIENCE, PinnedStart};
use image::{Fill, ImageError, LayerReport, PinnedImage};
use image_mount::{LayerRef, MountRequest};
use image_store::{ImageStore, IndexKey};
use layer_index::IndexSummary;
use reference::{Digest, Reference};
use registry_client::{ClientStats, Platform, RegistryError};

use crate::app::{App, Opened, Reader};
use crate::commands::reference::parse;
use crate::failure::{Failure, Kind, Result};
use crate::progress::IndexProgress;
use crate::settings::Filling;

/// How long a read of a mounted file waits for a registry that is away or refuses.
const READ_DEADLINE: Duration = Duration::from_mins(2);

/// An image that was asked for just now, with the lease that answered.
pub(crate) struct Resolved {
    pub(crate) opened: Opened,
    pub(crate) reader: Reader,
    pub(crate) pinned: PinnedImage,
    /// What was asked of the registry by another client than the reader's.
    pub(crate) asked: ClientStats,
    /// Why the registry's word is of an earlier time, fit to be told; nothing where it is of now.
    pub(crate) outage: Option<String>,
}

/// An image that is about to be asked for.
pub(crate) struct Asking {
    reference: Reference,
    opened: Opened,
    reader: Reader,
    /// What the name meant last to the workspace.
    last: Option<Image>,
}

/// What a name meant when it was proven last, and all of it indexed here: what it is likely to mean
/// still.
#[derive(Clone)]
pub(crate) struct Guess {
    pub(crate) pinned: PinnedImage,
    pub(crate) layers: Vec<LayerReport>,
}

impl Guess {
    /// Whether it was right.
    pub(crate) fn is(&self, pinned: &PinnedImage, layers: &[LayerReport]) -> bool {
        let roots = |layers: &[LayerReport]| -> Vec<_> {
            layers.iter().map(|layer| layer.index.root).collect()
        };
        (&self.pinned.manifest_digest, &self.pinned.origin)
            == (&pinned.manifest_digest, &pinned.origin)
            && roots(&self.layers) == roots(layers)
    }
}

/// Asks the registry what the image is; the answer is the proof that it may be used.
pub(crate) async fn resolve(app: &App, image: &str, credential: Option<&str>) -> Result<Resolved> {
    let asking = Asking::begin(app, LeaseReader::own(), image, credential).await?;
    asking.answered().await
}

impl Asking {
    /// Opens what is here, and takes a lease. Nobody is asked yet.
    pub(crate) async fn begin(
        app: &App,
        reader: LeaseReader,
        image: &str,
        credential: Option<&str>,
    ) -> Result<Self> {
        let reference = parse(image)?;
        let opened = app.open().await?;
        let reader = opened.reader(reader, &reference, credential).await?;
        let (store, workspace) = (opened.broker.store(), opened.workspace);
        let last = match store.alias(workspace, &reference.canonical()).await? {
            Some(alias) => store.image(workspace, &alias.image_id).await?,
            None => None,
        };
        Ok(Self {
            reference,
            opened,
            reader,
            last,
        })
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.reader.lease
    }

    /// What the image is likely to be. The workspace had the registry's word for it once, and no
    /// refusal since.
    pub(crate) async fn guess(&self, app: &App) -> Result<Option<Guess>> {
        let Some(last) = &self.last else {
            return Ok(None);
        };
        let (store, origin) = (self.opened.broker.store(), self.reader.lease.origin());
        let grant = store
            .grant(self.opened.workspace, &last.id, &origin)
            .await?;
        if grant.is_none_or(|grant| grant.refused_at.is_some()) {
            return Ok(None);
        }
        let Some(pinned) = PinnedImage::on_record(&self.reference, origin, last) else {
            return Ok(None);
        };
        let layers = app.indexing()?.indexed(&pinned)?;
        Ok(layers.map(|layers| Guess { pinned, layers }))
    }

    /// Asks the registry, for a container of this machine. One of a pinned image starts by what was
    /// proven before, where its registry is away and the workspace allows it.
    pub(crate) async fn resolve_for_start(self, app: &App) -> Result<Resolved> {
        let Some(manifest) = self.pinned_manifest(app)? else {
            return self.answered().await;
        };
        let client = self.opened.client(&self.reader.lease, PATIENCE)?;
        let asking = gateway::ask_of_pinned(&client, &self.reference, self.known_config());
        let answer = asking.await;
        let asked = client.stats();
        let (pinned, outage) = match answer {
            Ok(pinned) => (pinned, None),
            Err(error) => {
                let (pinned, notice) = self.despite(app, &manifest, error).await?;
                (pinned, Some(notice))
            }
        };
        Ok(Resolved {
            asked,
            outage,
            ..self.resolved(pinned)
        })
    }

    async fn answered(self) -> Result<Resolved> {
        let (client, known) = (&self.reader.client, self.known_config());
        let answer = image::resolve(client, &self.reference, &Platform::host(), known).await;
        let pinned = answer.map_err(|error| self.explain(error))?;
        Ok(self.resolved(pinned))
    }

    /// The configuration of what this name meant last, where it is kept.
    fn known_config(&self) -> Option<&[u8]> {
        self.last.as_ref()?.config.as_deref()
    }

    /// What this name meant when it was pinned, if it is.
    fn pinned_manifest(&self, app: &App) -> Result<Option<Digest>> {
        let (cache, owner) = (app.span_cache()?, self.opened.workspace.to_string());
        let (origin, name) = (self.reader.lease.origin(), &self.reference);
        Ok(image::manifest_pinned_as(&cache, &owner, &origin, name)?)
    }

    /// The image without its registry, and what is said of that.
    async fn despite(
        &self,
        app: &App,
        manifest: &Digest,
        error: ImageError,
    ) -> Result<(PinnedImage, String)> {
        let ImageError::Registry(asked) = &error else {
            return Err(self.explain(error));
        };
        let store = self.opened.broker.store();
        let record = store.image(self.opened.workspace, manifest).await?;
        let Some(record) = &record else {
            let hint = NoStand::without_grant(asked).hint();
            return Err(self.explain(error).hint_if(hint));
        };
        let start = PinnedStart {
            indexing: &app.indexing()?,
            lease: &self.reader.lease,
            reference: &self.reference,
            image: record,
        };
        match start.despite(asked).await {
            Ok(stand) => {
                let notice = stand.notice(asked);
                Ok((stand.pinned, notice))
            }
            Err(no) => Err(self.explain(error).hint_if(no.hint())),
        }
    }

    fn explain(&self, error: ImageError) -> Failure {
        explain_refusal(error, &self.reader, &self.reference)
    }

    fn resolved(self, pinned: PinnedImage) -> Resolved {
        Resolved {
            opened: self.opened,
            reader: self.reader,
            pinned,
            asked: ClientStats::default(),
            outage: None,
        }
    }
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

    /// Has it whole in the cache, on record, and kept there from then on.
    pub(crate) async fn pin(&self, app: &App) -> Result<Vec<LayerReport>> {
        let (indexing, owner) = (app.indexing()?, self.opened.workspace.to_string());
        let progress = Arc::new(IndexProgress::new(app.output));
        let (client, sink) = (&self.reader.client, Arc::clone(&progress) as _);
        let filled = indexing.fill(client, &self.pinned, &owner, sink).await;
        progress.clear();
        let filled = filled?;
        self.record(&filled.layers).await?;
        let layers = filled.layers.clone();
        filled.pin()?;
        Ok(layers)
    }

    /// Image, alias and grant in one transaction. What was not proven now is not said to be.
    async fn record(&self, layers: &[LayerReport]) -> Result<()> {
        if self.outage.is_some() {
            return Ok(());
        }
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
        mount_request(app, &self.reader.lease, &self.pinned, layers, mountpoint)
    }

    /// Gives the lease back; one that cannot be given back lapses.
    pub(crate) async fn end(&self) {
        if let Err(error) = self.reader.lease.end().await {
            tracing::debug!(%error, "the lease lapses by itself");
        }
    }
}

/// What a mount process needs to serve an image that is read with this lease.
pub(crate) fn mount_request(
    app: &App,
    lease: &Lease,
    pinned: &PinnedImage,
    layers: &[LayerReport],
    mountpoint: PathBuf,
) -> Result<MountRequest> {
    let endpoint = lease.endpoint();
    let store = app.image_store()?;
    let layers = pinned.layers.iter().zip(layers);
    let layers = layers
        .map(|(layer, report)| layer_ref(&store, pinned.index_key(layer), report.index.clone()));
    Ok(MountRequest {
        mountpoint,
        registry: pinned.reference.registry().clone(),
        repository: pinned.reference.repository().to_owned(),
        plain_http: endpoint.plain_http,
        ca_pem: endpoint.ca_pem.clone(),
        dial: app.settings.dial.clone(),
        layers: layers.collect::<Result<_>>()?,
        origin: pinned.origin.clone(),
        cache: app.span_cache()?,
        has_shared_cache: false,
        id_shift: None,
        read_deadline: READ_DEADLINE,
        foretold: Vec::new(),
        program: None,
        start_lasts: Duration::ZERO,
        fill_when_idle: app.settings.fill == Filling::WhenIdle,
    })
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
