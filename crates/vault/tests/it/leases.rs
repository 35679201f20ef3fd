//! Leases and the retirement of versions.

use std::process::{Command, Stdio};

use credential::ExposeSecret;
use ids::{LeaseId, WorkerId};
use jiff::Timestamp;
use vault::{
    AfterRemoval, CalledOff, ExposureOf, Given, HandedOutTo, LEASE_TIME, LeaseReader, LeaseRequest,
    Renewal, SealedVersion, Stamp, VaultError,
};

use crate::support::{Engine, READER, Stage, contains, files, name, on_each_engine, renewal};

on_each_engine!(
    a_superseded_version_lives_until_its_last_lease_ends,
    leases_that_begin_and_end_together,
    leases_end_by_the_clock_unless_renewed,
    leases_of_gone_processes_end,
    what_has_ended_cannot_be_leased,
    a_clock_that_jumps_keeps_secrets_open_and_the_audit_whole,
    two_that_renew_one_lease_are_told_and_both_lose_it,
    a_lease_lasts_no_longer_than_what_was_given_with_it,
    a_lease_of_a_clock_that_was_set_back_is_over,
    what_a_worker_was_given_is_known_after_it_is_gone,
    what_was_handed_out_is_known_of_the_secret,
    what_follows_a_removal_is_remembered,
);

