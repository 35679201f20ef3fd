//! What the tests share: quick retries, a few sources of auth, an image.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use credential::auth::{
    Anonymous, AuthError, AuthFuture, AuthRequest, AuthScheme, AuthSource, RegistryAuth,
};
use dial::{DialPolicy, Dialer};
use reference::{Digest, Registry, Selector};
use registry_client::{
    Descriptor, Endpoint, PinnedManifest, Platform, RegistryClient, RegistryError, RetryPolicy,
};
use registry_sim::{Entry, Image, ImageBuilder, Layer, RegistrySim};

pub(crate) const REPOSITORY: &str = "acme/app";
pub(crate) const USERNAME: &str = "puller";
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// Many tries and no waiting: what is tested is whether, not when.
pub(crate) const QUICK: RetryPolicy = RetryPolicy {
    attempts: 6,
    first_pause: Duration::ZERO,
    longest_pause: Duration::ZERO,
    budget: Duration::from_mins(1),
    resume: Duration::ZERO,
};

pub(crate) fn dialer() -> Dialer {
    Dialer::new(DialPolicy::default())
}

pub(crate) fn endpoint(host: &str) -> Endpoint {
    Endpoint::new(Registry::parse(host).expect("a registry"))
}

pub(crate) fn client(host: &str, auth: Arc<dyn AuthSource>) -> RegistryClient {
    RegistryClient::with_retry(&dialer(), endpoint(host), auth, QUICK).expect("a client")
}

pub(crate) fn anonymous(sim: &RegistrySim) -> RegistryClient {
    client(sim.host(), Arc::new(Anonymous))
}

pub(crate) fn tag(name: &str) -> Selector {
    Selector::Tag(name.to_owned())
}

pub(crate) fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// Two layers, the second of which spans several pieces of a connection.
pub(crate) fn image() -> Image {
    // Bytes that do not compress, without a source of chance.
    let mut state = 0x9e37_79b9_u32;
    let noise: Vec<u8> = (0..300_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    ImageBuilder::new()
        .layer(Layer::gzip(&[
            Entry::directory("etc"),
            Entry::file("etc/motd", "hello\n"),
        ]))
        .layer(Layer::gzip(&[Entry::file("noise", noise)]))
        .config("Cmd", serde_json::json!(["/bin/true"]))
        .build()
}

pub(crate) async fn pull(client: &RegistryClient) -> Result<PinnedManifest, RegistryError> {
    client.manifest(REPOSITORY, &tag("latest"), &amd64()).await
}

/// The layer of several pieces.
pub(crate) fn big_layer(image: &Image) -> Descriptor {
    let blob = image.layers.last().expect("an image with layers");
    Descriptor {
        digest: Digest::parse(&blob.digest).expect("a digest"),
        size: blob.bytes.len() as u64,
        media_type: blob.media_type.clone(),
        urls: Vec::new(),
    }
}

/// Always the same password.
#[derive(Debug)]
pub(crate) struct Password(pub(crate) &'static str);

impl AuthSource for Password {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async move {
            match request.rejected {
                None => Ok(basic(self.0, 1)),
                Some(_) => Err(AuthError::BadCredential {
                    message: "refused".to_owned(),
                }),
            }
        })
    }
}

/// The first password until it is refused, then the second. Counts how often it was asked.
#[derive(Debug)]
pub(crate) struct Rotating {
    pub(crate) passwords: [&'static str; 2],
    pub(crate) refusals: Mutex<Vec<(u16, u64)>>,
    pub(crate) asked: AtomicU64,
}

impl Rotating {
    pub(crate) fn new(first: &'static str, second: &'static str) -> Arc<Self> {
        Arc::new(Self {
            passwords: [first, second],
            refusals: Mutex::default(),
            asked: AtomicU64::new(0),
        })
    }
}

impl AuthSource for Rotating {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut refusals = self.refusals.lock().expect("a lock");
        refusals.extend(request.rejected.iter().map(|r| (r.status, r.serial)));
        let auth = match refusals.len() {
            0 => basic(self.passwords[0], 1),
            _ => basic(self.passwords[1], 2),
        };
        Box::pin(async move { Ok(auth) })
    }
}

fn basic(password: &str, serial: u64) -> RegistryAuth {
    let scheme = AuthScheme::Basic {
        username: USERNAME.to_owned(),
        password: password.to_owned().into(),
    };
    RegistryAuth {
        scheme,
        not_after: None,
        serial,
    }
}
