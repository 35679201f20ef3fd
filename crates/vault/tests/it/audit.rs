//! The audit log: what is in it, and that nothing can be taken out of it.

use tokio::sync::oneshot;
use vault::{AuditAction, AuditHead, Noted, VaultError};

use crate::support::{Engine, READER, Stage, name, on_each_engine, put, renewal};

on_each_engine!(
    everything_is_in_the_log,
    nothing_can_be_changed_taken_out_or_added,
    texts_are_bounded_and_have_no_zero,
    a_cut_log_opens_nothing,
    a_noted_head_shows_that_the_file_was_put_back,
    concurrent_opens_each_have_a_row,
    cancelled_opens_do_not_lose_the_rows_of_others,
    who_reads_sees_one_state_while_others_write,
);

async fn everything_is_in_the_log(engine: Engine) {
    let stage = Stage::on(engine).await;
    let first = stage.put("a", "one").await;
    let lease = vault::LeaseRequest {
        workspace: stage.workspace,
        sealed: first,
        image: "ghcr.io/x",
        repository: "ghcr.io/acme/app",
        reader: READER,
    };
    let lease = stage.vault.begin_lease(lease).await.unwrap();
    stage.open("a", None).await.unwrap();
    stage.open("nothing", None).await.unwrap_err();
    stage.put("a", "two").await;
    stage.vault.renew_lease(lease, renewal(1, 2)).await.unwrap();
    stage.vault.end_lease(lease).await.unwrap();
    stage.vault.rotate_root_key(None, "t").await.unwrap();
    stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap();
    let mut rows = stage.vault.audit_tail(100).await.unwrap();
    rows.reverse();
    let actions: Vec<_> = rows.iter().map(|row| row.action.as_str()).collect();
    let expected = [
        "create",
        "seal",
        "lease-begin",
        "open",
        "deny",
        "seal",
        "lease-move",
        "retire",
        "lease-end",
        "rotate",
        "remove",
    ];
    assert_eq!(actions, expected);
    assert_eq!(
        (rows[3].actor.as_str(), rows[3].subject.as_str()),
        ("a test", "a")
    );
    assert_eq!(rows[3].version, Some(1));
    let sequences: Vec<_> = rows.iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, (1..=11).collect::<Vec<_>>());
    let report = stage.vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.head.unwrap().sequence, 11);
}

async fn nothing_can_be_changed_taken_out_or_added(engine: Engine) {
    let table = [
        "UPDATE audit SET actor = 'somebody else' WHERE sequence = 3",
        "UPDATE audit SET at = at + 1 WHERE sequence = 3",
        "UPDATE audit SET version = NULL WHERE sequence = 3",
        "UPDATE audit SET detail = subject, subject = detail WHERE sequence = 3",
        "UPDATE audit SET mac = zeroblob(32) WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 1",
        "DELETE FROM audit WHERE sequence >= 5",
        "DELETE FROM audit",
        "UPDATE audit SET sequence = 100 WHERE sequence = 3;
         UPDATE audit SET sequence = 3 WHERE sequence = 4;
         UPDATE audit SET sequence = 4 WHERE sequence = 100",
        "INSERT INTO audit SELECT 100, at, actor, action, workspace, secret_id, version, subject,
                                  detail, mac FROM audit WHERE sequence = 6",
        "DELETE FROM audit WHERE sequence = 6;
         UPDATE vault SET head_sequence = 5, head_mac = (SELECT mac FROM audit WHERE sequence = 5)",
        "UPDATE vault SET head_seal = zeroblob(32)",
    ];
    for statements in table {
        let stage = Stage::on(engine).await;
        stage.put("a", "one").await;
        for _ in 0..4 {
            stage.open("a", None).await.unwrap();
        }
        stage.sql(statements).await;
        let report = stage.vault.verify(None).await.unwrap();
        let audit = report
            .findings
            .iter()
            .filter(|finding| finding.kind == "audit");
        assert_eq!((audit.count(), report.head), (1, None), "{statements}");
    }
}

async fn texts_are_bounded_and_have_no_zero(engine: Engine) {
    let stage = Stage::on(engine).await;
    let long = "x".repeat(2000);
    let about = Noted {
        workspace: None,
        subject: "a\0b",
        detail: &long,
    };
    let noted = stage.vault.note(AuditAction::Invite, "\0", about);
    noted.await.unwrap();
    let row = &stage.vault.audit_tail(1).await.unwrap()[0];
    assert_eq!(
        (row.actor.as_str(), row.subject.as_str()),
        ("\u{fffd}", "a\u{fffd}b")
    );
    assert_eq!(row.detail, long[..1024]);
    assert!(stage.vault.verify(None).await.unwrap().is_sound());
}

