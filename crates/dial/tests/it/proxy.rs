//! Requests through a proxy, with a simulated registry standing in for one.

use dial::header::{AUTHORIZATION, HeaderValue};
use dial::{DialError, DialPolicy, ProxySettings, Reach, Request, Url};
use registry_sim::RegistrySim;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::raw::client;

fn through(sim: &RegistrySim, no: &str) -> DialPolicy {
    let proxies = ProxySettings {
        http: format!("http://user:hunter2@{}", sim.host()),
        no: no.to_owned(),
        ..ProxySettings::none()
    };
    DialPolicy {
        proxies,
        ..DialPolicy::default()
    }
}

fn get(url: &str) -> Request {
    Request::get(Url::parse(url).expect("a URL"))
}

#[tokio::test]
async fn requests_go_through_the_proxy_which_is_not_judged() {
    let sim = RegistrySim::anonymous().await;
    let client = client(through(&sim, ""), Reach::Private);
    client
        .send(get("http://registry.internal/v2/"))
        .await
        .expect("the proxy's reply");
    assert_eq!(sim.registry().paths(), ["GET http://registry.internal/v2/"]);
    assert!(
        sim.registry().read().credential_bytes > 0,
        "the proxy's own password"
    );
}

#[tokio::test]
async fn the_policy_holds_for_what_is_asked_through_a_proxy() {
    let sim = RegistrySim::anonymous().await;
    let client = client(through(&sim, ""), Reach::Public);
    for url in [
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://127.0.0.1:1/",
    ] {
        let error = client.send(get(url)).await.unwrap_err();
        assert!(matches!(error, DialError::Denied { .. }), "{url}: {error}");
    }
    assert_eq!(sim.registry().read().requests, 0);
}

#[tokio::test]
async fn hosts_that_are_excepted_and_this_machine_are_reached_directly() {
    let (proxy, direct) = (
        RegistrySim::anonymous().await,
        RegistrySim::anonymous().await,
    );
    let client = client(through(&proxy, "registry.internal"), Reach::Loopback);
    client
        .send(get(&format!("http://{}/v2/", direct.host())))
        .await
        .expect("a reply");
    client
        .send(get("http://registry.internal/v2/"))
        .await
        .unwrap_err();
    assert_eq!(proxy.registry().read().requests, 0);
    assert_eq!(direct.registry().read().requests, 1);
}

#[tokio::test]
async fn a_proxy_sees_of_a_secure_request_only_where_it_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let proxy = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let refused = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(refused).await.expect("writing");
        String::from_utf8(head).expect("ASCII")
    });
    let proxies = ProxySettings {
        https: format!("http://{address}"),
        ..ProxySettings::none()
    };
    let client = client(
        DialPolicy {
            proxies,
            ..DialPolicy::default()
        },
        Reach::Private,
    );
    let secret = HeaderValue::from_static("Basic canary");
    let request = get("https://registry.internal/v2/secret-path").header(AUTHORIZATION, secret);
    let error = client.send(request).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    let head = proxy.await.expect("a proxy that was asked");
    assert!(
        head.starts_with("CONNECT registry.internal:443 HTTP/1.1"),
        "{head}"
    );
    assert!(
        !head.contains("canary") && !head.contains("secret-path"),
        "{head}"
    );
}
