//! Frames that are right, and everything else that may come over a socket.

use std::path::Path;
use std::time::Duration;

use credential::ExposeSecret;
use credential::auth::{AuthError, AuthScheme, RegistryAuth};
use dial::DialPolicy;
use frames::LENGTH_BYTES;
use image_fs::{CacheLimits, MAX_TRACE_ENTRIES, Program, SpanCache, TraceEntry};
use layer_index::{Codec, Header, IndexSummary};
use proptest::prelude::*;
use reference::Registry;

use super::messages::DenialKind;
use super::*;
use crate::request::{IdShift, LayerRef, MountRequest, ServerRequest};

fn summary() -> IndexSummary {
    let digest = format!("sha256:{}", "ab".repeat(32));
    IndexSummary {
        header: Header {
            layer_digest: digest.clone(),
            diff_id: digest,
            codec: Codec::Gzip,
            compressed_size: 1 << 40,
            uncompressed_size: 1 << 40,
            entry_count: 7,
            span_count: 9,
        },
        root: [7; 32],
        file_bytes: 1000,
        memory_bytes: 4000,
    }
}

fn request(cache: &Path) -> MountRequest {
    let mut dial = DialPolicy {
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        ..DialPolicy::default()
    };
    dial.proxies.https = "http://user:pass\"word@proxy:3128".to_owned();
    MountRequest {
        mountpoint: std::path::PathBuf::from("/run/a\nb"),
        registry: Registry::parse("registry.example:5000").unwrap(),
        repository: "acme/fn".to_owned(),
        plain_http: true,
        ca_pem: Some(b"-----BEGIN".to_vec()),
        dial,
        layers: vec![LayerRef {
            index_path: "/var/lib/index".into(),
            index: summary(),
        }],
        origin: "registry.example:5000/acme/fn over plain http".to_owned(),
        cache: SpanCache::open(cache, CacheLimits { max_bytes: 5 << 30 }).unwrap(),
        has_shared_cache: true,
        id_shift: Some(IdShift {
            base: 100_000,
            count: 65_536,
        }),
        read_deadline: Duration::from_millis(1500),
        foretold: vec![TraceEntry {
            layer: 3,
            span: 70_000,
            at_ms: 0,
        }],
        program: Some(Program {
            name: "\u{1}python3".repeat(300),
            working_dir: "/srv".to_owned(),
            path: "/usr/bin:/bin".to_owned(),
            library_path: String::new(),
        }),
        start_lasts: Duration::from_secs(30),
        fill_when_idle: true,
    }
}

fn round_trip(message: &ToChild) -> ToChild {
    let frame = encode(message).unwrap();
    assert_eq!(
        frame.len() - LENGTH_BYTES,
        u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize
    );
    PROTOCOL.decode(&frame[LENGTH_BYTES..]).unwrap()
}

#[test]
fn a_mount_request_arrives_as_it_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let request = request(directory.path());
    let ToChild::Mount(wire) = round_trip(&ToChild::Mount(Box::new((&request).into()))) else {
        panic!("another message");
    };
    let arrived = ServerRequest::try_from(*wire).unwrap();
    let sent = ServerRequest {
        registry: request.registry,
        repository: request.repository,
        plain_http: request.plain_http,
        ca_pem: request.ca_pem,
        dial: request.dial,
        layers: vec![(&summary()).into()],
        has_shared_cache: request.has_shared_cache,
        cache_limits: CacheLimits { max_bytes: 5 << 30 },
        id_shift: request.id_shift,
        read_deadline: request.read_deadline,
        foretold: request.foretold,
        program: request.program,
        start_lasts: request.start_lasts,
        fill_when_idle: request.fill_when_idle,
    };
    assert_eq!(format!("{arrived:?}"), format!("{sent:?}"));
    assert_eq!(arrived.dial.proxies.https, sent.dial.proxies.https);
}

#[test]
fn an_auth_arrives_and_its_buffer_did_not_grow() {
    let schemes = [
        AuthScheme::Anonymous,
        AuthScheme::Bearer("x".repeat(20_000).into()),
        AuthScheme::Basic {
            username: "u\"ser".to_owned(),
            password: "p\\w\u{1}é".to_owned().into(),
        },
    ];
    for scheme in schemes {
        let shown = |scheme: &AuthScheme| match scheme {
            AuthScheme::Anonymous => String::new(),
            AuthScheme::Bearer(token) => token.expose_secret().to_owned(),
            AuthScheme::Basic { username, password } => {
                format!("{username}:{}", password.expose_secret())
            }
        };
        let not_after = "2030-01-01T00:00:00.25Z".parse().ok();
        let auth = RegistryAuth {
            scheme: scheme.clone(),
            not_after,
            serial: 9,
        };
        let message = ToChild::Auth(WireAuth::new(3, auth));
        assert!(encode(&message).unwrap().len() <= SMALL_FRAME + message.secret_bytes());
        let ToChild::Auth(wire) = round_trip(&message) else {
            panic!("another message")
        };
        assert!(!format!("{wire:?}").contains("xxx"));
        let arrived = RegistryAuth::from(wire);
        assert_eq!(shown(&arrived.scheme), shown(&scheme));
        assert_eq!((arrived.not_after, arrived.serial), (not_after, 9));
    }
}

