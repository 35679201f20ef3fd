//! Rotations of the root key while secrets are opened, sealed and rotated, and ones that stop half
//! way: both keys are there and every row opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use credential::ExposeSecret;
use fastrand::Rng;
use ids::WorkspaceId;
use tokio::task::JoinSet;
use vault::{KeySource, RootKey, Vault, VaultError, VaultPlace};

use crate::role::Pause;
use crate::support::{Setting, Stage, name, put, with_each_setting};

with_each_setting!(
    no_open_fails_while_secrets_and_the_root_key_rotate,
    a_rotation_that_stops_half_way_is_finished_by_the_next_open,
    a_key_that_does_not_open_keeps_the_old_root_key,
);

/// More than are wrapped in one commit, several times.
const WORKSPACES: usize = 200;
/// Each with a cache of keys of its own, so that each asks for every workspace's key.
const OPENERS: usize = 6;
const ROTATIONS: usize = 4;
/// What one commit wraps.
const BATCH: usize = 64;

async fn fill(stage: &Stage, count: usize) -> Vec<WorkspaceId> {
    let workspaces: Vec<_> = (0..count).map(|_| WorkspaceId::new()).collect();
    for workspace in &workspaces {
        put(&stage.vault, *workspace, "a", "one").await.unwrap();
    }
    workspaces
}

async fn check_open(vault: &Vault, workspace: WorkspaceId) {
    let opened = vault.open_secret(workspace, &name("a"), None, "t").await;
    let opened = opened.unwrap_or_else(|error| panic!("{workspace}: {error}"));
    assert_eq!(opened.plaintext.expose_secret(), "one", "{workspace}");
}

fn key_files(stage: &Stage) -> usize {
    let names = std::fs::read_dir(stage.directory.path().join("etc")).unwrap();
    names.count()
}

/// Workspace keys that are not under the root key that counts.
async fn left(stage: &Stage) -> usize {
    let count = "SELECT count(*) FROM workspace_key, vault
                 WHERE workspace_key.root_key_id <> vault.root_key_id";
    stage.number(count).await.try_into().unwrap()
}

/// Opens and seals until told to stop. Answers how often it opened.
async fn work(
    (vault, mut random): (Vault, Rng),
    workspaces: Arc<Vec<WorkspaceId>>,
    (stop, started): (Arc<AtomicBool>, Arc<AtomicUsize>),
) -> usize {
    let mut opened = 0;
    while !stop.load(Ordering::Relaxed) {
        let workspace = workspaces[random.usize(..workspaces.len())];
        check_open(&vault, workspace).await;
        if opened % 16 == 0 {
            put(&vault, workspace, "a", "one").await.unwrap();
            put(&vault, WorkspaceId::new(), "new", "new").await.unwrap();
        }
        if opened == 0 {
            started.fetch_add(1, Ordering::Relaxed);
        }
        opened += 1;
    }
    opened
}

async fn no_open_fails_while_secrets_and_the_root_key_rotate(setting: Setting) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let stage = Stage::with(setting).await;
    let workspaces = Arc::new(fill(&stage, WORKSPACES).await);
    let (stop, started) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut openers = JoinSet::new();
    for number in 0..OPENERS {
        let vault = stage.again().await.unwrap();
        let random = Rng::with_seed(seed.wrapping_add(number as u64));
        let control = (Arc::clone(&stop), Arc::clone(&started));
        openers.spawn(work((vault, random), Arc::clone(&workspaces), control));
    }
    let mut old_keys = Vec::new();
    while started.load(Ordering::Relaxed) < OPENERS && !openers.is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..ROTATIONS {
        old_keys.push(std::fs::read(stage.key_file()).unwrap());
        let rotation = stage.vault.rotate_root_key(None, "t").await.unwrap();
        assert!(rotation.workspaces >= WORKSPACES);
        assert_eq!(left(&stage).await, 0);
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(opened) = openers.join_next().await {
        assert!(opened.unwrap() > 0);
    }
    // The old keys are nowhere any more, and nothing needs them.
    assert_eq!(key_files(&stage), 1);
    let key = std::fs::read(stage.key_file()).unwrap();
    assert!(!old_keys.contains(&key));
    let again = stage.again().await.unwrap();
    for workspace in &*workspaces {
        check_open(&again, *workspace).await;
    }
    let report = again.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// The row names the old root key, and when the keeper is asked for that one it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_rotation_is_read_again() {
    let stage = Stage::new().await;
    stage.put("a", "one").await;
    let pause = Pause {
        // After the two of opening: the key of the workspace.
        question: 3,
        directory: stage.directory.path().to_owned(),
    };
    let place = VaultPlace {
        root_key: RootKey::kept_by(pause.program(), &KeySource::File(stage.key_file())),
        ..stage.place()
    };
    let slow = Vault::open(place).await.unwrap();
    // Its keeper still has the key that was there when it was opened, and not this one.
    stage.vault.rotate_root_key(None, "t").await.unwrap();
    let rotated = pause.meanwhile(stage.vault.rotate_root_key(None, "t"));
    let (rotated, ()) = tokio::join!(rotated, check_open(&slow, stage.workspace));
    rotated.unwrap();
}

