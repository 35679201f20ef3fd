//! Replies that are too long, too slow or cut short.

use std::time::Duration;

use dial::{DialError, Limits, Request};

use crate::raw::{SHORT, endless, limited, local, server};

fn head(extra: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{extra}\r\n").into_bytes()
}

#[tokio::test]
async fn silence_is_unreachable() {
    let url = server(Vec::new(), true).await;
    let limits = Limits {
        head: SHORT,
        ..Limits::default()
    };
    let error = limited(limits).send(Request::get(url)).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with(&format!("no reply within {SHORT:?}")),
        "{error}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let (drip, flood) = (Duration::from_millis(10), Duration::ZERO);
    for (start, again, pause) in [
        ("HTTP/1.1 200 OK\r\nX: ", "x", drip),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", flood),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", flood),
        ("HTTP/1.1 200 OK\r\nX: ", "x", flood),
        ("HTTP/1.1 200 OK\r\n", "X: x\r\n", flood),
    ] {
        let url = endless(start, again, pause).await;
        let limits = Limits {
            head: SHORT,
            ..Limits::default()
        };
        let client = limited(limits);
        let sent = client.send(Request::get(url));
        let ended = tokio::time::timeout(Duration::from_secs(20), sent).await;
        let error = ended.expect("it does not go on for ever").unwrap_err();
        assert!(
            matches!(error, DialError::Unreachable { .. }),
            "{again:?}: {error}"
        );
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_cut_off() {
    let mut reply = head("Content-Length: 10\r\n");
    reply.extend(b"half");
    for hold in [true, false] {
        let url = server(reply.clone(), hold).await;
        let limits = Limits {
            idle: SHORT,
            ..Limits::default()
        };
        let response = limited(limits)
            .send(Request::get(url))
            .await
            .expect("a head");
        let error = response.read_bounded(100).await.unwrap_err();
        assert!(
            matches!(error, DialError::Interrupted { .. }),
            "{hold}: {error}"
        );
    }
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off() {
    let mut reply = head("Content-Length: 10\r\n");
    reply.extend(b"half");
    let url = server(reply, true).await;
    let limits = Limits {
        bounded_body: SHORT,
        ..Limits::default()
    };
    let response = limited(limits)
        .send(Request::get(url))
        .await
        .expect("a head");
    let error = response.read_bounded(100).await.unwrap_err();
    assert!(error.to_string().contains("took too long"), "{error}");
}

#[tokio::test]
async fn bodies_are_bounded_claimed_or_not() {
    let claimed = {
        let mut reply = head("Content-Length: 1000\r\n");
        reply.extend([b'x'; 1000]);
        reply
    };
    let chunked = {
        let mut reply = head("Transfer-Encoding: chunked\r\n");
        reply.extend(b"3e8\r\n");
        reply.extend([b'x'; 1000]);
        reply.extend(b"\r\n0\r\n\r\n");
        reply
    };
    for reply in [claimed, chunked] {
        let url = server(reply, true).await;
        let get = || async {
            local()
                .send(Request::get(url.clone()))
                .await
                .expect("a head")
        };
        let error = get().await.read_bounded(999).await.unwrap_err();
        assert!(
            matches!(
                error,
                DialError::TooLarge {
                    limit_bytes: 999,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            get().await.read_bounded(1000).await.expect("a body").len(),
            1000
        );
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let many = "A: b\r\n".repeat(1000);
    let long = format!("A: {}\r\n", "b".repeat(100_000));
    for extra in [many, long] {
        let url = server(head(&format!("{extra}Content-Length: 0\r\n")), true).await;
        assert!(local().send(Request::get(url)).await.is_err());
    }
}

#[tokio::test]
async fn what_is_not_http_is_no_reply() {
    for junk in [
        "SSH-2.0-OpenSSH\r\n",
        "\u{0}\u{1}\u{2}",
        "HTTP/1.1 abc\r\n\r\n",
    ] {
        let url = server(junk.as_bytes().to_vec(), false).await;
        assert!(local().send(Request::get(url)).await.is_err(), "{junk:?}");
    }
}
