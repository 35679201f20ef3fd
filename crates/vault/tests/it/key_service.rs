//! A vault whose root key a service keeps: what is asked, what is remembered, and outages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credential::ExposeSecret;
use ids::WorkspaceId;
use tempfile::TempDir;
use tokio::task::JoinSet;
use vault::{KeyServiceError, RootKey, Vault, VaultError, VaultPlace};

use crate::fake_service::{Fake, Fault};
use crate::support::{Setting, Time, key_file, name, put};

/// What docs/security.md states for what a service refuses from now on, and somewhat more.
const SECONDS_OF_A_KEY: i64 = 331;

struct Stage {
    directory: TempDir,
    service: Fake,
    time: Time,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let service = Fake::named(&directory.path().to_string_lossy());
        let time = Time::new();
        Self {
            directory,
            service,
            time,
        }
    }

    async fn open(&self, root_key: RootKey) -> Result<Vault, VaultError> {
        let place = VaultPlace {
            root_key,
            ..Setting::HERE.place(self.directory.path())
        };
        Vault::open_with(place, self.time.clock()).await
    }

    async fn vault(&self) -> Vault {
        self.open(in_service(&self.service)).await.unwrap()
    }

    fn in_file(&self) -> RootKey {
        Setting::HERE.place(self.directory.path()).root_key
    }

    fn fail(&self) {
        let message = "it is gone".to_owned();
        let error = KeyServiceError::Unreachable { message };
        self.service.answer(Some(Fault::Fails(error)));
    }
}

fn in_service(service: &Fake) -> RootKey {
    RootKey::in_service(Arc::new(service.clone()))
}

async fn opened(vault: &Vault, workspace: WorkspaceId) -> Result<String, VaultError> {
    let opened = vault.open_secret(workspace, &name("a"), None, "t").await?;
    Ok(opened.plaintext.expose_secret().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_asked_for_once_in_its_time_however_many_need_it() {
    let stage = Stage::new();
    let (vault, workspace) = (stage.vault().await, WorkspaceId::new());
    put(&vault, workspace, "a", "one").await.unwrap();
    for _ in 0..3 {
        stage.time.forward(SECONDS_OF_A_KEY);
        let before = stage.service.opened();
        let mut openings = JoinSet::new();
        for _ in 0..50 {
            let vault = vault.clone();
            openings.spawn(async move { opened(&vault, workspace).await.unwrap() });
        }
        assert!(openings.join_all().await.iter().all(|value| value == "one"));
        assert_eq!(stage.service.opened(), before + 1);
        put(&vault, workspace, "b", "two").await.unwrap();
        assert_eq!(stage.service.opened(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_refuses_opens_for_minutes_and_no_longer() {
    let stage = Stage::new();
    let (vault, workspace) = (stage.vault().await, WorkspaceId::new());
    put(&vault, workspace, "a", "one").await.unwrap();
    stage.fail();
    assert_eq!(opened(&vault, workspace).await.unwrap(), "one");
    stage.time.forward(SECONDS_OF_A_KEY);
    let mut openings = JoinSet::new();
    for _ in 0..50 {
        let vault = vault.clone();
        openings.spawn(async move { opened(&vault, workspace).await.unwrap_err() });
    }
    for error in openings.join_all().await {
        assert_eq!(error.kind(), "unreachable", "{error}");
        assert!(error.hint().unwrap().contains("can be reached"), "{error}");
    }
    put(&vault, workspace, "b", "two").await.unwrap_err();
    put(&vault, WorkspaceId::new(), "a", "one")
        .await
        .unwrap_err();
    let error = stage.open(in_service(&stage.service)).await.unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error}");

    stage.service.answer(None);
    assert_eq!(opened(&vault, workspace).await.unwrap(), "one");
    assert!(vault.verify(None).await.unwrap().is_sound());
    let tail = vault.audit_tail(200).await.unwrap();
    let denied = tail.iter().filter(|row| row.action == "deny").count();
    assert_eq!(denied, 0, "an outage refuses nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shredded_elsewhere_opens_for_minutes_and_no_longer() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.vault().await, stage.vault().await);
    let workspace = WorkspaceId::new();
    put(&here, workspace, "a", "one").await.unwrap();
    let copied = stage.directory.path().join("copied");
    elsewhere.backup(&copied, "t").await.unwrap();
    elsewhere.shred(workspace, "w", "t").await.unwrap();
    put(&elsewhere, workspace, "a", "two").await.unwrap();
    assert_eq!(opened(&here, workspace).await.unwrap(), "two");
    stage.time.forward(SECONDS_OF_A_KEY);
    assert_eq!(opened(&here, workspace).await.unwrap(), "two");
}

/// A service that does not answer holds up who needs it, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_service_that_others_ask() {
    let stage = Stage::new();
    let (vault, known) = (stage.vault().await, WorkspaceId::new());
    put(&vault, known, "a", "one").await.unwrap();
    stage.service.hold(true);
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        let vault = vault.clone();
        waiting.spawn(async move { put(&vault, WorkspaceId::new(), "a", "new").await });
    }
    let shredding = vault.clone();
    let shredding = tokio::spawn(async move { shredding.shred(known, "w", "t").await });
    for _ in 0..8 {
        tokio::task::yield_now().await;
        put(&vault, known, "a", "two").await.unwrap();
        assert_eq!(opened(&vault, known).await.unwrap(), "two");
    }
    stage.service.hold(false);
    for put in waiting.join_all().await {
        put.unwrap();
    }
    shredding.await.unwrap().unwrap();
}

/// From a file to a service, to another key of it, to a newer version and back, while it is used.
#[tokio::test(flavor = "multi_thread")]
async fn root_keys_go_to_services_and_back_while_the_vault_is_used() {
    let stage = Stage::new();
    let other = Fake::named(&format!("{} other", stage.directory.path().display()));
    let file = || stage.in_file();
    let all: [(&str, RootKey, RootKey); 4] = [
        ("file to service", file(), in_service(&stage.service)),
        ("to another", in_service(&stage.service), in_service(&other)),
        ("to a version", in_service(&other), in_service(&other)),
        ("to a file", in_service(&other), file()),
    ];
    let vault = stage.open(file()).await.unwrap();
    let workspaces: Vec<_> = (0..70).map(|_| WorkspaceId::new()).collect();
    for workspace in &workspaces {
        put(&vault, *workspace, "a", "one").await.unwrap();
    }
    drop(vault);
    for (what, from, to) in all {
        if what == "to a file" {
            std::fs::remove_file(key_file(stage.directory.path())).unwrap();
        }
        if what == "to a version" {
            other.make_version();
        }
        let both = from.clone().followed_by(to.clone());
        let user = stage.open(both.clone()).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let using = {
            let (stop, workspaces) = (Arc::clone(&stop), workspaces.clone());
            tokio::spawn(async move {
                let mut used = 0;
                while !stop.load(Ordering::Relaxed) {
                    let workspace = workspaces[used % workspaces.len()];
                    assert_eq!(opened(&user, workspace).await.unwrap(), "one");
                    put(&user, WorkspaceId::new(), "a", "new").await.unwrap();
                    used += 1;
                }
                used
            })
        };
        let rotating = stage.open(both.clone()).await.unwrap();
        let rotation = rotating.rotate_root_key(None, "t").await;
        let rotation = rotation.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(rotation.workspaces >= workspaces.len(), "{what}");
        stop.store(true, Ordering::Relaxed);
        using.await.unwrap();
        let error = rotating.rotate_root_key(None, "t").await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeySame { .. }),
            "{what}: {error}"
        );
        let alone = stage.open(to).await.unwrap();
        assert!(alone.verify(None).await.unwrap().is_sound(), "{what}");
        if what != "to a version" {
            let error = stage.open(from).await.unwrap_err();
            assert_eq!(error.kind(), "root_key", "{what}: {error}");
        }
    }
}

/// The rotation is noted, and the service is gone before it is finished: what is under the key that
/// can be asked opens, and the next that reaches both finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_to_a_service_that_goes_away_is_finished_later() {
    let stage = Stage::new();
    let both = || stage.in_file().followed_by(in_service(&stage.service));
    let (vault, workspace) = (stage.open(both()).await.unwrap(), WorkspaceId::new());
    put(&vault, workspace, "a", "one").await.unwrap();
    // The version is asked for, and nothing else is answered.
    stage.service.answer(Some(Fault::OnlyVersions));
    let error = vault.rotate_root_key(None, "t").await.unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error}");
    stage.fail();
    drop(vault);
    let vault = stage.open(both()).await.unwrap();
    assert_eq!(opened(&vault, workspace).await.unwrap(), "one");
    stage.service.answer(None);
    drop(vault);
    drop(stage.open(both()).await.unwrap());
    std::fs::remove_file(key_file(stage.directory.path())).unwrap();
    let vault = stage.vault().await;
    assert_eq!(opened(&vault, workspace).await.unwrap(), "one");
}

