//! Keys of KMS that wrap, against `moto`.

use aws_api::{AwsError, Keys, Kms};
use dial::{AddressPolicy, DialPolicy, Dialer, HttpClient, TlsProfile};
use jiff::Timestamp;
use registry_sim::{Authority, Moto};

const PLAIN: &[u8] = b"canary of 64 bytes canary of 64 bytes canary of 64 bytes canary.";
const CONTEXT: [(&str, &str); 2] = [("vault", "1"), ("key", "2")];

fn keys() -> Keys {
    Keys {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "secret".to_owned().into(),
        session_token: None,
    }
}

fn client(authority: &Authority) -> HttpClient {
    let tls = TlsProfile {
        extra_ca_pem: vec![authority.pem().as_bytes().to_vec()],
        plain_http: false,
    };
    let addresses = AddressPolicy::for_host("127.0.0.1");
    let dialer = Dialer::new(DialPolicy::default());
    dialer.client(&tls, &addresses).expect("a client")
}

#[tokio::test]
async fn moto_opens_what_it_wrapped_for_the_same_key_and_context_alone() {
    let authority = Authority::new();
    let moto = Moto::start_tls(&authority);
    let (key, other) = (moto.new_kms_key(), moto.new_kms_key());
    let http = client(&authority);
    let way = (&http, &Timestamp::now as _);
    let kms = |key| Kms {
        host: moto.host(),
        region: "eu-west-1",
        key,
    };
    let (keys, kms) = (keys(), &kms);
    let sealed = kms(&key).encrypt(way, &keys, &CONTEXT, PLAIN).await;
    let sealed = sealed.expect("wrapped");
    assert!(!sealed.windows(6).any(|bytes| bytes == b"canary"));
    let open = async |key, context: &[(&str, &str)], sealed: &[u8]| {
        let opened = kms(key).decrypt(way, &keys, context, sealed).await;
        opened.expect("an answer").map(|plain| plain.to_vec())
    };
    let opened = open(&key, &CONTEXT, &sealed).await;
    assert_eq!(opened.as_deref(), Some(PLAIN));
    let mut flipped = sealed.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    for (what, key, context, sealed) in [
        (
            "context",
            &key,
            &[("vault", "2"), ("key", "2")][..],
            &sealed,
        ),
        ("less context", &key, &CONTEXT[..1], &sealed),
        ("bit", &key, &CONTEXT, &flipped),
    ] {
        assert_eq!(open(key, context, sealed).await, None, "{what}");
    }
    // AWS says that the key is the wrong one, and moto that it is not allowed.
    let opened = kms(&other).decrypt(way, &keys, &CONTEXT, &sealed).await;
    assert!(!matches!(opened, Ok(Some(_))), "{opened:?}");

    let gone = format!("{}0000", &key[..key.len() - 4]);
    let error = kms(&gone).encrypt(way, &keys, &CONTEXT, PLAIN).await;
    let error = error.expect_err("a refusal");
    let AwsError::Refused { name, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(name, "NotFoundException", "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}
