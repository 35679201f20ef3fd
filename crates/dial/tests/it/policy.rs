//! Where connections may go, with real sockets at the other end.

use dial::{DialError, DialPolicy, Reach, Request, StatusCode, Url};
use registry_sim::RegistrySim;

use crate::raw::{client, local, server};

fn get(url: &str) -> Request {
    Request::get(Url::parse(url).expect("a URL"))
}

#[tokio::test]
async fn a_redirect_is_a_reply_like_another() {
    let reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let url = server(reply.to_vec(), true).await;
    let response = local().send(Request::get(url)).await.expect("a reply");
    assert_eq!(response.status, StatusCode::FOUND);
}

#[tokio::test]
async fn names_and_literals_that_lead_home_are_judged() {
    let sim = RegistrySim::anonymous().await;
    let port = sim.host().rsplit(':').next().expect("a port");
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
    ];
    let public = client(DialPolicy::default(), Reach::Public);
    let private = client(DialPolicy::default(), Reach::Private);
    for host in hosts {
        for client in [&public, &private] {
            let error = client
                .send(get(&format!("http://{host}:{port}/v2/")))
                .await
                .unwrap_err();
            assert!(matches!(error, DialError::Denied { .. }), "{host}: {error}");
            assert!(error.hint().is_some());
        }
    }
    assert_eq!(sim.registry().read().requests, 0);
    let named = client(DialPolicy::default(), Reach::Loopback);
    named
        .send(get(&format!("http://localhost:{port}/v2/")))
        .await
        .expect("a reply");
}

#[tokio::test]
async fn metadata_services_are_never_reached_unasked() {
    let named = client(DialPolicy::default(), Reach::Loopback);
    let urls = [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://0251.0376.0251.0376/",
        "http://2852039166/",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
    ];
    for url in urls {
        let error = named.send(get(url)).await.unwrap_err();
        assert!(matches!(error, DialError::Denied { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn the_operators_list_opens_what_it_names() {
    let sim = RegistrySim::anonymous().await;
    let url = format!("http://{}/v2/", sim.host());
    let allow = vec!["127.0.0.0/8".parse().expect("a rule")];
    let listed = client(
        DialPolicy {
            allow,
            ..DialPolicy::default()
        },
        Reach::Public,
    );
    listed.send(get(&url)).await.expect("a reply");
    let users_may_name_private = false;
    let strict = DialPolicy {
        users_may_name_private,
        ..DialPolicy::default()
    };
    assert!(
        client(strict, Reach::Loopback)
            .send(get(&url))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn urls_that_are_no_places_are_refused() {
    for url in [
        "file:///etc/passwd",
        "ftp://a/",
        "http://user:pw@127.0.0.1/",
        "data:,x",
    ] {
        let error = local().send(get(url)).await.unwrap_err();
        assert!(
            matches!(error, DialError::Protocol { .. }),
            "{url}: {error}"
        );
        assert!(!error.to_string().contains("pw"), "{error}");
    }
}

#[tokio::test]
async fn errors_do_not_show_queries() {
    let request = get("http://127.0.0.1:1/path?X-Amz-Signature=canary");
    let error = local().send(request.clone()).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    assert!(!format!("{error} {error:?} {request:?}").contains("canary"));
}
