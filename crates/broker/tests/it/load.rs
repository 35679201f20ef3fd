//! Vends without end while secrets get new values and the root key is replaced, and very many at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use broker::{Broker, BrokerPaths, CredentialChoice, Lease};
use credential::{Credential, ExposeSecret, RegistryScope, SecretString};
use dial::{DialPolicy, Dialer};
use ids::{WorkspaceId, WorkspaceName};
use reference::Reference;
use registry_sim::{Login, Realm, RegistrySim};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use vault::{KeeperError, KeeperProgram, KeySource, RootKey, VaultPlace};

use crate::support::{ask, keeping_request, paths};

const TEAMS: usize = 3;
/// Of each team, with a credential of its own.
const PROJECTS: usize = 2;
const VENDERS: usize = 6;
const VENDS_OF_EACH: usize = 60;
const ROTATIONS: usize = 2;

const IDENTITIES: usize = 100;
const CROWD: usize = 10_000;

/// This program, as the process that keeps the root key.
#[test]
fn key_keeper() {
    match vault::keep_root_key() {
        // Run with the other tests: there is nobody to keep a key for.
        Ok(()) | Err(KeeperError::NotASocket) => {}
        Err(error) => panic!("{error}"),
    }
}

fn kept_paths(directory: &Path) -> BrokerPaths {
    let arguments = ["--exact", "load::key_keeper", "--test-threads", "1"];
    let program = KeeperProgram {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.map(OsString::from).to_vec(),
    };
    let source = KeySource::File(directory.join("etc/root.key"));
    let paths = paths(directory);
    BrokerPaths {
        vault: VaultPlace {
            root_key: RootKey::kept_by(program, &source),
            ..paths.vault
        },
        ..paths
    }
}

/// A registry with a token service, and credentials of several teams for it.
struct Stage {
    sim: RegistrySim,
    directory: TempDir,
    broker: Broker,
    identities: Vec<Identity>,
}

/// A credential of a workspace, for the repositories of one project.
struct Identity {
    workspace: WorkspaceId,
    scope: RegistryScope,
    /// Different for each.
    name: String,
}

impl Stage {
    async fn new(paths: fn(&Path) -> BrokerPaths, teams: usize, projects: usize) -> Self {
        let sim = RegistrySim::with_login(Login::Bearer(Realm::SameHost)).await;
        let directory = tempfile::tempdir().unwrap();
        let broker = open(paths(directory.path())).await;
        let mut identities = Vec::new();
        for team in 0..teams {
            let name = WorkspaceName::parse(&format!("team-{team}")).unwrap();
            let workspace = broker.workspace(&name).await.unwrap();
            for project in 0..projects {
                let scope = format!("{}/project-{project}", sim.host());
                identities.push(Identity {
                    workspace,
                    scope: RegistryScope::parse(&scope).unwrap(),
                    name: format!("robot-{team}-{project}"),
                });
            }
        }
        let stage = Self {
            sim,
            directory,
            broker,
            identities,
        };
        stage.renew_all(0).await;
        stage
    }

    /// Each identity gets another user name and password, which the registry takes besides those
    /// before.
    async fn renew_all(&self, round: usize) {
        for identity in &self.identities {
            let (username, password) = identity.value(round);
            self.sim.add_account(&username, &password);
            let mut request = keeping_request(&identity.scope.to_string(), "");
            request.credential = Credential::basic(username, SecretString::from(password));
            self.broker
                .login(identity.workspace, request)
                .await
                .unwrap();
        }
    }

    /// Workspaces' keys that are not under the root key that counts, and those that are.
    async fn keys(&self) -> (i64, i64) {
        let file = self.directory.path().join("data/vault.db");
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let count = "SELECT sum(workspace_key.root_key_id <> vault.root_key_id), \
                     sum(workspace_key.root_key_id = vault.root_key_id) FROM workspace_key, vault";
        sqlx::query_as(count)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }
}

async fn open(paths: BrokerPaths) -> Broker {
    let dialer = Dialer::new(DialPolicy::default());
    Broker::open(paths, dialer).await.unwrap()
}

impl Identity {
    fn value(&self, round: usize) -> (String, String) {
        let Self { name, .. } = self;
        (
            format!("{name}-{round}"),
            format!("password-{name}-{round}"),
        )
    }

    /// What a start needs: a lease, a token to read with, and the lease's end.
    async fn vend(&self, broker: &Broker, app: usize) {
        let lease = self.lease(broker, app).await;
        let auth = ask(&lease).await;
        auth.unwrap_or_else(|error| panic!("{}: {error}", lease.image()));
        lease.end().await.unwrap();
    }

    async fn lease(&self, broker: &Broker, app: usize) -> Lease {
        let image = format!("{}/app-{app}:latest", self.scope);
        let image = Reference::parse(&image).unwrap();
        let lease = broker.lease(self.workspace, &image, CredentialChoice::Auto);
        let lease = lease.await;
        lease.unwrap_or_else(|error| panic!("{image}: {error}"))
    }
}

/// Who vends, and says how often so far.
struct Vender {
    broker: Broker,
    stage: Arc<Stage>,
    first: usize,
    /// A token is for one repository: one that nobody had before is asked for with the secret.
    apps: Arc<AtomicUsize>,
    vended: watch::Sender<usize>,
}

