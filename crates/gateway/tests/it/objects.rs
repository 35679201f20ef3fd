//! Objects: uploaded by whoever has their bytes, and found by nobody else.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use control_store::TokenScope;
use futures::stream;
use gateway::{Kind, ObjectNamed, Problem};
use reference::Digest;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Caller, Stage};

const LIMIT_BYTES: usize = 64 << 20;

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

impl Caller<'_> {
    async fn upload(&self, digest: &str, bytes: Vec<u8>) -> (StatusCode, Value) {
        let request = self.request(Method::PUT, &format!("/v1/objects/{digest}"));
        let request = request.header("content-type", "application/octet-stream");
        let response = request.body(bytes).send().await.unwrap();
        let status = response.status();
        (status, response.json().await.unwrap())
    }

    async fn has(&self, digest: &Digest) -> bool {
        let request = self.request(Method::HEAD, &format!("/v1/objects/{digest}"));
        let status = request.send().await.unwrap().status();
        assert!(
            matches!(status, StatusCode::OK | StatusCode::NOT_FOUND),
            "{status}"
        );
        status == StatusCode::OK
    }
}

impl Stage {
    async fn object_file(&self, workspace: &str, digest: &Digest) -> PathBuf {
        let workspace = self.workspace(workspace).await;
        let objects = self.directory.path().join("data/objects");
        objects
            .join(workspace.to_string())
            .join("sha256")
            .join(digest.hex())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_its_workspaces_own() {
    let stage = Stage::new().await;
    let ours = stage.caller("ours", &TokenScope::ALL).await;
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let bytes = b"an archive".repeat(100_000);
    let digest = digest_of(&bytes);
    assert!(!ours.has(&digest).await);
    let (status, first) = ours.upload(digest.as_str(), bytes.clone()).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(
        (&first["digest"], &first["size_bytes"]),
        (&digest.as_str().into(), &1_000_000.into())
    );
    assert!(ours.has(&digest).await);
    let (_, again) = ours.upload(digest.as_str(), bytes).await;
    let shown = ours.get(&format!("/v1/objects/{digest}")).await;
    assert_eq!((&again, &shown), (&first, &first));

    assert!(!theirs.has(&digest).await, "a digest alone finds nothing");
    let path = format!("/v1/objects/{digest}");
    let (code, kind, _) = theirs.refused(Method::GET, &path, None).await;
    assert_eq!((code, &*kind), (404, "not_found"));
    let reader = stage.caller("ours", &[TokenScope::Read]).await;
    let (code, kind, _) = reader.refused(Method::GET, &path, None).await;
    assert_eq!((code, &*kind), (403, "denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_says_is_not_kept() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let digest = digest_of(b"right");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let table = [
        (digest.as_str(), b"wrong".to_vec(), 400),
        ("sha256:0", b"right".to_vec(), 400),
        (&sha512, b"right".to_vec(), 400),
    ];
    for (name, bytes, code) in table {
        let (status, answer) = caller.upload(name, bytes).await;
        assert_eq!(status.as_u16(), code, "{name}: {answer}");
    }
    let piece = Bytes::from(vec![0; LIMIT_BYTES / 4]);
    let pieces = vec![piece; 4].into_iter().chain([Bytes::from_static(b"0")]);
    let pieces = stream::iter(pieces.map(Ok));
    let (known, named) = (stage.known("team").await, ObjectNamed::Digest(&digest));
    let long = stage.gateway.put_object(&known, named, pieces).await;
    assert_eq!(long.unwrap_err().kind, Kind::TooLarge);
    let broken = [
        Ok(Bytes::from_static(b"rig")),
        Err(Problem::invalid("broken")),
    ];
    let broken = stage
        .gateway
        .put_object(&known, named, stream::iter(broken))
        .await;
    assert_eq!(broken.unwrap_err().message, "broken");
    assert!(!caller.has(&digest).await);
    let data = stage.directory.path().join("data");
    for part in ["objects", "tmp"] {
        assert_eq!(fs::read_dir(data.join(part)).unwrap().count(), 0, "{part}");
    }
}

/// Before any of it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_says_that_it_is_too_long_is_not_read() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let (digest, token, length) = (digest_of(b""), &caller.token, LIMIT_BYTES + 1);
    let head = format!(
        "PUT /v1/objects/{digest} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// What may become of a file.
type Damage = fn(&PathBuf);

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_file_is_not_whole_is_uploaded_again() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let digest = digest_of(b"right");
    caller.upload(digest.as_str(), b"right".to_vec()).await;
    let file = stage.object_file("team", &digest).await;
    let damages: [Damage; 3] = [
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, "righ").unwrap(),
        |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        },
    ];
    for damage in damages {
        assert!(caller.has(&digest).await);
        damage(&file);
        assert!(!caller.has(&digest).await);
        let (status, _) = caller.upload(digest.as_str(), b"right".to_vec()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(fs::read(&file).unwrap(), b"right");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_bounded() {
    let stage = Stage::new().await;
    let known = stage.known("team").await;
    let never = || {
        let put = stage
            .gateway
            .put_object(&known, ObjectNamed::Name("n"), stream::pending());
        Box::pin(put)
    };
    let mut begun: Vec<_> = (0..16).map(|_| never()).collect();
    for upload in &mut begun {
        assert!(futures::poll!(upload).is_pending());
    }
    assert_eq!(never().await.unwrap_err().kind, Kind::Busy);
    drop(begun);
    assert!(futures::poll!(never()).is_pending());
}

/// As a client has it that knows its archives by a hash of its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_found_by_the_name_that_it_was_given() {
    let stage = Stage::new().await;
    let ours = stage.known("ours").await;
    let theirs = stage.known("theirs").await;
    let named = ObjectNamed::Name("0123abcd");
    for bytes in ["one", "other"] {
        let pieces = bytes
            .as_bytes()
            .chunks(2)
            .map(|piece| Ok(Bytes::from_static(piece)));
        let put = stage.gateway.put_object(&ours, named, stream::iter(pieces));
        let put = put.await.unwrap();
        assert_eq!(put.digest, digest_of(bytes.as_bytes()));
        assert_eq!(stage.gateway.object(&ours, named).await.unwrap(), put);
        let by_digest = ObjectNamed::Digest(&put.digest);
        assert_eq!(stage.gateway.object(&ours, by_digest).await.unwrap(), put);
        let refused = stage.gateway.object(&theirs, named).await.unwrap_err();
        assert_eq!(refused.kind, Kind::NotFound);
    }
}

impl Stage {
    /// A caller as faces have one.
    async fn known(&self, workspace: &str) -> gateway::Caller {
        let caller = self.caller(workspace, &TokenScope::ALL).await;
        self.gateway.caller(&caller.token).await.unwrap()
    }
}
