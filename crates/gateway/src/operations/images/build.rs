//! A build, from what was given to an image on record.
//!
//! ```text
//!   credential ──▶ proven by the registry, sealed if it is another one
//!   name ────────▶ manifest digest, asked with that credential; this proves the workspace's right
//!   layers ──────▶ indexes, where they are missing            ┐ one at a time for an image
//!   Python ──────▶ which one it is, unless that is known      ┘
//!   image, name and right to run it: on record at once
//! ```
//!
//! The id of an image is made of what decides how it runs: its manifest, the variables, and the
//! Python that was asked for. Not of names, credentials or times.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::{BrokerError, Lease};
use control_store::{Image, Publication, Python, TokenScope};
use ids::WorkspaceId;
use image::{Fill, ImageError, LayerReport, PinnedImage, Progress};
use image_store::StoreError;
use jiff::Timestamp;
use reference::{Digest, Reference};
use registry_client::{Platform, RegistryClient, RegistryError, RetryPolicy};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::access::Access;
use super::{BuildRequest, Building, BuiltImage, OpenImage};
use crate::builds::{self, LayerLines, Listener, Site, say};
use crate::caller::Caller;
use crate::foreign::size;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};
use crate::{python, variables};

/// What an image's id begins with, so that another way to make it makes other ids.
const ID_VERSION: &[u8] = b"holdfast image 1";

/// A build whose request was understood.
struct Build {
    gateway: Gateway,
    workspace: WorkspaceId,
    actor: String,
    reference: Reference,
    recipe: Recipe,
    /// Those that are good enough, the best first.
    interpreters: Vec<String>,
    listener: Listener,
}

/// What is added to a manifest.
struct Recipe {
    /// In the order of names.
    environment: Vec<(String, String)>,
    python: String,
}

/// An image that the registry has answered for.
struct Resolved<'a> {
    lease: &'a Arc<Lease>,
    client: RegistryClient,
    pinned: PinnedImage,
}

impl Gateway {
    /// Begins to build an image. What is wrong with the request itself is said at once.
    pub async fn build_image(
        &self,
        caller: &Caller,
        request: BuildRequest,
    ) -> Result<Building, Problem> {
        caller.must(TokenScope::Call)?;
        if request.credential.names_secrets() {
            // Whoever names the registry that a secret is sent to can read it there.
            caller.must(TokenScope::Secrets)?;
        }
        let workspace = caller.workspace();
        let (python, interpreters) = python::parse_asked(&request.python)?;
        let recipe = Recipe {
            environment: variables::parse(request.environment)?,
            python,
        };
        let place = self.builds().begin()?;
        let reference = request.base_image;
        let access = self
            .access(workspace, &reference, request.credential)
            .await?;
        let (listener, lines) = builds::listener();
        let (ended, outcome) = oneshot::channel();
        let build = Build {
            gateway: self.clone(),
            workspace,
            actor: caller.actor(),
            reference,
            recipe,
            interpreters,
            listener,
        };
        tokio::spawn(async move {
            let built = build.run(access).await;
            // Whoever asked may be gone; the image is there all the same.
            let _ = ended.send(built);
            drop(place);
        });
        Ok(Building { lines, outcome })
    }

    /// A client that reads with a lease.
    pub(crate) fn client(&self, lease: &Arc<Lease>) -> Result<RegistryClient, Problem> {
        self.client_with(lease, RetryPolicy::default())
    }

    /// The same with another patience.
    pub(super) fn client_with(
        &self,
        lease: &Arc<Lease>,
        retry: RetryPolicy,
    ) -> Result<RegistryClient, Problem> {
        let (endpoint, auth) = (lease.endpoint().clone(), lease.own_source());
        let client = RegistryClient::with_retry(self.dialer(), endpoint, auth, retry);
        client.map_err(|error| refusal(error.into(), lease))
    }

    /// How many bytes are to be read of layers that have no index; nothing when all have one.
    pub(super) fn unindexed_bytes(&self, pinned: &PinnedImage) -> Result<Option<u64>, StoreError> {
        let mut missing = BTreeMap::new();
        for layer in &pinned.layers {
            if self
                .indexing()
                .store
                .index(pinned.index_key(layer))?
                .is_none()
            {
                missing.insert(layer.descriptor.digest.as_str(), layer.descriptor.size);
            }
        }
        let total = missing.values().copied().fold(0, u64::saturating_add);
        Ok((!missing.is_empty()).then_some(total))
    }

