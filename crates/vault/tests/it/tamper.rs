//! Someone writes to the database file. Each way of doing so has its own refusal.

use credential::ExposeSecret;
use vault::{Damage, VaultError};

use crate::support::{Engine, READER, Stage, name, on_each_engine, put};

on_each_engine!(
    each_tampering_has_its_refusal,
    names_and_workspaces_cannot_be_exchanged,
    an_earlier_head_cannot_be_put_back,
    damaged_secrets_can_be_removed_and_given_anew,
    a_workspace_key_cannot_be_exchanged,
);

/// Two secrets of one workspace, `a` at version 2 with version 1 still leased, and `b`.
async fn stage(engine: Engine) -> Stage {
    let stage = Stage::on(engine).await;
    let first = stage.put("a", "a one").await;
    let request = vault::LeaseRequest {
        workspace: stage.workspace,
        sealed: first,
        image: "ghcr.io/x",
        repository: "ghcr.io/acme/app",
        reader: READER,
    };
    stage.vault.begin_lease(request).await.unwrap();
    stage.put("a", "a two").await;
    stage.put("b", "b one").await;
    stage
}

const A: &str = "(SELECT secret_id FROM secret WHERE name = 'a')";
const B: &str = "(SELECT secret_id FROM secret WHERE name = 'b')";

/// Changes to the row of version 2 of `a`.
const VERSION_ROW: &[(&str, &str, Damage)] = &[
    ("another kind", "kind = 'token'", Damage::Renamed),
    (
        "another scope",
        "scope = 'ghcr.io.evil.example'",
        Damage::Renamed,
    ),
    ("a text beside it", "in_clear = 'x'", Damage::Renamed),
    (
        "cut",
        "sealed = substr(sealed, 1, length(sealed) - 1)",
        Damage::Truncated,
    ),
    (
        "cut in the header",
        "sealed = substr(sealed, 1, 40)",
        Damage::Truncated,
    ),
    ("nothing left", "sealed = zeroblob(0)", Damage::Truncated),
    (
        "a byte more",
        "sealed = CAST(sealed || zeroblob(1) AS BLOB)",
        Damage::Truncated,
    ),
    ("erased", "sealed = NULL", Damage::Missing),
    (
        "erased as if retired",
        "sealed = NULL, retired_at = 1",
        Damage::Missing,
    ),
];

/// Changes to the row that says which version of `a` is current.
const HEAD_ROW: &[(&str, &str, Damage)] = &[
    ("rolled back", "current_version = 1", Damage::RolledBack),
    ("rolled forward", "current_version = 9", Damage::Head),
    ("a forged head", "head_mac = zeroblob(32)", Damage::Head),
];

/// Bytes of the sealed ones, by where they start and how many they are.
const BYTES: &[(&str, u32, u32, Damage)] = &[
    ("another format", 0, 1, Damage::Altered),
    ("another key id", 2, 16, Damage::WrongKey),
    ("another salt", 70, 32, Damage::Altered),
    ("another nonce", 102, 12, Damage::Altered),
    ("another ciphertext", 118, 2, Damage::Altered),
];

fn tamperings() -> Vec<(&'static str, String, Damage)> {
    let row = format!("secret_id = {A} AND version = 2");
    let set = |what: &str| format!("UPDATE secret_version SET {what} WHERE {row}");
    let other = |secret: &str| {
        let of = format!("secret_id = {secret} AND version = 1");
        set(&format!(
            "sealed = (SELECT sealed FROM secret_version WHERE {of})"
        ))
    };
    let mut all = vec![
        ("another secret's bytes", other(B), Damage::Swapped),
        ("an older version's bytes", other(A), Damage::Swapped),
        (
            "no row",
            format!("DELETE FROM secret_version WHERE {row}"),
            Damage::Missing,
        ),
    ];
    let rows = VERSION_ROW.iter();
    all.extend(rows.map(|(name, what, damage)| (*name, set(what), *damage)));
    for (name, at, length, damage) in BYTES {
        all.push((name, set(&splice(*at, *length)), *damage));
    }
    let head = |what: &str| format!("UPDATE secret SET {what} WHERE secret_id = {A}");
    let rows = HEAD_ROW.iter();
    all.extend(rows.map(|(name, what, damage)| (*name, head(what), *damage)));
    all
}

async fn each_tampering_has_its_refusal(engine: Engine) {
    let all = tamperings();
    assert_eq!(all.len(), 20);
    for (what, statement, damage) in all {
        let stage = stage(engine).await;
        stage.sql(&statement).await;
        check_refused(&stage, what, "a", damage).await;
        let sound = stage.open("b", None).await.unwrap();
        assert_eq!(
            sound.plaintext.expose_secret(),
            "b one",
            "{what}: the other secret"
        );
    }
}

