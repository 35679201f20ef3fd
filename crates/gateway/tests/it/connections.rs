//! Connections that are no requests, and the end of the service.

use std::time::Duration;

use control_store::TokenScope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Stage;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_are_hung_up_on() {
    let stage = Stage::new().await;
    for bytes in [
        &b"\0\0\0\0"[..],
        b"GET\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(PATIENCE, reading).await;
        // Reset, or closed with or without a word.
        let _ = read.expect("the connection ends");
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    }
    stage
        .caller("team", &TokenScope::ALL)
        .await
        .get("/v1/whoami")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_too_little_is_not_waited_for() {
    let stage = Stage::new().await;
    let mut streams = Vec::new();
    let asks_nothing = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for bytes in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\n",
        asks_nothing,
    ] {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        streams.push(stream);
    }
    for mut stream in streams {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _ = ended.expect("the connection ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_ends_when_it_is_told() {
    let stage = Stage::new().await;
    stage
        .caller("team", &TokenScope::ALL)
        .await
        .get("/v1/whoami")
        .await;
    let silent = TcpStream::connect(stage.address).await.unwrap();
    stage.shutdown.cancel();
    let ended = tokio::time::timeout(PATIENCE, stage.running).await;
    ended
        .expect("it ends although a connection says nothing")
        .unwrap();
    drop(silent);
    // A program that another test starts has all sockets of this one until it runs.
    let refused = async {
        while TcpStream::connect(stage.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await;
    refused.expect("nobody listens any more");
}