async fn a_rotation_that_stops_half_way_is_finished_by_the_next_open(setting: Setting) {
    let stage = Stage::with(setting).await;
    let workspaces = fill(&stage, BATCH + 6).await;
    let bystander = stage.again().await.unwrap();
    // The second commit fails, as on a disk that is full.
    let is_over = format!(
        "(SELECT count(*) FROM workspace_key WHERE root_key_id = NEW.root_key_id) >= {BATCH}"
    );
    let stop = if stage.is_on_server() {
        format!(
            "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF {is_over} THEN RAISE 'stopped'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER stop BEFORE UPDATE ON workspace_key
             FOR EACH ROW EXECUTE FUNCTION stop()"
        )
    } else {
        format!(
            "CREATE TRIGGER stop BEFORE UPDATE ON workspace_key WHEN {is_over}
             BEGIN SELECT RAISE(ABORT, 'stopped'); END"
        )
    };
    stage.sql(&stop).await;
    let error = stage.vault.rotate_root_key(None, "t").await.unwrap_err();
    assert!(matches!(error, VaultError::Database { .. }), "{error}");
    assert_eq!((left(&stage).await, key_files(&stage)), (BATCH, 2));
    for workspace in &workspaces {
        check_open(&bystander, *workspace).await;
    }
    let new = WorkspaceId::new();
    put(&bystander, new, "a", "one").await.unwrap();
    assert_eq!(
        left(&stage).await,
        BATCH + 1,
        "new ones are under the new key"
    );

    let start = if stage.is_on_server() {
        "DROP FUNCTION stop CASCADE"
    } else {
        "DROP TRIGGER stop"
    };
    stage.sql(start).await;
    let again = stage.again().await.unwrap();
    assert_eq!((left(&stage).await, key_files(&stage)), (0, 1));
    for workspace in workspaces.iter().chain([&new]) {
        check_open(&again, *workspace).await;
    }
    let report = again.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    let last = &again.audit_tail(200).await.unwrap();
    let rotations = last.iter().filter(|row| row.action == "rotate");
    assert_eq!(rotations.count(), 1);
}

async fn a_key_that_does_not_open_keeps_the_old_root_key(setting: Setting) {
    let stage = Stage::with(setting).await;
    let workspaces = fill(&stage, 3).await;
    let damaged = workspaces[1];
    let of = format!("WHERE workspace = '{damaged}'");
    stage
        .sql(&format!(
            "CREATE TABLE kept AS SELECT wrapped FROM workspace_key {of};
             UPDATE workspace_key SET wrapped = zeroblob(61) {of}"
        ))
        .await;
    for _ in 0..2 {
        let error = stage.vault.rotate_root_key(None, "t").await.unwrap_err();
        let VaultError::WorkspaceKeyDamaged { workspace } = error else {
            panic!("{error}");
        };
        assert_eq!(workspace, damaged.to_string());
    }
    let again = stage.again().await.unwrap();
    assert_eq!(key_files(&stage), 2);
    check_open(&again, workspaces[0]).await;
    check_open(&again, workspaces[2]).await;
    let put_back = format!("UPDATE workspace_key SET wrapped = (SELECT wrapped FROM kept) {of}");
    stage.sql(&put_back).await;
    let again = stage.again().await.unwrap();
    assert_eq!((left(&stage).await, key_files(&stage)), (0, 1));
    check_open(&again, damaged).await;
}
