//! Leases and the retirement of versions.

use std::process::{Command, Stdio};

use credential::ExposeSecret;
use ids::LeaseId;
use vault::{LEASE_TIME, LeaseRequest, SealedVersion, VaultError};

use crate::support::{Stage, contains, files, name};

async fn lease(stage: &Stage, sealed: SealedVersion) -> Result<LeaseId, VaultError> {
    let request = LeaseRequest {
        workspace: stage.workspace,
        sealed,
        image: "ghcr.io/acme/app:1",
        container: "ctr",
    };
    stage.vault.begin_lease(request).await
}

async fn is_retired(stage: &Stage, version: u32) -> bool {
    let history = stage
        .vault
        .history(stage.workspace, &name("a"))
        .await
        .unwrap();
    let row = history.iter().find(|row| row.version == version).unwrap();
    row.retired_at.is_some()
}

#[tokio::test]
async fn a_superseded_version_lives_until_its_last_lease_ends() {
    let stage = Stage::new().await;
    let first = stage.put("a", "one").await;
    let (one, two) = (
        lease(&stage, first).await.unwrap(),
        lease(&stage, first).await.unwrap(),
    );
    stage.put("a", "two").await;
    let old = stage.open("a", Some(1)).await.unwrap();
    assert_eq!(old.plaintext.expose_secret(), "one");
    stage.vault.end_lease(one).await.unwrap();
    assert!(!is_retired(&stage, 1).await);
    stage.vault.move_lease(two, 2).await.unwrap();
    assert!(is_retired(&stage, 1).await);
    let error = stage.open("a", Some(1)).await.unwrap_err();
    assert!(
        matches!(error, VaultError::Retired { version: 1, .. }),
        "{error}"
    );
    let live = stage.vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(
        live.iter()
            .map(|row| (row.lease_id, row.version))
            .collect::<Vec<_>>(),
        [(two, 2)]
    );
    stage.vault.end_lease(two).await.unwrap();
    stage.vault.end_lease(two).await.unwrap();
    assert!(!is_retired(&stage, 2).await, "the current version stays");
    assert!(stage.vault.verify(None).await.unwrap().is_sound());
}

/// They share commits: what one of them may not have costs the others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_begin_and_end_together() {
    const PAIRS: usize = 300;
    let stage = Stage::new().await;
    let gone = stage.put("a", "one").await;
    let current = stage.put("a", "two").await;
    let begin = |sealed| {
        let (vault, workspace) = (stage.vault.clone(), stage.workspace);
        tokio::spawn(async move {
            let request = LeaseRequest {
                workspace,
                sealed,
                image: "ghcr.io/acme/app:1",
                container: "ctr",
            };
            let lease = vault.begin_lease(request).await?;
            vault.end_lease(lease).await?;
            vault.end_lease(LeaseId::new()).await
        })
    };
    let pairs: Vec<_> = (0..PAIRS).map(|_| (begin(current), begin(gone))).collect();
    for (held, refused) in pairs {
        held.await.unwrap().unwrap();
        let error = refused.await.unwrap().unwrap_err();
        assert!(
            matches!(error, VaultError::Retired { version: 1, .. }),
            "{error}"
        );
    }
    let live = stage.vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(live, []);
    let rows = stage.vault.audit_tail(10_000).await.unwrap();
    let written = |action| rows.iter().filter(|row| row.action == action).count();
    assert_eq!(
        (written("lease-begin"), written("lease-end")),
        (PAIRS, PAIRS)
    );
    assert!(stage.vault.verify(None).await.unwrap().is_sound());
}

#[tokio::test]
async fn leases_end_by_the_clock_unless_renewed() {
    let stage = Stage::new().await;
    let first = stage.put("a", "one").await;
    let lasting = lease(&stage, first).await.unwrap();
    let lapsing = lease(&stage, first).await.unwrap();
    let time = i64::try_from(LEASE_TIME.as_secs()).unwrap();
    stage.time.forward(time - 1);
    stage.vault.renew_lease(lasting).await.unwrap();
    stage.time.forward(2);
    let live = stage.vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(
        live.iter().map(|row| row.lease_id).collect::<Vec<_>>(),
        [lasting]
    );
    let error = stage.vault.renew_lease(lapsing).await.unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    let error = stage.vault.move_lease(lapsing, 1).await.unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    stage.time.forward(time);
    stage.put("a", "two").await;
    assert!(
        is_retired(&stage, 1).await,
        "sealing looks for leases that are over"
    );
}