/// A log whose end is damaged is not written on, so nothing is opened either.
async fn a_cut_log_opens_nothing(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    stage.open("a", None).await.unwrap();
    stage.sql("DELETE FROM audit WHERE sequence = 3").await;
    let error = stage.open("a", None).await.unwrap_err();
    assert!(matches!(error, VaultError::AuditDamaged { .. }), "{error}");
    assert!(
        error.to_string().contains("ends at row 2 and had 3 rows"),
        "{error}"
    );
}

/// The whole file put back to an older copy is only seen by a head that was noted elsewhere.
async fn a_noted_head_shows_that_the_file_was_put_back(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    let early = stage.vault.verify(None).await.unwrap().head.unwrap();
    stage.open("a", None).await.unwrap();
    let late = stage.vault.verify(None).await.unwrap().head.unwrap();
    for text in [
        "",
        "1",
        "1:",
        "0:00",
        "1:zz",
        &format!("+{early}"),
        &format!("{early} "),
    ] {
        assert!(text.parse::<AuditHead>().is_err(), "{text:?}");
    }
    for noted in [&early, &late] {
        assert_eq!(noted.to_string().parse(), Ok(noted.clone()));
        assert!(stage.vault.verify(Some(noted)).await.unwrap().is_sound());
    }
    let future = AuditHead {
        sequence: late.sequence + 1,
        mac: late.mac.clone(),
    };
    let other = AuditHead {
        sequence: early.sequence,
        mac: late.mac,
    };
    for noted in [future, other] {
        let report = stage.vault.verify(Some(&noted)).await.unwrap();
        assert!(!report.is_sound(), "{noted:?}");
    }
}

/// Concurrent opens share commits and each has its row.
async fn concurrent_opens_each_have_a_row(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    let opens = (0..200).map(|number| {
        let (vault, workspace) = (stage.vault.clone(), stage.workspace);
        tokio::spawn(async move {
            let purpose = format!("open {number}");
            vault
                .open_secret(workspace, &name("a"), None, &purpose)
                .await
                .map(|_| ())
        })
    });
    for open in opens.collect::<Vec<_>>() {
        open.await.unwrap().unwrap();
    }
    let rows = stage.vault.audit_tail(1000).await.unwrap();
    let mut actors: Vec<_> = rows
        .iter()
        .filter(|row| row.action == "open")
        .map(|row| row.actor.clone())
        .collect();
    actors.sort();
    let mut expected: Vec<_> = (0..200).map(|number| format!("open {number}")).collect();
    expected.sort();
    assert_eq!(actors, expected);
    assert!(stage.vault.verify(None).await.unwrap().is_sound());
}

/// What others write meanwhile does not look like damage, nor like a version that has retired.
async fn who_reads_sees_one_state_while_others_write(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    let writer = stage.again().await.unwrap();
    let workspace = stage.workspace;
    let (first, is_first_in) = oneshot::channel();
    let writing = tokio::spawn(async move {
        put(&writer, workspace, "a", "the first").await.unwrap();
        first.send(()).unwrap();
        for number in 0_u64.. {
            let value = format!("value {number}");
            put(&writer, workspace, "a", &value).await.unwrap();
        }
    });
    is_first_in.await.unwrap();
    for _ in 0..20 {
        let report = stage.vault.verify(None).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        stage.open("a", None).await.unwrap();
    }
    assert!(!writing.is_finished(), "it wrote all the time");
    writing.abort();
}

/// A caller that goes away takes nobody's row with it.
async fn cancelled_opens_do_not_lose_the_rows_of_others(engine: Engine) {
    let stage = Stage::on(engine).await;
    stage.put("a", "one").await;
    let opens: Vec<_> = (0..100)
        .map(|number| {
            let (vault, workspace) = (stage.vault.clone(), stage.workspace);
            tokio::spawn(async move {
                let purpose = format!("open {number}");
                vault
                    .open_secret(workspace, &name("a"), None, &purpose)
                    .await
                    .map(|_| ())
            })
        })
        .collect();
    for (number, open) in opens.iter().enumerate() {
        if number % 3 == 0 {
            open.abort();
        }
    }
    let mut finished = Vec::new();
    for (number, open) in opens.into_iter().enumerate() {
        if let Ok(opened) = open.await {
            opened.unwrap();
            finished.push(format!("open {number}"));
        }
    }
    let rows = stage.vault.audit_tail(1000).await.unwrap();
    for actor in finished {
        assert!(rows.iter().any(|row| row.actor == actor), "{actor}");
    }
    assert!(stage.vault.verify(None).await.unwrap().is_sound());
}
