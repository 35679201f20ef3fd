//! The open gateway: what operations work with, and how a token becomes a caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use broker::Broker;
use control_store::{ApiToken, ControlStore, Workspace};
use dial::Dialer;
use ids::{TokenId, WorkspaceId};
use image::Indexing;
use jiff::{SignedDuration, Timestamp};

use crate::builds::Builds;
use crate::caller::{Caller, refused};
use crate::denials::Denials;
use crate::dispatch::Dispatch;
use crate::foreign;
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::operations::images::Proofs;
use crate::operations::objects::Uploads;
use crate::problem::Problem;
use crate::python::PythonProbe;
use crate::shared_cache::{SharedCache, SharedCacheSettings};
use crate::token;

/// How exactly it is noted when a token was used: for people, and no write for each request.
const USE_NOTED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// What a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    pub broker: Broker,
    /// How registries are reached, as the broker reaches them.
    pub dialer: Dialer,
    /// How layers are indexed. Its store keeps uploaded objects too.
    pub indexing: Indexing,
    /// Where layers are shared between workers.
    pub shared_cache: Option<SharedCacheSettings>,
    /// Who looks for the Python of an image, in place of a container on a worker.
    pub probe: Option<Arc<dyn PythonProbe>>,
}

/// Operations on the workspaces of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    dispatch: Dispatch,
    builds: Builds,
    proofs: Proofs,
    uploads: Uploads,
    /// When the use of a token was last noted. No more of them than there are tokens.
    noted: Mutex<HashMap<TokenId, Timestamp>>,
    denials: Denials,
    metrics: Metrics,
    shared_cache: Option<SharedCache>,
}

impl Gateway {
    pub fn open(mut parts: Parts) -> Self {
        let shared_cache = parts.shared_cache.take().map(SharedCache::new);
        Self {
            inner: Arc::new(Inner {
                parts,
                dispatch: Dispatch::default(),
                builds: Builds::default(),
                proofs: Proofs::default(),
                uploads: Uploads::default(),
                noted: Mutex::default(),
                denials: Denials::default(),
                metrics: Metrics::default(),
                shared_cache,
            }),
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.inner.parts.broker
    }

    pub(crate) fn store(&self) -> &dyn ControlStore {
        &**self.broker().store()
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.inner.parts.dialer
    }

    pub(crate) fn indexing(&self) -> &Indexing {
        &self.inner.parts.indexing
    }

    pub(crate) fn shared_cache(&self) -> Option<&SharedCache> {
        self.inner.shared_cache.as_ref()
    }

    pub(crate) fn probe(&self) -> Option<&dyn PythonProbe> {
        self.inner.parts.probe.as_deref()
    }

    pub(crate) fn builds(&self) -> &Builds {
        &self.inner.builds
    }

    pub(crate) fn proofs(&self) -> &Proofs {
        &self.inner.proofs
    }

    pub(crate) fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// Who shows this token.
    pub async fn caller(&self, text: &str) -> Result<Caller, Problem> {
        self.holder(self.token(text).await?).await
    }

    /// The token of this text, whether or not it counts now.
    pub(crate) async fn token(&self, text: &str) -> Result<ApiToken, Problem> {
        let unknown = || refused("token is not known here");
        let hash = token::hash(text).ok_or_else(unknown)?;
        let found = self.store().token_of_hash(&hash).await?;
        found.ok_or_else(unknown)
    }

    /// The holder of a token, if it counts now.
    pub(crate) async fn holder(&self, token: ApiToken) -> Result<Caller, Problem> {
        let (id, now) = (token.id, Timestamp::now());
        let caller = Caller::of(token, now)?;
        if self.is_to_note(id, now) {
            self.store().note_token_use(id, now).await?;
        }
        Ok(caller)
    }

    /// Whoever runs this gateway, in the workspace of this name.
    pub(crate) async fn operator(&self, workspace: &str) -> Result<Caller, Problem> {
        let all = self.store().workspaces().await?;
        let own = all.into_iter().find(|own| own.name.as_str() == workspace);
        let unknown = || {
            let name = foreign::shown(workspace);
            Problem::not_own(format!("there is no workspace {name:?}"))
        };
        Ok(Caller::operator(own.ok_or_else(unknown)?.id))
    }

    pub(crate) fn denials(&self) -> &Denials {
        &self.inner.denials
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn dispatch(&self) -> &Dispatch {
        &self.inner.dispatch
    }

    pub(crate) async fn workspace(&self, id: WorkspaceId) -> Result<Workspace, Problem> {
        let all = self.store().workspaces().await?;
        let own = all.into_iter().find(|own| own.id == id);
        own.ok_or_else(|| Problem::not_found("the workspace is gone"))
    }

    fn is_to_note(&self, id: TokenId, now: Timestamp) -> bool {
        let mut noted = lock(&self.inner.noted);
        let is_recent = |at: &Timestamp| now.duration_since(*at).abs() < USE_NOTED_EVERY;
        if noted.get(&id).is_some_and(is_recent) {
            return false;
        }
        noted.insert(id, now);
        true
    }
}