#[test]
fn denials_keep_their_kind() {
    let message = || "because".to_owned();
    let retry_after = Some(Duration::from_secs(7));
    let errors = [
        (
            AuthError::BadCredential { message: message() },
            DenialKind::BadCredential,
        ),
        (
            AuthError::NoPermission { message: message() },
            DenialKind::NoPermission,
        ),
        (
            AuthError::RateLimited {
                retry_after,
                message: message(),
            },
            DenialKind::RateLimited,
        ),
        (
            AuthError::Unreachable { message: message() },
            DenialKind::Unreachable,
        ),
        (AuthError::Tls { message: message() }, DenialKind::Tls),
        (
            AuthError::Revoked { message: message() },
            DenialKind::Revoked,
        ),
        (
            AuthError::Refused { message: message() },
            DenialKind::Refused,
        ),
        (
            AuthError::Internal { message: message() },
            DenialKind::Internal,
        ),
    ];
    for (error, kind) in errors {
        let wire = denied_to_wire(1, &error);
        assert_eq!(wire.kind, kind);
        let ToChild::AuthDenied(wire) = round_trip(&ToChild::AuthDenied(wire)) else {
            panic!("another message");
        };
        assert_eq!(AuthError::from(wire), error);
    }
}

#[test]
fn what_is_malformed_is_an_error() {
    let cases = [
        "",
        "{",
        "[]",
        "{\"version\":1}",
        "{\"version\":1,\"message\":{}}",
        "{\"version\":1,\"message\":{\"unknown\":{}}}",
        "{\"version\":1,\"message\":{\"stop\":{},\"stop\":{}}}",
        "{\"version\":1,\"message\":{\"stats\":{\"id\":-1}}}",
        "{\"version\":1,\"message\":{\"stats\":{\"id\":1,\"more\":2}}}",
        "{\"version\":1,\"message\":{\"stop\":{}},\"more\":1}",
        "{\"version\":1,\"message\":{\"mount\":{}}}",
    ];
    for json in cases {
        let error = PROTOCOL.decode::<ToChild>(json.as_bytes()).unwrap_err();
        assert!(matches!(error, WireError::Malformed(_)), "{json}: {error}");
    }
    let newer = "{\"version\":2,\"message\":{\"fly\":{}}}";
    assert!(matches!(
        PROTOCOL.decode::<ToChild>(newer.as_bytes()),
        Err(WireError::Version { found: 2, .. })
    ));
    assert!(
        PROTOCOL
            .decode::<ToChild>(b"{\"version\":1,\"message\":{\"stop\":{}}}")
            .is_ok()
    );
}

