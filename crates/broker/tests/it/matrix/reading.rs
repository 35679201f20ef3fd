//! A reader of an image, as a start and its mount read: by a lease of the broker, the manifest and
//! the configuration with an auth, the layers at signed locations where there are any, and through
//! the broker where nothing less than the password reads them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use broker::{Broker, CredentialChoice, Lease, LoginRequest};
use bytes::Bytes;
use control_store::RegistrySettings;
use credential::Credential;
use credential::auth::{AuthRequest, AuthSource};
use dial::{AllowRule, DialPolicy, Dialer, Limits};
use futures::TryStreamExt;
use ids::{WorkspaceId, WorkspaceName};
use reference::Selector;
use registry_client::{
    Descriptor, PinnedManifest, Platform, RegistryClient, RegistryError, RetryPolicy,
};
use registry_sim::{Entry, HostCounter, Image, ImageBuilder, Layer, RegistrySim};
use tempfile::TempDir;
use token_exchange::SystemClock;

use super::events::filled;
use super::judging::{Known, Received};
use super::{Case, Moment, Reader};
use crate::support::{PASSWORD, REPOSITORY, USERNAME, image_at, paths, scope};

/// What the password becomes.
pub(super) const NEXT_PASSWORD: &str = "battery-staple-correct";

/// After so many bytes of a long range its connection breaks. Several pieces of a body.
pub(super) const BREAK_AFTER: u64 = 100_000;
/// The next bytes are asked for as a range of their own.
pub(super) const RANGE: u64 = 50_000;
pub(super) struct Reading {
    pub(super) sim: Arc<RegistrySim>,
    pub(super) image: Image,
    pub(super) broker: Broker,
    pub(super) workspace: WorkspaceId,
    dialer: Dialer,
    lease: Arc<Lease>,
    /// What arrived at each host before the reading began.
    pub(super) before: [Received; 4],
    /// What was known when the event began.
    pub(super) at_event: Mutex<Option<Known>>,
    pub(super) has_first_layer: AtomicBool,
    _directory: TempDir,
}

/// Where a reading takes place.
pub(super) struct Stand {
    /// What the registry is called.
    pub(super) registry: &'static str,
    pub(super) names: Arc<Names>,
    /// What the operator allows.
    pub(super) allow: Vec<AllowRule>,
}

/// What was read.
pub(super) struct Read {
    pub(super) config: Bytes,
    pub(super) layers: [Bytes; 2],
}

impl Reading {
    /// A registry as the case has it, a credential that it has taken, and a lease on its image.
    pub(super) async fn begin(case: &Case) -> Self {
        let sim = RegistrySim::start(case.options.clone()).await;
        let stand = Stand {
            registry: "127.0.0.1",
            names: Arc::new(|host| match host {
                "metadata.example" => Some(vec![[169, 254, 169, 254].into()]),
                "home.example" => Some(vec![[127, 0, 0, 1].into()]),
                _ => None,
            }),
            allow: Vec::new(),
        };
        Self::at(case, sim, stand).await
    }

    pub(super) async fn at(case: &Case, sim: RegistrySim, stand: Stand) -> Self {
        let image = image(&sim.stranger_url());
        sim.push(REPOSITORY, "latest", &image);
        let directory = tempfile::tempdir().unwrap();
        let host = format!("{}:{}", stand.registry, port(sim.host()));
        // Who logs in is another process, with connections of its own.
        let (broker, workspace) = open(directory.path(), stand.dialer(Limits::default())).await;
        let request = login(case, &sim, &host, PASSWORD);
        broker.login(workspace, request).await.expect(&case.what);
        let dialer = stand.dialer(case.limits);
        let (broker, workspace) = open(directory.path(), dialer.clone()).await;
        let name = image_at(&host);
        let lease = broker.lease(workspace, &name, CredentialChoice::Auto);
        let lease = Arc::new(lease.await.unwrap());
        for counter in hosts(&sim) {
            for password in [PASSWORD, NEXT_PASSWORD] {
                counter.watch_for(password);
            }
        }
        let before = hosts(&sim).map(Received::by);
        Self {
            sim: Arc::new(sim),
            image,
            broker,
            workspace,
            dialer,
            lease,
            before,
            at_event: Mutex::default(),
            has_first_layer: AtomicBool::new(false),
            _directory: directory,
        }
    }

    /// A start: the manifest, the configuration, a layer by ranges, and another one.
    pub(super) async fn read(&self, case: &Case) -> Result<Read, RegistryError> {
        let start = self.client();
        let mount = match case.reader {
            Reader::Indexer => start.clone(),
            Reader::Mount => self.client_of_mount(),
        };
        self.come_to(case, Moment::Challenge).await;
        if case.when == Moment::Manifest {
            self.mint().await?;
        }
        self.come_to(case, Moment::Manifest).await;
        let pinned = self.manifest(&start).await?;
        self.come_to(case, Moment::Config).await;
        let config = start.blob_bytes(REPOSITORY, &pinned.config, 65_536).await?;
        self.come_to(case, Moment::FirstLayer).await;
        let low = self.by_ranges(case, &mount, &pinned.layers[0]).await?;
        self.has_first_layer.store(true, Ordering::SeqCst);
        self.come_to(case, Moment::SecondLayer).await;
        let high = whole(&mount, &pinned.layers[1]).await?;
        Ok(Read {
            config,
            layers: [low, high],
        })
    }

