//! A reader of an image, as a start and its mount read: by a lease of the broker, the manifest and
//! the configuration with an auth, the layers at signed locations where there are any.

use std::path::Path;
use std::sync::Arc;

use broker::{Broker, CredentialChoice, Lease, LoginRequest};
use bytes::Bytes;
use control_store::RegistrySettings;
use credential::Credential;
use credential::auth::{AuthRequest, AuthSource};
use dial::{AllowRule, DialPolicy, Dialer, Names};
use futures::TryStreamExt;
use ids::{WorkspaceId, WorkspaceName};
use reference::Selector;
use registry_client::{
    Descriptor, PinnedManifest, Platform, RegistryClient, RegistryError, RetryPolicy,
};
use registry_sim::{Counts, Entry, HostCounter, Image, ImageBuilder, Layer, RegistrySim};
use tempfile::TempDir;
use token_exchange::SystemClock;

use super::{Case, Event, Gets, Hosts, May, Moment, Reader};
use crate::support::{PASSWORD, REPOSITORY, USERNAME, image_at, paths, scope};

/// What the password becomes.
const NEXT_PASSWORD: &str = "battery-staple-correct";

/// After so many bytes of a long range its connection breaks. Several pieces of a body.
const BREAK_AFTER: u64 = 100_000;
/// The next bytes are asked for as a range of their own.
const RANGE: u64 = 50_000;
/// A range is read again by who reads the whole, and what was sent before a break may be lost.
const SENT_TWICE: u64 = RANGE + BREAK_AFTER;

pub(super) struct Reading {
    sim: Arc<RegistrySim>,
    image: Image,
    broker: Broker,
    workspace: WorkspaceId,
    dialer: Dialer,
    lease: Arc<Lease>,
    /// What arrived at each host before the reading began.
    before: [Received; 4],
    _directory: TempDir,
}

/// Where a reading takes place.
pub(super) struct Stand {
    /// What the registry is called.
    pub(super) registry: &'static str,
    pub(super) names: Names,
    /// What the operator allows.
    pub(super) allow: Vec<AllowRule>,
}

/// What has arrived at a host.
#[derive(Clone, Copy)]
struct Received {
    counts: Counts,
    /// Requests with a password in them.
    passwords: u64,
}