/// Puts other bytes over part of the sealed ones.
fn splice(at: u32, length: u32) -> String {
    let (before, after) = (at, at + length + 1);
    format!(
        "sealed = CAST(substr(sealed, 1, {before}) || zeroblob({length})
                       || substr(sealed, {after}) AS BLOB)"
    )
}

async fn check_refused(stage: &Stage, what: &str, secret: &str, damage: Damage) {
    let error = stage.open(secret, None).await.expect_err(what);
    let VaultError::Damaged { damage: found, .. } = error else {
        panic!("{what}: {error}");
    };
    assert_eq!(found, damage, "{what}");
    assert_eq!(error.kind(), "damaged");
    assert!(error.hint().is_some(), "{what}");
    let report = stage.vault.verify(None).await.unwrap();
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(kinds.contains(&damage.as_str()), "{what}: {kinds:?}");
    let denied = &stage.vault.audit_tail(1).await.unwrap()[0];
    assert_eq!(
        (denied.action.as_str(), denied.subject.as_str()),
        ("deny", secret),
        "{what}"
    );
}

async fn names_and_workspaces_cannot_be_exchanged(engine: Engine) {
    let stage = stage(engine).await;
    let other = ids::WorkspaceId::new();
    put(&stage.vault, other, "theirs", "their secret")
        .await
        .unwrap();
    stage
        .sql("UPDATE secret SET name = 'c' WHERE name = 'a'")
        .await;
    check_refused(&stage, "another name", "c", Damage::Renamed).await;
    let stolen = format!(
        "UPDATE secret SET workspace = '{}' WHERE name = 'theirs'",
        stage.workspace
    );
    stage.sql(&stolen).await;
    let error = stage.open("theirs", None).await.unwrap_err();
    let damage = Damage::WrongKey;
    assert!(
        matches!(error, VaultError::Damaged { damage: found, .. } if found == damage),
        "{error}"
    );
}

/// A whole row of an earlier state, its authentic head included.
async fn an_earlier_head_cannot_be_put_back(engine: Engine) {
    let stage = Stage::on(engine).await;
    let sealed = stage.put("a", "leaked").await;
    let request = vault::LeaseRequest {
        workspace: stage.workspace,
        sealed,
        image: "ghcr.io/x",
        repository: "ghcr.io/acme/app",
        reader: READER,
    };
    stage.vault.begin_lease(request).await.unwrap();
    stage
        .sql("CREATE TABLE earlier AS SELECT * FROM secret")
        .await;
    stage.put("a", "fresh").await;
    let put_back = "UPDATE secret SET current_version = (SELECT current_version FROM earlier),
                                      head_mac = (SELECT head_mac FROM earlier)";
    stage.sql(put_back).await;
    check_refused(&stage, "an earlier head", "a", Damage::RolledBack).await;
    // Cutting the audit log as well is seen by the log itself.
    stage
        .sql("DELETE FROM audit WHERE sequence >= (SELECT sequence FROM audit WHERE version = 2)")
        .await;
    let error = stage.open("a", None).await.unwrap_err();
    assert!(matches!(error, VaultError::AuditDamaged { .. }), "{error}");
}

async fn damaged_secrets_can_be_removed_and_given_anew(engine: Engine) {
    let stage = stage(engine).await;
    stage
        .sql(&format!(
            "UPDATE secret SET current_version = 1 WHERE secret_id = {A}"
        ))
        .await;
    let error = put(&stage.vault, stage.workspace, "a", "a three")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::Damaged { .. }), "{error}");
    stage
        .vault
        .remove(stage.workspace, &name("a"), "t")
        .await
        .unwrap();
    stage.put("a", "a four").await;
    let opened = stage.open("a", None).await.unwrap();
    assert_eq!(opened.plaintext.expose_secret(), "a four");
}

async fn a_workspace_key_cannot_be_exchanged(engine: Engine) {
    let stage = stage(engine).await;
    let other = ids::WorkspaceId::new();
    put(&stage.vault, other, "theirs", "their secret")
        .await
        .unwrap();
    let exchange = format!(
        "UPDATE workspace_key SET (key_id, wrapped) =
            (SELECT key_id, wrapped FROM workspace_key WHERE workspace = '{other}')
         WHERE workspace = '{}'",
        stage.workspace
    );
    stage.sql(&exchange).await;
    // A process that knows the key already is not fooled and not hindered; the next one sees it.
    let again = stage.again().await.unwrap();
    let error = again
        .open_secret(stage.workspace, &name("a"), None, "t")
        .await
        .unwrap_err();
    assert!(
        matches!(error, VaultError::WorkspaceKeyDamaged { .. }),
        "{error}"
    );
    let report = again.verify(None).await.unwrap();
    assert!(
        report.findings.iter().any(|finding| finding.kind == "key"),
        "{report:?}"
    );
}
