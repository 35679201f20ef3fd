//! The client: what other crates ask a registry.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use credential::auth::{AuthSource, BlobLocation, RegistryAuth};
use dial::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use dial::{Dialer, Method, Url};
use reference::{Digest, Selector};

use crate::blob::{self, BlobStream};
use crate::challenge::{self, Challenge};
use crate::document::{self, Content, Flaw};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::exchange::{Call, Core};
use crate::flows::{self, BlobParts, Flows};
use crate::follow::{self, Outgoing};
use crate::manifest::{Descriptor, ManifestHead, PinnedManifest};
use crate::media_type;
use crate::platform::Platform;
use crate::pull_limit::PullLimit;
use crate::refusal;
use crate::retry::{Attempts, RetryPolicy};
use crate::stats::ClientStats;
use crate::verify;

/// Longest manifest read: the size that registries promise to take, and no image comes near it.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Indexes inside indexes. One inside another exists; more is a way to make us ask for ever.
const MAX_INDEX_DEPTH: usize = 3;

/// Header in which registries state a manifest's digest.
const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

/// Asks one registry. Clones share connections, auth and counters.
#[derive(Clone)]
pub struct RegistryClient {
    core: Arc<Core>,
}

/// The answer to `GET /v2/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    pub status: u16,
    /// Empty when the answer came from somewhere else than the registry.
    pub challenges: Vec<Challenge>,
    /// What the registry said in words, escaped and bounded.
    pub message: String,
}

struct Fetched {
    digest: Digest,
    media_type: String,
    content: Content,
    raw: Bytes,
}

impl RegistryClient {
    /// A client for `endpoint` that sends what `auth` gives.
    pub fn new(
        dialer: &Dialer,
        endpoint: Endpoint,
        auth: Arc<dyn AuthSource>,
    ) -> Result<Self, RegistryError> {
        Self::with_retry(dialer, endpoint, auth, RetryPolicy::default())
    }