/// A replica that lags has not heard of the version that is in use.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_never_goes_back_to_an_older_version() {
    let stage = Stage::new();
    stage.service.make_version();
    let vault = stage.vault().await;
    stage.service.answer(Some(Fault::Versions(1)));
    let error = vault.rotate_root_key(None, "t").await.unwrap_err();
    assert_eq!(error.kind(), "key_service", "{error}");
    stage.service.answer(None);
    stage.service.make_version();
    vault.rotate_root_key(None, "t").await.unwrap();
}

/// There is no key in the database, in any form that opens without the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_lost_its_key_is_told_and_nothing_is_made_anew() {
    let stage = Stage::new();
    let (vault, workspace) = (stage.vault().await, WorkspaceId::new());
    put(&vault, workspace, "a", "one").await.unwrap();
    drop(vault);
    for (what, error) in errors() {
        let says = error.to_string();
        stage.service.answer(Some(Fault::Fails(error)));
        let error = stage.open(in_service(&stage.service)).await.unwrap_err();
        let VaultError::KeyService { source, .. } = &error else {
            panic!("{what}: {error}");
        };
        assert_eq!(source.to_string(), says);
        assert!(error.hint().is_some(), "{what}");
    }
    stage.service.answer(None);
    let other = Fake::named(&format!("{} other", stage.directory.path().display()));
    let error = stage.open(in_service(&other)).await.unwrap_err();
    assert!(matches!(error, VaultError::RootKeyWrong { .. }), "{error}");
    assert_eq!(
        opened(&stage.vault().await, workspace).await.unwrap(),
        "one"
    );
    assert!(!Path::new(&key_file(stage.directory.path())).exists());
}

fn errors() -> [(&'static str, KeyServiceError); 4] {
    let message = || "canary".to_owned();
    [
        ("missing", KeyServiceError::Missing { message: message() }),
        ("disabled", KeyServiceError::Disabled { message: message() }),
        ("denied", KeyServiceError::Denied { message: message() }),
        ("sealed", KeyServiceError::Sealed { message: message() }),
    ]
}