    /// The indexes of all layers, in turn where any is to be made.
    pub(super) async fn index(
        &self,
        client: &RegistryClient,
        pinned: &PinnedImage,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<LayerReport>, ImageError> {
        let _turn = match self.unindexed_bytes(pinned)? {
            Some(_) => Some(self.builds().reading().await),
            None => None,
        };
        let indexing = self.indexing();
        indexing
            .index(client, pinned, Fill::Unindexed, progress)
            .await
    }
}

impl Build {
    async fn run(self, access: Access) -> Result<BuiltImage, Problem> {
        if matches!(access, Access::Given(_)) {
            let registry = self.reference.registry();
            self.say(format!("checking the credential with {registry}"));
        }
        let settled = self
            .gateway
            .settle(self.workspace, &self.reference, access, &self.actor);
        let settled = settled.await?;
        if let Some(line) = settled.line {
            self.say(line);
        }
        for hint in &settled.hints {
            self.say(format!("hint: {hint}"));
        }
        let broker = self.gateway.broker();
        let lease = broker
            .lease(self.workspace, &self.reference, settled.choice)
            .await?;
        let lease = Arc::new(lease);
        let built = self.build_with(&lease).await;
        end(&lease).await;
        Ok(BuiltImage {
            hints: settled.hints,
            ..built?
        })
    }

    async fn build_with(&self, lease: &Arc<Lease>) -> Result<BuiltImage, Problem> {
        self.say(format!("asking for {}", self.reference.canonical()));
        let client = self.gateway.client(lease)?;
        let pinned = image::resolve(&client, &self.reference, &Platform::host(), None).await;
        let pinned = pinned.map_err(|error| refusal(error, lease))?;
        let (layers, bytes) = (pinned.layers.len(), size(pinned.compressed_bytes()));
        let digest = &pinned.manifest_digest;
        self.say(format!("found {digest}: {layers} layers, {bytes}"));
        let id = self.recipe.image_id(digest);
        let site = self.gateway.builds().site(self.workspace, &id);
        let resolved = Resolved {
            lease,
            client,
            pinned,
        };
        let _turn = site.turn(&self.listener).await;
        let image = self.indexed(&site, &resolved, id).await?;
        let image = self.with_python(&site, &resolved, image).await?;
        self.publish(lease, image).await
    }

    /// The image with the indexes of its layers, made where they are missing.
    async fn indexed(
        &self,
        site: &Arc<Site>,
        resolved: &Resolved<'_>,
        id: Digest,
    ) -> Result<Image, Problem> {
        let pinned = &resolved.pinned;
        let missing_bytes = self.gateway.unindexed_bytes(pinned)?;
        if let Some(bytes) = missing_bytes {
            site.say(&format!("{} of its layers are new here", size(bytes)));
        }
        let lines = LayerLines::new(Arc::clone(site), missing_bytes.unwrap_or_default());
        let layers = self
            .gateway
            .index(&resolved.client, pinned, Arc::new(lines));
        let layers = layers
            .await
            .map_err(|error| refusal(error, resolved.lease))?;
        Ok(Image {
            id,
            environment: self.recipe.environment.clone(),
            ..pinned.image(&layers, Timestamp::now())
        })
    }

    /// The image with its Python, which is looked for once.
    async fn with_python(
        &self,
        site: &Site,
        resolved: &Resolved<'_>,
        image: Image,
    ) -> Result<Image, Problem> {
        let known = self
            .gateway
            .store()
            .image(self.workspace, &image.id)
            .await?;
        let (known, interpreters) = (known.and_then(|known| known.python), &self.interpreters);
        // Whoever asked for the same before may have been content with another one.
        let known = known.filter(|python| interpreters.contains(&python.program));
        if known.is_some() {
            return Ok(Image {
                python: known,
                ..image
            });
        }
        site.say("looking for Python");
        let mut open = OpenImage {
            reference: self.reference.pinned(image.manifest_digest.clone()),
            lease: Arc::clone(resolved.lease),
            image,
        };
        let found = self.python_of(&open, interpreters).await?;
        let canonical = self.reference.canonical();
        let found = found.ok_or_else(|| python::missing(&canonical, interpreters))?;
        let found = python::parse_found(found, interpreters)?;
        site.say(&format!("found Python {}", found.version));
        open.image.python = Some(found);
        Ok(open.image)
    }

