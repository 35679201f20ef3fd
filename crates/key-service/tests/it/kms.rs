//! A root key in AWS KMS.

use dial::DialPolicy;
use key_service::{KmsSettings, ServiceSettings};
use registry_sim::{Authority, EcrApi, EcrFault, Moto};
use vault::KeyServiceError as Error;

use crate::contract;
use crate::support::{Stage, given};

const KEYS: &str = "aws_access_key_id = AKID\naws_secret_access_key = canary\n";
const KEY: &str = "aws-kms:arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef";

fn stage(host: &str, authority: &Authority) -> Stage {
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).expect("written");
    let credentials = given(&directory.path().join("keys"), KEYS);
    Stage {
        directory,
        settings: ServiceSettings {
            aws_kms: Some(KmsSettings {
                credentials,
                endpoint: Some(format!("https://{host}")),
                ca_file: Some(ca_file),
            }),
            vault_transit: None,
            dial: DialPolicy::default(),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_moto_keep_the_contract() {
    let authority = Authority::new();
    let moto = Moto::start_tls(&authority);
    let stage = stage(moto.host(), &authority);
    let key = || format!("aws-kms:{}", moto.new_kms_key());
    contract::check(&stage, &key(), &key()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_kms_does_not_have_is_missing_and_none_is_made() {
    let authority = Authority::new();
    let moto = Moto::start_tls(&authority);
    let stage = stage(moto.host(), &authority);
    let arn = moto.new_kms_key();
    let gone = format!("aws-kms:{}0000", &arn[..arn.len() - 4]);
    let (error, hint) = stage.refused(&gone).await;
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(hint.contains("nothing makes another one"), "{hint}");
    let keys = moto.kms("len(kms.list_keys()['Keys'])");
    assert_eq!(keys, "1", "nothing makes a key");
}

/// A service that does as it is told: each of its answers is one thing for the operator to do.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_kms_are_told_apart() {
    type Is = fn(&Error) -> bool;
    let authority = Authority::new();
    let service = EcrApi::start(&authority, ("AKID", "canary")).await;
    service.counter().watch_for("canary");
    let stage = stage(service.host(), &authority);
    let arn = KEY.strip_prefix("aws-kms:").expect("an ARN");
    let answer = |field: &str| format!(r#"{{"KeyId":"{arn}","{field}":"AAAA"}}"#);
    let body = |text: &str| EcrFault::Body(text.to_owned());
    let denied: Is = |error| matches!(error, Error::Denied { .. });
    let disabled: Is = |error| matches!(error, Error::Disabled { .. });
    let unusable: Is = |error| matches!(error, Error::Unusable { .. });
    let unreachable: Is = |error| matches!(error, Error::Unreachable { .. });
    let bad: Is = |error| matches!(error, Error::BadCredential { .. });
    let limited: Is = |error| matches!(error, Error::RateLimited { .. });
    for (fault, is_right, asked) in [
        (EcrFault::Named("AccessDeniedException"), denied, 1),
        (EcrFault::Named("DisabledException"), disabled, 1),
        (EcrFault::Named("KMSInvalidStateException"), disabled, 1),
        (EcrFault::Named("UnrecognizedClientException"), bad, 1),
        (EcrFault::Named("ExpiredTokenException"), bad, 1),
        (EcrFault::Named("ThrottlingException"), limited, 3),
        (EcrFault::Named("OtherException"), unusable, 1),
        (EcrFault::Limited(1), limited, 3),
        (EcrFault::Status(500), unreachable, 3),
        (EcrFault::Status(503), unreachable, 3),
        (EcrFault::Status(302), unusable, 1),
        (body("<html>"), unusable, 1),
        (body(""), unusable, 1),
        (body(&answer("Plaintext")), unusable, 1),
        (body(&"x".repeat(10 << 20)), unusable, 1),
        (
            body(
                r#"{"KeyId":"arn:aws:kms:eu-west-1:123456789012:key/other","CiphertextBlob":"AAAA"}"#,
            ),
            unusable,
            1,
        ),
        // Asked to open it again, it answers the same, which is no plaintext.
        (body(&answer("CiphertextBlob")), unusable, 2),
    ] {
        service.set_fault(Some(fault.clone()));
        let before = service.counter().read().requests;
        let (error, _) = stage.refused(KEY).await;
        let fault = format!("{fault:.60?}");
        assert!(is_right(&error), "{fault}: {error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        let after = service.counter().read().requests;
        assert_eq!(after - before, asked, "{fault}");
    }
    // The secret key signs, and arrives nowhere.
    assert_eq!(service.counter().sightings(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_gets_nothing() {
    let service = EcrApi::start(&Authority::new(), ("AKID", "canary")).await;
    let stage = stage(service.host(), &Authority::new());
    let (error, hint) = stage.refused(KEY).await;
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert!(hint.contains("ca_file"), "{hint}");
    assert_eq!(service.counter().read().requests, 0);
}
