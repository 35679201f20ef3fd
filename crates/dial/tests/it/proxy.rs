//! Requests through a proxy, with a simulated registry standing in for one.

use dial::{DialError, DialPolicy, ProxySettings, Reach, Request, Url};
use registry_sim::RegistrySim;

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