    /// The same with another patience.
    pub fn with_retry(
        dialer: &Dialer,
        endpoint: Endpoint,
        auth: Arc<dyn AuthSource>,
        retry: RetryPolicy,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            core: Arc::new(Core::new(dialer, endpoint, auth, retry)?),
        })
    }

    /// A client for who is to hold as little as the registry allows: it asks `source` where a blob
    /// is before it asks for an auth.
    pub fn at_locations(
        dialer: &Dialer,
        endpoint: Endpoint,
        source: Arc<dyn AuthSource>,
        retry: RetryPolicy,
    ) -> Result<Self, RegistryError> {
        let mut core = Core::new(dialer, endpoint, source, retry)?;
        core.asks_for_locations = true;
        let core = Arc::new(core);
        Ok(Self { core })
    }

    pub fn endpoint(&self) -> &Endpoint {
        self.core.endpoint()
    }

    /// The registry's origin, after it was found out whether it speaks TLS.
    pub async fn base_url(&self) -> Result<Url, RegistryError> {
        self.core.base().await.cloned()
    }

    /// `GET /v2/` without auth: what the registry demands.
    pub async fn ping(&self) -> Result<Ping, RegistryError> {
        self.ping_with(&RegistryAuth::anonymous()).await
    }

    /// `GET /v2/` with this auth, once and without renewal: whether the registry takes it.
    pub async fn ping_with(&self, auth: &RegistryAuth) -> Result<Ping, RegistryError> {
        let mut attempts = Attempts::new(self.core.retry);
        loop {
            match self.ping_once(auth).await {
                Ok(ping) => return Ok(ping),
                Err(error) => self.core.pause_after(&mut attempts, error).await?,
            }
        }
    }

    async fn ping_once(&self, auth: &RegistryAuth) -> Result<Ping, RegistryError> {
        let core = &self.core;
        let mut url = core.base().await?.clone();
        url.set_path("/v2/");
        let outgoing = Outgoing {
            registry: &core.name,
            method: Method::GET,
            url,
            headers: &HeaderMap::new(),
            authorization: follow::authorization(&core.name, &auth.scheme)?,
        };
        let landed = follow::follow(&core.http, &core.counters, outgoing).await?;
        let status = landed.response.status.as_u16();
        if let Some(error) = core.busy(&landed.response) {
            return Err(error);
        }
        let raw = if landed.foreign {
            Vec::new()
        } else {
            refusal::challenges(&landed.response)
        };
        let challenges = challenge::parse(raw.iter().map(String::as_str));
        let message = core.error_text(landed.response, &auth.scheme).await;
        Ok(Ping {
            status,
            challenges,
            message,
        })
    }

    /// The manifest for `platform`, through as many indexes as it takes, digests checked.
    pub async fn manifest(
        &self,
        repository: &str,
        selector: &Selector,
        platform: &Platform,
    ) -> Result<PinnedManifest, RegistryError> {
        let mut selector = selector.clone();
        let mut index_digest = None;
        for _ in 0..=MAX_INDEX_DEPTH {
            let subject = self.subject(repository, &selector);
            let Fetched {
                digest,
                media_type,
                content,
                raw,
            } = self.fetch_manifest(repository, &selector, &subject).await?;
            match content {
                Content::Image { config, layers } => {
                    return Ok(PinnedManifest {
                        digest,
                        index_digest,
                        media_type,
                        config,
                        layers,
                        raw,
                    });
                }
                Content::Index(offers) => {
                    let chosen = offers
                        .choose(platform)
                        .map_err(|flaw| flawed(&subject, flaw))?;
                    index_digest = index_digest.or(Some(digest));
                    selector = Selector::Digest(chosen.digest);
                }
            }
        }
        let subject = self.subject(repository, &selector);
        let message = "its indexes are nested too deep".to_owned();
        Err(RegistryError::Unsupported { subject, message })
    }

    async fn fetch_manifest(
        &self,
        repository: &str,
        selector: &Selector,
        subject: &str,
    ) -> Result<Fetched, RegistryError> {
        let landed = self
            .core
            .exchange(&Self::manifest_call(
                Method::GET,
                repository,
                selector,
                subject,
            )?)
            .await?;
        self.core.note_pull_limit(&landed);
        let headers = landed.response.headers.clone();
        let raw = landed
            .response
            .read_bounded(MAX_MANIFEST_BYTES)
            .await
            .map_err(|error| RegistryError::from_dial(&self.core.name, &error))?;
        self.core.counters.count_bytes(raw.len());
        let digest = Self::check_digest(selector, stated_digest(&headers).as_ref(), &raw, subject)?;
        let content_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let document = document::read(content_type, &raw).map_err(|flaw| flawed(subject, flaw))?;
        Ok(Fetched {
            digest,
            media_type: document.media_type,
            content: document.content,
            raw,
        })
    }

    /// The digest to pin: the one asked for, or else the SHA-256 of the bytes. A digest that the
    /// registry states must be that of the bytes, too.
    fn check_digest(
        selector: &Selector,
        stated: Option<&Digest>,
        raw: &[u8],
        subject: &str,
    ) -> Result<Digest, RegistryError> {
        let expected = match selector {
            Selector::Digest(digest) => Some(digest),
            Selector::Tag(_) => None,
        };
        for digest in [expected, stated].into_iter().flatten() {
            if !verify::matches(raw, digest) {
                return Err(RegistryError::corrupt(
                    subject,
                    "its bytes do not have its digest",
                ));
            }
        }
        Ok(expected.cloned().unwrap_or_else(|| verify::sha256(raw)))
    }

    /// Digest, size and type of a manifest (of an index, when the selector names one).
    pub async fn head_manifest(
        &self,
        repository: &str,
        selector: &Selector,
    ) -> Result<ManifestHead, RegistryError> {
        let subject = self.subject(repository, selector);
        let call = Self::manifest_call(Method::HEAD, repository, selector, &subject)?;
        let landed = self.core.exchange(&call).await?;
        self.core.note_pull_limit(&landed);
        let response = landed.response;
        let asked = match selector {
            Selector::Digest(digest) => Some(digest.clone()),
            Selector::Tag(_) => None,
        };
        let size = response.content_length();
        let digest = asked.or_else(|| stated_digest(&response.headers));
        if let (Some(digest), Some(size)) = (digest, size) {
            let header = response.header(&CONTENT_TYPE).unwrap_or_default();
            return Ok(ManifestHead {
                digest,
                size,
                media_type: media_type::essence(header),
            });
        }
        // Some registries state neither; then the bytes do.
        let fetched = self.fetch_manifest(repository, selector, &subject).await?;
        let size = fetched.raw.len() as u64;
        Ok(ManifestHead {
            digest: fetched.digest,
            size,
            media_type: fetched.media_type,
        })
    }

    /// A small blob in memory, digest checked. One longer than `limit_bytes` is not asked for.
    pub async fn blob_bytes(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        limit_bytes: u64,
    ) -> Result<Bytes, RegistryError> {
        check_repository(repository)?;
        if descriptor.size > limit_bytes {
            let subject = format!(
                "blob {} of {}/{repository}",
                descriptor.digest, self.core.name
            );
            let message = format!("{} bytes, {limit_bytes} can be read", descriptor.size);
            return Err(RegistryError::Unsupported { subject, message });
        }
        blob::bytes(Arc::clone(&self.core), repository, descriptor).await
    }

    /// A whole blob as it comes, resumed by range when a connection breaks, digest checked.
    pub async fn blob_stream(
        &self,
        repository: &str,
        descriptor: &Descriptor,
    ) -> Result<BlobStream, RegistryError> {
        check_repository(repository)?;
        blob::stream(Arc::clone(&self.core), repository, descriptor).await
    }

    /// A whole blob in order, over several requests at once where it is long. Not verified: whoever
    /// reads it hashes it.
    pub fn blob_parts(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        flows: &Flows,
    ) -> Result<BlobParts, RegistryError> {
        check_repository(repository)?;
        Ok(flows::parts(
            Arc::clone(&self.core),
            repository,
            descriptor,
            flows,
        ))
    }

    /// Exactly these bytes of a blob of `size` bytes. Not verified: a range has no digest.
    pub async fn blob_range(
        &self,
        repository: &str,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<Bytes, RegistryError> {
        check_repository(repository)?;
        blob::range(Arc::clone(&self.core), repository, digest, size, range).await
    }

    /// The same as they come, resumed when a connection breaks.
    pub async fn blob_range_stream(
        &self,
        repository: &str,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<BlobStream, RegistryError> {
        check_repository(repository)?;
        blob::range_stream(Arc::clone(&self.core), repository, digest, size, range).await
    }

    /// Where a blob can be read without auth, as the registry says to who may read it; nothing
    /// where it sends its blobs itself. `refused` is the serial of one that did not work.
    pub async fn blob_location(
        &self,
        repository: &str,
        digest: &Digest,
        refused: Option<u64>,
    ) -> Result<Option<BlobLocation>, RegistryError> {
        check_repository(repository)?;
        self.core.find_location(repository, digest, refused).await
    }

    /// The caller found wrong bytes: read the blob from where the registry says next time.
    pub fn distrust_location(&self, repository: &str, digest: &Digest) {
        self.core.locations.distrust(repository, digest);
    }

    /// Whether the registry lets us see this repository: `latest` is there, or its tags can be
    /// listed. `false` when it says that neither exists.
    pub async fn can_read(&self, repository: &str) -> Result<bool, RegistryError> {
        let latest = Selector::Tag("latest".to_owned());
        match self.head_manifest(repository, &latest).await {
            Ok(_) => return Ok(true),
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let call = Call {
            method: Method::GET,
            path: format!("/v2/{repository}/tags/list?n=1"),
            repository,
            accept: None,
            range: None,
            subject: format!("list of tags of {}/{repository}", self.core.name),
        };
        match self.core.exchange(&call).await {
            Ok(_) => Ok(true),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many pulls the registry still allows, as it said with the last manifest.
    pub fn pull_limit(&self) -> Option<PullLimit> {
        self.core.pull_limit()
    }

    /// What this client and its clones have done so far.
    pub fn stats(&self) -> ClientStats {
        self.core.counters.read()
    }

    fn manifest_call<'a>(
        method: Method,
        repository: &'a str,
        selector: &Selector,
        subject: &str,
    ) -> Result<Call<'a>, RegistryError> {
        check_repository(repository)?;
        Ok(Call {
            method,
            path: format!("/v2/{repository}/manifests/{selector}"),
            repository,
            accept: Some(media_type::ACCEPT),
            range: None,
            subject: subject.to_owned(),
        })
    }

    fn subject(&self, repository: &str, selector: &Selector) -> String {
        let separator = match selector {
            Selector::Tag(_) => ':',
            Selector::Digest(_) => '@',
        };
        format!(
            "manifest {}/{repository}{separator}{selector}",
            self.core.name
        )
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryClient")
            .field("registry", &self.core.name)
            .finish()
    }
}

/// Names come from parsed references; a path that is none must not shape a URL.
fn check_repository(repository: &str) -> Result<(), RegistryError> {
    reference::check_repository(repository).map_err(|error| RegistryError::Unsupported {
        subject: format!("repository {}", dial::quoted(repository.as_bytes(), 100)),
        message: error.to_string(),
    })
}

/// The digest in the reply's head, when it is one that can be checked.
fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get(DIGEST_HEADER)?.to_str().ok()?).ok()
}

fn flawed(subject: &str, flaw: Flaw) -> RegistryError {
    let subject = subject.to_owned();
    match flaw {
        Flaw::Corrupt(message) => RegistryError::Corrupt { subject, message },
        Flaw::Unsupported(message) => RegistryError::Unsupported { subject, message },
    }
}