async fn lease(stage: &Stage, sealed: SealedVersion) -> Result<LeaseId, VaultError> {
    let request = LeaseRequest {
        workspace: stage.workspace,
        sealed,
        image: "ghcr.io/acme/app:1",
        repository: "ghcr.io/acme/app",
        reader: READER,
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

async fn a_superseded_version_lives_until_its_last_lease_ends(engine: Engine) {
    let stage = Stage::on(engine).await;
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
    stage.vault.renew_lease(two, renewal(1, 2)).await.unwrap();
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
async fn leases_that_begin_and_end_together(engine: Engine) {
    const PAIRS: usize = 300;
    let stage = Stage::on(engine).await;
    let gone = stage.put("a", "one").await;
    let current = stage.put("a", "two").await;
    let begin = |sealed| {
        let (vault, workspace) = (stage.vault.clone(), stage.workspace);
        tokio::spawn(async move {
            let request = LeaseRequest {
                workspace,
                sealed,
                image: "ghcr.io/acme/app:1",
                repository: "ghcr.io/acme/app",
                reader: READER,
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

async fn leases_end_by_the_clock_unless_renewed(engine: Engine) {
    let stage = Stage::on(engine).await;
    let first = stage.put("a", "one").await;
    let lasting = lease(&stage, first).await.unwrap();
    let lapsing = lease(&stage, first).await.unwrap();
    let time = i64::try_from(LEASE_TIME.as_secs()).unwrap();
    stage.time.forward(time - 1);
    stage
        .vault
        .renew_lease(lasting, renewal(1, 1))
        .await
        .unwrap();
    stage.time.forward(2);
    let live = stage.vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(
        live.iter().map(|row| row.lease_id).collect::<Vec<_>>(),
        [lasting]
    );
    let error = stage
        .vault
        .renew_lease(lapsing, renewal(1, 1))
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    let error = stage
        .vault
        .renew_lease(lapsing, renewal(1, 1))
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    stage.time.forward(time);
    stage.put("a", "two").await;
    assert!(
        is_retired(&stage, 1).await,
        "sealing looks for leases that are over"
    );
}

async fn leases_of_gone_processes_end(engine: Engine) {
    let stage = Stage::on(engine).await;
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
    let error = stage
        .vault
        .renew_lease(orphan, renewal(1, 1))
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    let ended = &stage.vault.audit_tail(1).await.unwrap()[0];
    assert_eq!(
        (ended.action.as_str(), ended.subject.as_str()),
        ("lease-end", "orphaned")
    );
}

async fn what_has_ended_cannot_be_leased(engine: Engine) {
    let stage = Stage::on(engine).await;
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
    let error = stage
        .vault
        .renew_lease(held, renewal(1, 1))
        .await
        .unwrap_err();
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

async fn a_clock_that_jumps_keeps_secrets_open_and_the_audit_whole(engine: Engine) {
    const DAY: i64 = 24 * 60 * 60;
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    for seconds in [300, -300, DAY, -DAY, -DAY, DAY] {
        let held = lease(&stage, sealed).await.unwrap();
        stage.time.forward(seconds);
        let again = stage.again().await.unwrap();
        // Where it lapsed by the clock, its owner is told and begins another.
        match stage.vault.renew_lease(held, renewal(1, 1)).await {
            Ok(()) => stage.vault.end_lease(held).await.unwrap(),
            Err(error) => assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}"),
        }
        assert!(again.live_leases(stage.workspace).await.unwrap().is_empty());
        let opened = stage.open("a", None).await.unwrap();
        assert_eq!(opened.plaintext.expose_secret(), "one");
        let report = again.verify(None).await.unwrap();
        assert!(report.is_sound(), "after {seconds} s");
    }
}

/// Whoever holds a copy is known by its first renewal, in another process too.
async fn two_that_renew_one_lease_are_told_and_both_lose_it(engine: Engine) {
    let secret_name = name("a");
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    let held = lease(&stage, sealed).await.unwrap();
    let other = stage.again().await.unwrap();
    let first = renewal(1, 1);
    stage.vault.renew_lease(held, first.clone()).await.unwrap();
    // Its answer was lost.
    stage.vault.renew_lease(held, first.clone()).await.unwrap();
    other.renew_lease(held, renewal(2, 1)).await.unwrap();
    for stamped in [renewal(2, 1), renewal(1, 1), first] {
        let error = stage.vault.renew_lease(held, stamped).await.unwrap_err();
        assert!(matches!(error, VaultError::LeaseCopied { .. }), "{error}");
    }
    let mut alarms_raised = Vec::new();
    for _ in 0..2 {
        let alarm = stage.vault.alarm_lease(held, "two have renewed it");
        alarms_raised.push(alarm.await.unwrap());
    }
    assert_eq!(alarms_raised, [true, false]);
    let error = other.renew_lease(held, renewal(3, 1)).await.unwrap_err();
    assert!(matches!(error, VaultError::LeaseEnded { .. }), "{error}");
    let standing = other.standing(stage.workspace, &secret_name, Some(held));
    assert_eq!(standing.await.unwrap().called_off, Some(CalledOff::Copied));
    let rows = stage.vault.audit_tail(100).await.unwrap();
    let alarms: Vec<_> = rows
        .iter()
        .filter(|row| row.action == "lease-alarm")
        .collect();
    assert_eq!(alarms.len(), 1);
    let expected = format!("two have renewed it; lease {held}, worker none");
    assert_eq!(
        (alarms[0].actor.as_str(), &alarms[0].detail),
        ("ctr", &expected)
    );
}

/// What a lease holds is of no use after its end, so that the lease is none either.
async fn a_lease_lasts_no_longer_than_what_was_given_with_it(engine: Engine) {
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    let cap = i64::try_from(LEASE_TIME.as_secs()).unwrap();
    for (left, lasts) in [
        (Some(60), 60),
        (Some(cap + 60), cap),
        (None, cap),
        (Some(-60), 0),
    ] {
        let held = lease(&stage, sealed).await.unwrap();
        let now = stage.time.now();
        let given = Given {
            rung: "repository bearer".to_owned(),
            not_after: left.map(|left| now + jiff::SignedDuration::from_secs(left)),
        };
        let renewal = Renewal {
            until: given.not_after,
            given: Some(given),
            ..renewal(1, 1)
        };
        stage.vault.renew_lease(held, renewal).await.unwrap();
        let query = format!(
            "SELECT expires_at - {} FROM lease WHERE lease_id = '{held}'",
            now.as_millisecond()
        );
        assert_eq!(stage.number(&query).await, lasts * 1000, "{left:?}");
        stage.vault.end_lease(held).await.unwrap();
    }
}

async fn a_lease_of_a_clock_that_was_set_back_is_over(engine: Engine) {
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    lease(&stage, sealed).await.unwrap();
    // By more than the clocks of machines may differ.
    stage.time.forward(-600);
    let live = stage.vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(live, []);
}

async fn what_a_worker_was_given_is_known_after_it_is_gone(engine: Engine) {
    let secret_name = name("a");
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    let (worker, other) = (WorkerId::new(), WorkerId::new());
    let reader = |worker| LeaseReader {
        worker: Some(worker),
        container: "ctr-1",
    };
    let request = |worker| LeaseRequest {
        workspace: stage.workspace,
        sealed,
        image: "ghcr.io/acme/app:1",
        repository: "ghcr.io/acme/app",
        reader: reader(worker),
    };
    let held = stage.vault.begin_lease(request(worker)).await.unwrap();
    let spared = stage.vault.begin_lease(request(other)).await.unwrap();
    let end = stage.time.now() + jiff::SignedDuration::from_secs(60);
    for (lease, rung, not_after) in [
        (held, "signed location", Some(end)),
        (spared, "basic", None),
    ] {
        let renewal = Renewal {
            stamp: Stamp::fresh(1),
            version: 1,
            until: not_after,
            given: Some(Given {
                rung: rung.to_owned(),
                not_after,
            }),
        };
        stage.vault.renew_lease(lease, renewal).await.unwrap();
    }
    stage
        .vault
        .note_given(stage.workspace, &name("TOKEN"), sealed, &reader(worker))
        .await
        .unwrap();
    assert_eq!(stage.vault.evict_leases(worker, "t").await.unwrap(), 1);
    assert_eq!(stage.vault.evict_leases(worker, "t").await.unwrap(), 0);
    let standing = stage
        .vault
        .standing(stage.workspace, &secret_name, Some(held));
    assert_eq!(standing.await.unwrap().called_off, Some(CalledOff::Evicted));
    let live = stage.vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(
        live.iter().map(|row| row.lease_id).collect::<Vec<_>>(),
        [spared]
    );

    check_exposures(&stage, worker, end).await;
}

/// What a program of others was handed is of the secret, and of no worker.
async fn what_was_handed_out_is_known_of_the_secret(engine: Engine) {
    let secret_name = name("a");
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "one").await;
    let given = Given {
        rung: "basic".to_owned(),
        not_after: None,
    };
    let to = HandedOutTo {
        recipient: "docker",
        asked: "ghcr.io",
        given: &given,
    };
    let noted = stage
        .vault
        .note_handed_out(stage.workspace, &secret_name, sealed, &to);
    noted.await.unwrap();
    let of = ExposureOf::Secret(stage.workspace, &secret_name);
    let found = stage.vault.exposures(of, None).await.unwrap();
    let [row] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(row.recipient.as_deref(), Some("docker"));
    assert_eq!(row.repository.as_deref(), Some("ghcr.io"));
    assert_eq!((row.version, &row.worker, row.not_after), (1, &None, None));
    let of = ExposureOf::Worker(WorkerId::new());
    assert_eq!(stage.vault.exposures(of, None).await.unwrap(), []);
}

async fn check_exposures(stage: &Stage, worker: WorkerId, end: Timestamp) {
    let secret_name = name("a");
    let found = stage
        .vault
        .exposures(ExposureOf::Worker(worker), None)
        .await
        .unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|row| (row.rung.as_str(), row.repository.as_deref(), row.not_after))
        .collect();
    let end = Timestamp::from_millisecond(end.as_millisecond()).unwrap();
    let location = ("signed location", Some("ghcr.io/acme/app"));
    assert_eq!(shown[0], ("secret", None, None));
    assert_eq!((shown[1].0, shown[1].1), location);
    assert_eq!(
        shown[1].2.map(Timestamp::as_millisecond),
        Some(end.as_millisecond())
    );
    assert_eq!(shown.len(), 2);
    let of = ExposureOf::Secret(stage.workspace, &secret_name);
    assert_eq!(stage.vault.exposures(of, None).await.unwrap().len(), 3);
    let later = stage.time.now() + jiff::SignedDuration::from_secs(1);
    assert_eq!(stage.vault.exposures(of, Some(later)).await.unwrap(), []);
    let elsewhere = ExposureOf::Secret(ids::WorkspaceId::new(), &secret_name);
    assert_eq!(stage.vault.exposures(elsewhere, None).await.unwrap(), []);
}

async fn what_follows_a_removal_is_remembered(engine: Engine) {
    let secret_name = name("a");
    let stage = Stage::on(engine).await;
    let mut expected = Vec::new();
    for then in AfterRemoval::ALL {
        let sealed = stage.put("a", "one").await;
        let removing = stage
            .vault
            .remove_and(stage.workspace, &secret_name, "t", then);
        removing.await.unwrap();
        if then != AfterRemoval::Continue {
            expected.push((sealed.secret_id, then));
        }
    }
    stage.put("a", "one").await;
    let mut found = stage.again().await.unwrap().called_off().await.unwrap();
    found.sort_by_key(|(_, then)| then.as_str());
    assert_eq!(found, expected);
    let rows = stage.vault.audit_tail(2).await.unwrap();
    assert_eq!(rows[1].detail, "kill");
}