    pub(super) async fn manifest(
        &self,
        client: &RegistryClient,
    ) -> Result<PinnedManifest, RegistryError> {
        let latest = Selector::Tag("latest".to_owned());
        let platform = Platform::new("linux", "amd64", None);
        client.manifest(REPOSITORY, &latest, &platform).await
    }

    /// A range, then what is left of it; or all of it at one go whose connection breaks, where that
    /// is the moment.
    async fn by_ranges(
        &self,
        case: &Case,
        mount: &RegistryClient,
        layer: &Descriptor,
    ) -> Result<Bytes, RegistryError> {
        let (digest, size) = (&layer.digest, layer.size);
        let first = mount.blob_range(REPOSITORY, digest, size, 0..RANGE).await?;
        self.come_to(case, Moment::BetweenRanges).await;
        if case.when != Moment::WithinRange {
            let rest = mount
                .blob_range(REPOSITORY, digest, size, RANGE..size)
                .await?;
            return Ok([first, rest].concat().into());
        }
        self.sim.faults(|faults| {
            faults.reset_after = Some(BREAK_AFTER);
            faults.break_times = Some(1);
        });
        let mut pieces = mount.blob_stream(REPOSITORY, layer).await?;
        let begun = pieces.try_next().await?.expect("a first piece");
        self.come_to(case, Moment::WithinRange).await;
        let rest: Vec<Bytes> = pieces.try_collect().await?;
        Ok([vec![begun], rest].concat().concat().into())
    }

    async fn mint(&self) -> Result<(), RegistryError> {
        let request = AuthRequest {
            registry: self.lease.image().registry(),
            repository: REPOSITORY,
            rejected: None,
        };
        self.source().auth(request).await?;
        Ok(())
    }

    async fn come_to(&self, case: &Case, moment: Moment) {
        if case.when == moment {
            self.happen(case).await;
        }
    }

    /// As who resolves an image reads.
    pub(super) fn client(&self) -> RegistryClient {
        let (endpoint, source) = (self.lease.endpoint().clone(), self.source());
        RegistryClient::new(&self.dialer, endpoint, source).unwrap()
    }

    /// As who resolves an image of another registry, with what the broker has for that one.
    pub(super) async fn client_of(&self, host: &str) -> RegistryClient {
        let name = image_at(host);
        let lease = self
            .broker
            .lease(self.workspace, &name, CredentialChoice::Auto);
        let lease = Arc::new(lease.await.unwrap());
        RegistryClient::new(&self.dialer, lease.endpoint().clone(), lease.own_source()).unwrap()
    }

    /// As a mount reads.
    fn client_of_mount(&self) -> RegistryClient {
        let endpoint = self.lease.endpoint().clone();
        let source = Arc::clone(&self.lease) as _;
        let patience = RetryPolicy::default();
        RegistryClient::at_locations(&self.dialer, endpoint, source, patience).unwrap()
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn source(&self) -> Arc<dyn AuthSource> {
        self.lease.own_source()
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }
}

/// What names of hosts lead to; nothing for those that the system knows.
type Names = dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync;

impl Stand {
    fn dialer(&self, limits: Limits) -> Dialer {
        let policy = DialPolicy {
            limits,
            allow: self.allow.clone(),
            ..DialPolicy::default()
        };
        let names = Arc::clone(&self.names);
        Dialer::with_names(policy, move |host: &str| names(host))
    }
}

async fn open(directory: &Path, dialer: Dialer) -> (Broker, WorkspaceId) {
    let broker = Broker::open_with(paths(directory), dialer, Arc::new(SystemClock));
    let broker = broker.await.unwrap();
    let workspace = broker.workspace(&WorkspaceName::default()).await.unwrap();
    (broker, workspace)
}

pub(super) fn login(case: &Case, sim: &RegistrySim, host: &str, password: &str) -> LoginRequest {
    let username = if case.is_identity_token {
        "<token>"
    } else {
        USERNAME
    };
    let token_service = case.token_service.as_ref();
    LoginRequest {
        scope: scope(host),
        credential: Credential::basic(username.to_owned(), password.to_owned().into()),
        settings: RegistrySettings {
            plain_http: true,
            token_service: token_service.map(|service| filled(sim, service)),
            ..RegistrySettings::default()
        },
    }
}

pub(super) fn hosts(sim: &RegistrySim) -> [&HostCounter; 4] {
    [sim.registry(), sim.realm(), sim.storage(), sim.stranger()]
}

pub(super) fn port(host: &str) -> &str {
    host.rsplit_once(':').expect("a host with a port").1
}

async fn whole(client: &RegistryClient, layer: &Descriptor) -> Result<Bytes, RegistryError> {
    let pieces = client.blob_stream(REPOSITORY, layer).await?;
    let pieces: Vec<Bytes> = pieces.try_collect().await?;
    Ok(pieces.concat().into())
}

/// Two layers of several pieces each. The second may be had from `stranger` too, as it says.
fn image(stranger: &str) -> Image {
    let layer = |seed| Layer::gzip(&[Entry::file("noise", noise(seed))]);
    let foreign = format!("{stranger}/layer");
    ImageBuilder::new()
        .layer(layer(1))
        .layer(layer(2).foreign(&[&foreign]))
        .build()
}

/// Bytes that do not compress, the same ones each time.
fn noise(seed: u32) -> Vec<u8> {
    let states = std::iter::successors(Some(seed), |state| {
        Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    });
    let bytes = states.skip(1).map(|state| state.to_be_bytes()[0]);
    bytes.take(300_000).collect()
}
