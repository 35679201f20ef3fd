//! A root key in the transit engine of `HashiCorp` Vault.

use dial::DialPolicy;
use ids::WorkspaceId;
use key_service::{ServiceSettings, TransitSettings};
use registry_sim::{Authority, TransitApi, TransitFault};
use vault::{KeyServiceError as Error, VaultError};

use crate::contract;
use crate::support::{Stage, given, put};

const TOKEN: &str = "hvs.canary";

struct Transit {
    service: TransitApi,
    stage: Stage,
}

impl Transit {
    async fn start() -> Self {
        let authority = Authority::new();
        let service = TransitApi::start(&authority, TOKEN).await;
        let directory = tempfile::tempdir().expect("a directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).expect("written");
        let token = given(&directory.path().join("token"), &format!("{TOKEN}\n"));
        let stage = Stage {
            directory,
            settings: ServiceSettings {
                aws_kms: None,
                vault_transit: Some(TransitSettings {
                    token,
                    namespace: None,
                    ca_file: Some(ca_file),
                }),
                dial: DialPolicy::default(),
            },
        };
        Self { service, stage }
    }

    fn source(&self, path: &str) -> String {
        format!("vault-transit:https://{}/{path}", self.service.host())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_transit_keep_the_contract() {
    let transit = Transit::start().await;
    for path in ["transit/one", "team/a/transit/two"] {
        transit.service.rotate_key(path);
    }
    let (one, two) = (
        transit.source("transit/one"),
        transit.source("team/a/transit/two"),
    );
    contract::check(&transit.stage, &one, &two).await;
    assert_eq!(transit.service.keys().len(), 2, "nothing makes a key");
}

/// Where the service has made a newer version, a rotation goes to it; the old one may go then.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_goes_to_the_newer_version_of_a_key() {
    let transit = Transit::start().await;
    let (service, stage) = (&transit.service, &transit.stage);
    service.rotate_key("transit/key");
    let source = transit.source("transit/key");
    let vault = stage.open(&source).await.expect("a new vault");
    put(&vault, WorkspaceId::new(), "value").await;
    let error = vault
        .rotate_root_key(None, "t")
        .await
        .expect_err("nothing newer");
    assert!(matches!(error, VaultError::RootKeySame { .. }), "{error}");
    service.rotate_key("transit/key");
    put(&vault, WorkspaceId::new(), "under the old version still").await;
    let rotation = vault.rotate_root_key(None, "t").await.expect("rotated");
    assert_eq!(rotation.workspaces, 2);
    vault.close().await;
    service.retire_before("transit/key", 2);
    let vault = stage.open(&source).await.expect("the vault");
    put(&vault, WorkspaceId::new(), "under the new version").await;
    assert!(vault.verify(None).await.expect("verified").is_sound());
    vault.close().await;
    service.rotate_key("transit/key");
    service.retire_before("transit/key", 3);
    let (error, _) = stage.refused(&source).await;
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(
        error.to_string().contains("min_decryption_version"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_again_for_each_question() {
    let transit = Transit::start().await;
    let (service, stage) = (&transit.service, &transit.stage);
    service.rotate_key("transit/key");
    let source = transit.source("transit/key");
    let vault = stage.open(&source).await.expect("a new vault");
    service.know_token("hvs.another");
    let (error, _) = stage.refused(&source).await;
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    given(&stage.path("token"), "hvs.another");
    put(&vault, WorkspaceId::new(), "value").await;
    for (text, says) in [
        ("", "holds no token"),
        ("hvs.can\u{7}ary", "holds no token"),
    ] {
        given(&stage.path("token"), text);
        let (error, _) = stage.refused(&source).await;
        assert!(matches!(error, Error::BadCredential { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_or_binds_nothing_wraps_nothing() {
    let transit = Transit::start().await;
    let (service, stage) = (&transit.service, &transit.stage);
    let source = transit.source("transit/key");
    let (error, hint) = stage.refused(&source).await;
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(hint.contains("nothing makes another one"), "{hint}");
    assert_eq!(service.keys().len(), 0, "nothing makes a key");
    service.rotate_key("transit/key");
    for kind in ["aes256-cbc", "rsa-4096", "ed25519", ""] {
        service.set_kind("transit/key", kind);
        let (error, _) = stage.refused(&source).await;
        assert!(matches!(error, Error::Unusable { .. }), "{kind}: {error}");
    }
    service.set_kind("transit/key", "chacha20-poly1305");
    stage.open(&source).await.expect("a new vault");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_transit_are_told_apart() {
    type Is = fn(&Error) -> bool;
    let transit = Transit::start().await;
    let (service, stage) = (&transit.service, &transit.stage);
    service.rotate_key("transit/key");
    let source = transit.source("transit/key");
    let body = |text: &str| TransitFault::Body(text.as_bytes().to_vec());
    let refuses = TransitFault::Refuses;
    let unusable: Is = |error| matches!(error, Error::Unusable { .. });
    let unreachable: Is = |error| matches!(error, Error::Unreachable { .. });
    let denied: Is = |error| matches!(error, Error::Denied { .. });
    let sealed: Is = |error| matches!(error, Error::Sealed { .. });
    let limited: Is = |error| matches!(error, Error::RateLimited { .. });
    let missing: Is = |error| matches!(error, Error::Missing { .. });
    let bad: Is = |error| matches!(error, Error::BadCredential { .. });
    let state = r#"{"data":{"type":"aes256-gcm96","latest_version":1}}"#;
    for (fault, is_right, asked) in [
        (refuses(403, "permission denied"), denied, 1),
        (refuses(403, "permission denied, invalid token"), bad, 1),
        (refuses(503, "Vault is sealed"), sealed, 1),
        (refuses(404, ""), missing, 1),
        (refuses(429, "rate limit quota exceeded"), limited, 3),
        (refuses(500, "internal error"), unreachable, 3),
        (refuses(502, "<html>"), unreachable, 3),
        (refuses(307, ""), unusable, 1),
        (refuses(400, "canary"), unusable, 1),
        (body("<html>"), unusable, 1),
        (body(""), unusable, 1),
        (
            body(r#"{"data":{"type":"aes256-gcm96","latest_version":-1}}"#),
            unusable,
            1,
        ),
        (
            body(r#"{"data":{"type":"aes256-gcm96","latest_version":0}}"#),
            unusable,
            1,
        ),
        (
            body(r#"{"data":{"type":"aes256-gcm96","latest_version":4000000000}}"#),
            unusable,
            1,
        ),
        // That of one question is no answer to the next.
        (body(state), unusable, 3),
        (TransitFault::Body(vec![b'x'; 10 << 20]), unusable, 1),
        (TransitFault::Body(vec![0xff; 100]), unusable, 1),
    ] {
        service.set_fault(Some(fault.clone()));
        let before = service.counter().read().requests;
        let (error, _) = stage.refused(&source).await;
        let fault = format!("{fault:.80?}");
        assert!(is_right(&error), "{fault}: {error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        let after = service.counter().read().requests;
        assert_eq!(after - before, asked, "{fault}");
    }
    service.set_fault(None);
    let vault = stage.open(&source).await.expect("a new vault");
    service.set_outage(true);
    let (error, _) = stage.refused(&source).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    service.set_outage(false);
    put(&vault, WorkspaceId::new(), "value").await;
}