#[tokio::test]
async fn leases_of_gone_processes_end() {
    let stage = Stage::new().await;
    let first = stage.put("a", "one").await;
    let orphan = lease(&stage, first).await.unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let own = format!("/{}/", std::process::id());
    let owner = format!(
        "UPDATE lease SET owner = replace(owner, '{own}', '/{}/')",
        child.id()
    );
    stage.sql(&owner).await;
    // The number is alive, but with another start time than the lease was given to.
    assert_eq!(stage.vault.sweep_leases().await.unwrap(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        stage
            .vault
            .live_leases(stage.workspace)
            .await
            .unwrap()
            .is_empty()
    );
    let error = stage.vault.renew_lease(orphan).await.unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    let ended = &stage.vault.audit_tail(1).await.unwrap()[0];
    assert_eq!(
        (ended.action.as_str(), ended.subject.as_str()),
        ("lease-end", "orphaned")
    );
}

#[tokio::test]
async fn what_has_ended_cannot_be_leased() {
    let stage = Stage::new().await;
    let first = stage.put("a", "one").await;
    let held = lease(&stage, first).await.unwrap();
    let second = stage.put("a", "two").await;
    stage.vault.end_lease(held).await.unwrap();
    let error = lease(&stage, first).await.unwrap_err();
    assert!(
        matches!(error, VaultError::Retired { version: 1, .. }),
        "{error}"
    );
    let unknown = SealedVersion {
        version: 9,
        ..second
    };
    let error = lease(&stage, unknown).await.unwrap_err();
    assert!(matches!(error, VaultError::NotFound { .. }), "{error}");
    let held = lease(&stage, second).await.unwrap();
    stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap();
    let error = stage.vault.renew_lease(held).await.unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    let error = lease(&stage, second).await.unwrap_err();
    assert!(matches!(error, VaultError::Retired { .. }), "{error}");
}

/// Erased means erased: the sealed bytes are in no file, the log included.
#[tokio::test]
async fn retired_and_removed_bytes_are_in_no_file() {
    let stage = Stage::new().await;
    stage.put("a", "the first plaintext of the secret").await;
    let query = "SELECT substr(sealed, 119) FROM secret_version WHERE sealed IS NOT NULL";
    let first = stage.blob(query).await;
    assert!(
        is_in_files(&stage, &first),
        "the test looks for the right bytes"
    );
    stage.put("a", "the second plaintext of the secret").await;
    let second = stage.blob(query).await;
    assert!(!is_in_files(&stage, &first), "retired");
    assert!(is_in_files(&stage, &second));
    stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap();
    assert!(!is_in_files(&stage, &second), "removed");
}

fn is_in_files(stage: &Stage, bytes: &[u8]) -> bool {
    let files = files(stage.directory.path());
    files.iter().any(|(_, contents)| contains(contents, bytes))
}

#[tokio::test]
async fn a_clock_that_jumps_keeps_secrets_open_and_the_audit_whole() {
    const DAY: i64 = 24 * 60 * 60;
    let stage = Stage::new().await;
    let sealed = stage.put("a", "one").await;
    for seconds in [300, -300, DAY, -DAY, -DAY, DAY] {
        let held = lease(&stage, sealed).await.unwrap();
        stage.time.forward(seconds);
        let again = stage.again().await.unwrap();
        // Where it lapsed by the clock, its owner is told and begins another.
        match stage.vault.renew_lease(held).await {
            Ok(_) => stage.vault.end_lease(held).await.unwrap(),
            Err(error) => assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}"),
        }
        assert!(again.live_leases(stage.workspace).await.unwrap().is_empty());
        let opened = stage.open("a", None).await.unwrap();
        assert_eq!(opened.plaintext.expose_secret(), "one");
        let report = again.verify(None).await.unwrap();
        assert!(report.is_sound(), "after {seconds} s");
    }
}