#[test]
fn an_error_does_not_repeat_what_it_read() {
    let json = "{\"version\":1,\"message\":{\"auth\":{\"id\":1,\"serial\":1,\"not_after\":null,\
                \"scheme\":{\"bearer\":{\"token\":\"hunter2\"}}}}}";
    let error = PROTOCOL
        .decode::<ToChild>(json.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(!error.contains("hunter2"), "{error}");
    let json = json.replace("\"serial\":1", "\"serial\":\"hunter2\"");
    let error = PROTOCOL
        .decode::<ToChild>(json.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn frames_that_lie_about_their_length() {
    let receive = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        async move { receive::<ToChild>(&mut bytes.as_slice()).await }
    };
    assert!(matches!(receive(b"").await, Ok(None)));
    let too_long = u32::try_from(PROTOCOL.max_bytes + 1).unwrap().to_le_bytes();
    assert!(matches!(
        receive(&too_long).await,
        Err(WireError::TooLong(_))
    ));
    for truncated in [&b"\x01"[..], b"\x05\0\0\0", b"\x05\0\0\0{}"] {
        assert!(
            matches!(receive(truncated).await, Err(WireError::Io(_))),
            "{truncated:?}"
        );
    }
    let frame = encode(&ToChild::Stop {}).unwrap();
    assert!(matches!(receive(&frame).await, Ok(Some(ToChild::Stop {}))));
}

#[tokio::test]
async fn pieces_that_lie_about_their_length() {
    let receive = |bytes: Vec<u8>| async move { receive_from_parent(&mut bytes.as_slice()).await };
    let piece = encode_bytes(7, b"abc").unwrap();
    let Ok(Some(FromParent::Bytes { id, bytes })) = receive(piece.to_vec()).await else {
        panic!("another message");
    };
    assert_eq!((id, &bytes[..]), (7, &b"abc"[..]));
    let length = |length: u32| (length | 1 << 31).to_le_bytes().to_vec();
    let beyond = u32::try_from(MAX_BYTES + 1).unwrap();
    for too_long in [beyond, u32::MAX] {
        let received = receive(length(too_long)).await;
        assert!(matches!(received, Err(WireError::TooLong(_))));
    }
    assert!(matches!(
        receive(length(0)).await,
        Err(WireError::Malformed(_))
    ));
    for cut in [LENGTH_BYTES, LENGTH_BYTES + 3, piece.len() - 1] {
        let received = receive(piece[..cut].to_vec()).await;
        assert!(matches!(received, Err(WireError::Io(_))), "{cut}");
    }
    assert!(encode_bytes(7, &vec![0; MAX_BYTES + 1]).is_err());
    // The child sends none, so that its parent knows none.
    let to_parent = super::receive::<ToParent>(&mut &piece[..]).await;
    assert!(matches!(to_parent, Err(WireError::TooLong(_))));
    let stop = encode(&ToChild::Stop {}).unwrap();
    assert!(matches!(
        receive(stop.to_vec()).await,
        Ok(Some(FromParent::Message(ToChild::Stop {})))
    ));
    assert!(matches!(receive(Vec::new()).await, Ok(None)));
}

/// Both queues are full before anything is written.
#[tokio::test]
async fn messages_do_not_wait_for_bytes() {
    let (frames, frames_out) = mpsc::channel(MAX_QUEUED);
    let (bytes, bytes_out) = mpsc::channel(MAX_BYTES_QUEUED);
    for id in 0..4 {
        bytes.send(encode_bytes(id, b"abc").unwrap()).await.unwrap();
    }
    for id in 0..3 {
        let message = ToChild::Stats { id };
        frames.send(encode(&message).unwrap()).await.unwrap();
    }
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let writing = tokio::spawn(send_with_bytes(ours, frames_out, bytes_out));
    let mut arrived = Vec::new();
    for _ in 0..7 {
        arrived.push(match receive_from_parent(&mut theirs).await.unwrap() {
            Some(FromParent::Message(_)) => "message",
            Some(FromParent::Bytes { .. }) => "bytes",
            None => panic!("closed"),
        });
    }
    assert_eq!(arrived[..3], ["message"; 3]);
    assert_eq!(arrived[3..], ["bytes"; 4]);
    drop(frames);
    let closed = receive_from_parent(&mut theirs).await;
    assert!(matches!(closed, Ok(None)), "though bytes could come");
    writing.await.unwrap().unwrap();
    drop(bytes);
}

#[test]
fn a_message_over_the_limit_is_not_sent() {
    let entries = vec![(u32::MAX, u32::MAX, u32::MAX); PROTOCOL.max_bytes / 20];
    let error = encode(&ToParent::Trace { id: 1, entries }).unwrap_err();
    assert!(matches!(error, WireError::TooLong(_)));
}

#[test]
fn the_longest_traces_are_messages_whose_buffers_do_not_grow() {
    let directory = tempfile::tempdir().unwrap();
    let far = TraceEntry {
        layer: u32::MAX,
        span: u32::MAX,
        at_ms: u32::MAX,
    };
    let longest = MountRequest {
        foretold: vec![far; MAX_TRACE_ENTRIES],
        ..request(directory.path())
    };
    let message = ToChild::Mount(Box::new((&longest).into()));
    assert!(encode(&message).unwrap().len() <= SMALL_FRAME + message.secret_bytes());
    let entries = vec![(u32::MAX, u32::MAX, u32::MAX); MAX_TRACE_ENTRIES];
    assert!(encode(&ToParent::Trace { id: 1, entries }).is_ok());
}

#[test]
fn text_is_cut_between_characters() {
    assert_eq!(bounded("short"), "short");
    let long = "é".repeat(5000);
    assert!(bounded(&long).len() <= 4096 && long.starts_with(&bounded(&long)));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = PROTOCOL.decode::<ToChild>(&bytes);
        let _ = PROTOCOL.decode::<ToParent>(&bytes);
    }
}
