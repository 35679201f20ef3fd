//! What stands in the clear beside sealed bytes, and what is sealed of the installation itself.

use credential::ExposeSecret;
use ids::SecretId;
use tokio::task::JoinSet;
use vault::{Damage, NewSecret, SealedVersion, Vault, VaultError, installation};

use crate::support::{Engine, Stage, name, on_each_engine, secret};

on_each_engine!(
    what_stands_in_the_clear_has_no_sealed_byte_and_opens_as_it_was,
    what_stands_in_the_clear_cannot_be_changed,
    of_many_who_seal_what_follows_one_is_first,
);

/// Header and tag: what the sealing of nothing takes.
const SEALED_NOTHING_BYTES: i64 = 118 + 16;

async fn put_in_clear(stage: &Stage, text: &str) -> SealedVersion {
    let (name, nothing) = (name("a"), secret(""));
    let new = NewSecret {
        name: &name,
        kind: "aws",
        scope: "r.example",
        plaintext: &nothing,
        in_clear: Some(text),
    };
    let put = stage.vault.put(stage.workspace, new, "t").await;
    put.expect("a version")
}

async fn what_stands_in_the_clear_has_no_sealed_byte_and_opens_as_it_was(engine: Engine) {
    let stage = Stage::on(engine).await;
    put_in_clear(&stage, "the first").await;
    let second = put_in_clear(&stage, "the second").await;
    assert_eq!(second.version, 2);
    let opened = stage.open("a", None).await.unwrap();
    assert_eq!(opened.in_clear.as_deref(), Some("the second"));
    assert_eq!(opened.plaintext.expose_secret(), "");
    let lengths = stage
        .number("SELECT length(sealed) FROM secret_version WHERE version = 2")
        .await;
    assert_eq!(lengths, SEALED_NOTHING_BYTES);
    // With the version that it is of, it goes.
    let left = stage
        .number("SELECT count(*) FROM secret_version WHERE in_clear IS NOT NULL")
        .await;
    assert_eq!(left, 1);
    stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap();
    let left = stage
        .number("SELECT count(*) FROM secret_version WHERE in_clear IS NOT NULL")
        .await;
    assert_eq!(left, 0);
}

async fn what_stands_in_the_clear_cannot_be_changed(engine: Engine) {
    let stage = Stage::on(engine).await;
    put_in_clear(&stage, "the role of one account").await;
    let report = stage.vault.verify(None).await.unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    for text in ["'the role of another'", "NULL", "''"] {
        stage
            .sql(&format!("UPDATE secret_version SET in_clear = {text}"))
            .await;
        let error = stage.open("a", None).await.unwrap_err();
        let is_renamed = matches!(
            error,
            VaultError::Damaged {
                damage: Damage::Renamed,
                ..
            }
        );
        assert!(is_renamed, "{text}: {error}");
        let report = stage.vault.verify(None).await.unwrap();
        assert_eq!(report.findings.len(), 1, "{text}: {report:?}");
    }
}

async fn of_many_who_seal_what_follows_one_is_first(engine: Engine) {
    let stage = Stage::on(engine).await;
    let other = stage.again().await.unwrap();
    let put = |vault: Vault, after: Option<SealedVersion>, text: String| async move {
        let (name, text) = (name("keys"), secret(&text));
        let new = NewSecret {
            name: &name,
            kind: "keys",
            scope: "",
            plaintext: &text,
            in_clear: None,
        };
        let put = vault.put_after(installation(), after, new, "t").await;
        put.unwrap()
    };
    let mut current = None;
    for version in 0..3 {
        let vaults = [&stage.vault, &other].into_iter().cycle().take(8);
        let putting = vaults
            .enumerate()
            .map(|(at, vault)| put(vault.clone(), current, format!("{version} {at}")));
        let all = putting.collect::<JoinSet<_>>().join_all().await;
        let done: Vec<_> = all.into_iter().flatten().collect();
        assert_eq!(done.len(), 1, "{done:?}");
        assert_eq!(done[0].version, version + 1);
        current = Some(done[0]);
    }
    let late = current.map(|current| SealedVersion {
        version: 1,
        ..current
    });
    let another = current.map(|current| SealedVersion {
        secret_id: SecretId::new(),
        ..current
    });
    for after in [None, late, another] {
        assert_eq!(put(other.clone(), after, "late".to_owned()).await, None);
    }
    // It is no workspace.
    assert_eq!(stage.vault.workspaces().await.unwrap(), []);
}