    async fn python_of(
        &self,
        open: &OpenImage,
        interpreters: &[String],
    ) -> Result<Option<Python>, Problem> {
        let (gateway, workspace) = (&self.gateway, self.workspace);
        if let Some(probe) = gateway.probe() {
            return probe.probe(workspace, open, interpreters).await;
        }
        let finding = gateway.find_python(workspace, open, interpreters);
        let found = Box::pin(finding).await?;
        Ok(Some(found))
    }

    async fn publish(&self, lease: &Lease, image: Image) -> Result<BuiltImage, Problem> {
        let id = image.id.clone();
        let proof = lease.proof().await?.ok_or_else(replaced)?;
        let publication = Publication { image, proof };
        let store = self.gateway.store();
        store.publish(self.workspace, &publication).await?;
        self.gateway.share_image(self.workspace, &id);
        self.gateway.built_image(self.workspace, &id).await
    }

    fn say(&self, line: String) {
        say(&self.listener, line);
    }
}

impl Recipe {
    /// Each part with its length before it, so that no two images are written the same way.
    fn image_id(&self, manifest: &Digest) -> Digest {
        let mut hash = Sha256::new_with_prefix(ID_VERSION);
        let mut add = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(manifest.as_str());
        add(&self.python);
        for (name, value) in &self.environment {
            add(name);
            add(value);
        }
        Digest::sha256(hash.finalize().into())
    }
}

/// Gives a lease back; one that cannot be given back lapses.
pub(super) async fn end(lease: &Lease) {
    if let Err(error) = lease.end().await {
        tracing::debug!(%error, "the lease lapses by itself");
    }
}

/// What was proven was proven with a version that is no longer the current one.
pub(super) fn replaced() -> Problem {
    let message = "the registry credential was replaced while the image was read";
    Problem::new(Kind::Unavailable, message).hint("ask again: the new one is used then")
}

/// A refusal of nobody is mended by a credential, whatever the registry calls it; one of a
/// credential as the broker says.
pub(super) fn refusal(error: ImageError, lease: &Lease) -> Problem {
    let of_credential = match (&error, lease.scope()) {
        (ImageError::Registry(RegistryError::Auth(source)), Some(scope)) => {
            let (scope, source) = (scope.clone(), source.clone());
            BrokerError::Auth { scope, source }.hint()
        }
        _ => None,
    };
    let problem = Problem::from(error);
    let registry = lease.image().registry();
    let of_nobody = || {
        format!(
            "no credential covers it: give one with the image, or run `holdfast login {registry}`"
        )
    };
    match lease.scope() {
        None if problem.kind == Kind::Denied => problem.hint(of_nobody()),
        _ => problem.hint_if(of_credential),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_id_is_of_what_decides_how_an_image_runs() {
        let id = |manifest, python: &str, environment: &[(&str, &str)]| {
            let environment = environment.iter();
            let recipe = Recipe {
                environment: environment
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                python: python.to_owned(),
            };
            recipe.image_id(&Digest::sha256([manifest; 32])).to_string()
        };
        let ids = [
            id(1, "python3", &[]),
            id(2, "python3", &[]),
            id(1, "python", &[]),
            id(1, "python3", &[("A", "")]),
            id(1, "python3", &[("", "A")]),
            id(1, "python3", &[("A", "B")]),
            id(1, "python3", &[("AB", "")]),
            id(1, "python3", &[("A", "B"), ("C", "D")]),
            id(1, "python3", &[("A", "BC"), ("", "D")]),
            id(1, "python3A", &[]),
        ];
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        // What was built by an older program is found by a newer one.
        let known = "0ab8f74522d50a5a0c998b12276fb30a330784429a80eb833f9e672d36cc5947";
        assert_eq!(ids[0], format!("sha256:{known}"));
    }
}