/// What was read.
struct Read {
    config: Bytes,
    layers: [Bytes; 2],
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
        let (broker, workspace) = open(directory.path(), stand.dialer()).await;
        let request = login(case, &sim, &host, PASSWORD);
        broker.login(workspace, request).await.expect(&case.what);
        let dialer = stand.dialer();
        let (broker, workspace) = open(directory.path(), dialer.clone()).await;
        let name = image_at(&host);
        let lease = broker.lease(workspace, &name, CredentialChoice::Auto);
        let lease = Arc::new(lease.await.unwrap());
        let hosts = [sim.registry(), sim.realm(), sim.storage(), sim.stranger()];
        for counter in hosts {
            for password in [PASSWORD, NEXT_PASSWORD] {
                counter.watch_for(password);
            }
        }
        let before = hosts.map(Received::by);
        Self {
            sim: Arc::new(sim),
            image,
            broker,
            workspace,
            dialer,
            lease,
            before,
            _directory: directory,
        }
    }

    /// Reads, and judges what came of it.
    pub(super) async fn check(&self, case: &Case) {
        let what = format!("{} at {:?} of {:?}", case.what, case.when, case.reader);
        let before = self.sim.blob_bytes();
        match (self.read(case).await, &case.gets) {
            (Ok(read), Gets::Everything) => {
                assert!(read.config == self.image.config.bytes, "{what}: config");
                for (read, layer) in read.layers.iter().zip(&self.image.layers) {
                    assert!(*read == layer.bytes, "{what}: layer");
                }
                let sent = self.sim.blob_bytes() - before;
                let own = self.own_bytes();
                assert!(sent <= own + SENT_TWICE, "{what}: {sent} bytes for {own}");
            }
            (Err(error), Gets::Refusal(text)) => {
                let shown = format!("{error} {error:?} {:?}", error.hint());
                assert!(shown.contains(text), "{what}: {shown}");
                for secret in [PASSWORD, NEXT_PASSWORD, "sim-token", "sim-signature"] {
                    assert!(!shown.contains(secret), "{what}: {shown}");
                }
            }
            (Ok(_), Gets::Refusal(text)) => panic!("{what}: read in spite of {text}"),
            (Err(error), Gets::Everything) => panic!("{what}: {error}"),
        }
        self.check_hosts(&what, Hosts::of(case));
    }

    fn check_hosts(&self, what: &str, hosts: Hosts) {
        let sim = &self.sim;
        let lines = [
            ("registry", sim.registry(), hosts.registry),
            ("token service", sim.realm(), hosts.realm),
            ("storage", sim.storage(), hosts.storage),
            ("stranger", sim.stranger(), hosts.stranger),
        ];
        for ((name, counter, may), before) in lines.into_iter().zip(self.before) {
            let received = Received::by(counter).since(before);
            received.check(may, &format!("{what}: {name}"));
        }
    }

    fn own_bytes(&self) -> u64 {
        let layers = self.image.layers.iter().map(|layer| layer.bytes.len());
        layers.chain([self.image.config.bytes.len()]).sum::<usize>() as u64
    }

    /// A start: the manifest, the configuration, a layer by ranges, and another one.
    async fn read(&self, case: &Case) -> Result<Read, RegistryError> {
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
        self.lease.auth(request).await?;
        Ok(())
    }

    async fn come_to(&self, case: &Case, moment: Moment) {
        if case.when == moment {
            self.happen(case).await;
        }
    }

    async fn happen(&self, case: &Case) {
        let sim = &self.sim;
        match &case.event {
            Event::Nothing => {}
            Event::TokensEnd => sim.expire_tokens(),
            Event::LocationsEnd => sim.expire_locations(),
            Event::TokensAndLocationsEnd => {
                sim.expire_tokens();
                sim.expire_locations();
            }
            Event::PasswordChanges => self.change_password(case).await,
            Event::ServiceIsSlow => self.slow_down(),
            Event::Faults(change) => sim.faults(change),
            Event::TokensEndAnd(change) => {
                sim.expire_tokens();
                sim.faults(change);
            }
            Event::Redirects(target) => {
                sim.faults(|faults| faults.redirect_to = Some(filled(sim, target)));
            }
            Event::Strays(target, next) => sim.faults(|faults| {
                faults.redirect_to = Some(filled(sim, target));
                faults.stranger_redirects_to = next.as_ref().map(|next| filled(sim, next));
            }),
            Event::Realm(realm) => {
                sim.expire_tokens();
                let realm = filled(sim, realm);
                let challenge = format!("Bearer realm=\"{realm}\",service=\"sim\"");
                sim.faults(|faults| faults.challenge = Some(challenge));
            }
            Event::LayerIsRemoved => sim.remove_blob(REPOSITORY, &self.image.layers[1].digest),
        }
    }

    async fn change_password(&self, case: &Case) {
        self.sim.set_password(NEXT_PASSWORD);
        let request = login(case, &self.sim, self.sim.host(), NEXT_PASSWORD);
        let login = self.broker.login(self.workspace, request).await;
        login.expect(&case.what);
    }

    /// The next token is given out when it has been asked for, and not before.
    fn slow_down(&self) {
        self.sim.expire_tokens();
        self.sim.close_token_gate();
        let sim = Arc::clone(&self.sim);
        let asked = sim.token_requests().read().requests;
        tokio::spawn(async move {
            sim.token_requests().wait_for_requests(asked + 1).await;
            sim.open_token_gate();
        });
    }

    /// As who resolves an image reads.
    pub(super) fn client(&self) -> RegistryClient {
        let (endpoint, source) = (self.lease.endpoint().clone(), self.source());
        RegistryClient::new(&self.dialer, endpoint, source).unwrap()
    }

    /// As a mount reads.
    fn client_of_mount(&self) -> RegistryClient {
        let (endpoint, source) = (self.lease.endpoint().clone(), self.source());
        let patience = RetryPolicy::default();
        RegistryClient::at_locations(&self.dialer, endpoint, source, patience).unwrap()
    }

    pub(super) fn source(&self) -> Arc<dyn AuthSource> {
        Arc::clone(&self.lease) as _
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }
}

impl Stand {
    fn dialer(&self) -> Dialer {
        let policy = DialPolicy {
            allow: self.allow.clone(),
            ..DialPolicy::default()
        };
        Dialer::with_names(policy, Arc::clone(&self.names))
    }
}

impl Received {
    fn by(counter: &HostCounter) -> Self {
        Self {
            counts: counter.read(),
            passwords: counter.sightings(),
        }
    }

    fn since(self, before: Self) -> Self {
        let (counts, other) = (self.counts, before.counts);
        Self {
            counts: Counts {
                requests: counts.requests - other.requests,
                credential_bytes: counts.credential_bytes - other.credential_bytes,
            },
            passwords: self.passwords - before.passwords,
        }
    }

    fn check(self, may: May, what: &str) {
        let Self { counts, passwords } = self;
        let is_allowed = match may {
            May::Nothing => counts.requests == 0,
            May::Questions => counts.credential_bytes == 0,
            May::Tokens => passwords == 0,
            May::Password => true,
        };
        assert!(
            is_allowed,
            "{what}: {counts:?}, {passwords} passwords for {may:?}"
        );
    }
}

async fn open(directory: &Path, dialer: Dialer) -> (Broker, WorkspaceId) {
    let broker = Broker::open_with(paths(directory), dialer, Arc::new(SystemClock));
    let broker = broker.await.unwrap();
    let workspace = broker.workspace(&WorkspaceName::default()).await.unwrap();
    (broker, workspace)
}

fn login(case: &Case, sim: &RegistrySim, host: &str, password: &str) -> LoginRequest {
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

/// A line's text with the hosts of this registry in it.
fn filled(sim: &RegistrySim, text: &str) -> String {
    let stranger = sim.stranger_url();
    let (_, stranger) = stranger.split_once("://").unwrap();
    text.replace("{registry}", sim.host())
        .replace("{port}", port(sim.realm_host()))
        .replace("{stranger}", stranger)
        .replace("{stranger-port}", port(stranger))
}

fn port(host: &str) -> &str {
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