impl Vender {
    async fn work(self) {
        for vended in 0..VENDS_OF_EACH {
            let identities = &self.stage.identities;
            let identity = &identities[(self.first + vended) % identities.len()];
            let app = self.apps.fetch_add(1, Ordering::Relaxed);
            identity.vend(&self.broker, app).await;
            self.vended.send_replace(vended + 1);
        }
    }
}

/// Waits until each has vended so often. That one has failed is told.
async fn all_have_vended(vended: &mut [watch::Receiver<usize>], least: usize) {
    for vended in vended {
        vended.wait_for(|now| *now >= least).await.expect("a vend");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_vend_fails_while_secrets_and_the_root_key_rotate_and_nothing_needs_the_old_key() {
    let stage = Arc::new(Stage::new(kept_paths, TEAMS, PROJECTS).await);
    let apps = Arc::default();
    let (mut venders, mut vended) = (JoinSet::new(), Vec::new());
    for first in 0..VENDERS {
        let (sender, receiver) = watch::channel(0);
        vended.push(receiver);
        let vender = Vender {
            // Each is a process of its own, as far as keys and tokens go.
            broker: open(kept_paths(stage.directory.path())).await,
            stage: Arc::clone(&stage),
            first,
            apps: Arc::clone(&apps),
            vended: sender,
        };
        venders.spawn(vender.work());
    }
    let root_key = stage.directory.path().join("etc/root.key");
    let kept = stage.directory.path().join("old.key");
    let mut old_keys = Vec::new();
    for round in 1..=ROTATIONS {
        // In the midst of it.
        let least = VENDS_OF_EACH * round / (ROTATIONS + 2);
        all_have_vended(&mut vended, least).await;
        old_keys.push(std::fs::read(&root_key).unwrap());
        let keep_old = (round == 1).then_some(kept.as_path());
        let rotating = stage.broker.vault().rotate_root_key(keep_old, "a test");
        let (rotation, ()) = tokio::join!(rotating, stage.renew_all(round));
        assert!(rotation.unwrap().workspaces >= TEAMS);
        assert_eq!(stage.keys().await.0, 0, "rows are left on the old key");
    }
    while let Some(ended) = venders.join_next().await {
        ended.expect("no vend fails");
    }
    assert_eq!(std::fs::read(&kept).unwrap(), old_keys[0]);
    assert!(!old_keys.contains(&std::fs::read(&root_key).unwrap()));
    nothing_needs_an_old_key(&stage, &kept).await;
}

/// They are removed, and all is there for who comes then.
async fn nothing_needs_an_old_key(stage: &Stage, kept: &Path) {
    let (left, moved) = stage.keys().await;
    assert!(
        left == 0 && moved >= TEAMS.try_into().unwrap(),
        "{left} {moved}"
    );
    std::fs::remove_file(kept).unwrap();
    let files = std::fs::read_dir(stage.directory.path().join("etc")).unwrap();
    assert_eq!(files.count(), 1, "root.key alone");
    let reader = open(kept_paths(stage.directory.path())).await;
    for (app, identity) in stage.identities.iter().enumerate() {
        let name = identity.scope.secret_name();
        let opened = reader
            .vault()
            .open_secret(identity.workspace, &name, None, "a test");
        let opened = opened.await.unwrap();
        let (_, password) = identity.value(ROTATIONS);
        assert!(opened.plaintext.expose_secret().contains(&password));
        identity.vend(&reader, app).await;
    }
    let report = reader.vault().verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// How many requests of each kind arrived, after so many.
fn kinds(sim: &RegistrySim, after: usize) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for path in sim.registry().paths().into_iter().skip(after) {
        let kind = path.split('?').next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_vends_of_a_hundred_identities_make_a_hundred_upstream_calls() {
    let stage = Stage::new(paths, IDENTITIES, 1).await;
    let before = stage.sim.registry().paths().len();
    let mut leases = Vec::new();
    for identity in &stage.identities {
        leases.push(Arc::new(identity.lease(&stage.broker, 0).await));
    }
    let tokens = stage.sim.token_requests();
    let asked = tokens.read().requests;
    stage.sim.close_token_gate();
    let mut vends = JoinSet::new();
    for number in 0..CROWD {
        let lease = Arc::clone(&leases[number % IDENTITIES]);
        vends.spawn(async move { ask(&lease).await.map(|auth| auth.serial) });
    }
    tokens.wait_for_requests(asked + IDENTITIES as u64).await;
    stage.sim.open_token_gate();
    let mut serials = BTreeSet::new();
    while let Some(vended) = vends.join_next().await {
        serials.insert(vended.unwrap().unwrap());
    }
    assert_eq!(serials.len(), IDENTITIES);
    // At the door of each: which scheme is spoken on loopback, and what is demanded.
    let expected = [("GET /token", IDENTITIES), ("GET /v2/", 2 * IDENTITIES)];
    let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(kinds(&stage.sim, before), expected.into());
    let elsewhere = [stage.sim.realm(), stage.sim.storage(), stage.sim.stranger()];
    assert!(elsewhere.iter().all(|counter| counter.read().requests == 0));
}
