//! Places that are not the registry: where it redirects to, mirrors, and what an image names.

use std::sync::Arc;

use reference::Registry;
use registry_client::{Endpoint, RegistryClient, RegistryError};
use registry_sim::{Login, Options, Realm, RegistrySim};

use super::reading::Reading;
use super::{Case, Event, Gets, Hosts, May, Moment, Reader, check};
use crate::support::{REPOSITORY, image};

/// Where a blob is redirected to, and what is said of it. Nobody is asked.
#[rustfmt::skip]
const ASTRAY: [(&str, &str); 15] = [
    ("http://169.254.169.254/latest/meta-data", "is not allowed"),
    ("http://2852039166/latest",                "is not allowed"),
    ("http://0xa9fea9fe/latest",               "is not allowed"),
    ("http://[fd00:ec2::254]/latest",           "is not allowed"),
    ("http://[::ffff:169.254.169.254]/",        "is not allowed"),
    ("http://[64:ff9b::a9fe:a9fe]/",            "is not allowed"),
    ("http://[64:ff9b:1::a9fe:a9fe]/",          "is not allowed"),
    ("http://[2002:a9fe:a9fe::]/",              "is not allowed"),
    ("http://[2001:0:1:2:3:4:5601:5601]/",      "is not allowed"),
    ("http://metadata.example/latest",          "is not allowed"),
    ("http://puller:pw@{registry}/",            "user name"),
    ("http://{registry}@{stranger}/",           "user name"),
    ("file:///etc/passwd",                      "not http"),
    ("ftp://{registry}/",                       "not http"),
    ("http://",                                 "no valid URL"),
];

/// Registries by how one logs in, and what they and others may receive.
fn logins() -> [(Options, Hosts); 2] {
    let basic = Options {
        login: Login::Basic,
        ..Options::default()
    };
    let bearer = Options {
        login: Login::Bearer(Realm::OtherPort),
        ..Options::default()
    };
    [(basic, Hosts::OWN), (bearer, Hosts::APART)]
}

/// The same for each reader: one is sent there with an auth in its hand, one is told of the place.
fn for_each_reader(of: impl Fn(Reader) -> Vec<Case>) -> Vec<Case> {
    [Reader::Indexer, Reader::Mount]
        .into_iter()
        .flat_map(of)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_leads_where_it_may_or_nowhere() {
    let lines = for_each_reader(|reader| {
        let lines = ASTRAY.iter().flat_map(|(target, told)| {
            logins().map(|(options, hosts)| Case {
                what: format!("redirect to {target}"),
                options,
                reader,
                when: Moment::FirstLayer,
                event: Event::Redirects((*target).to_owned()),
                gets: Gets::Refusal(told),
                hosts,
                ..Case::default()
            })
        });
        lines.collect()
    });
    check(lines).await;
}

/// Whoever is redirected to may ask for a password, and may send the reader home again, where it is
/// a stranger from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_redirected_to_may_ask_for_a_password_and_gets_none() {
    let ways = [
        ("http://{stranger}/blob", None),
        ("http://127.0.0.1:{stranger-port}/v2/", None),
        ("http://{stranger}/blob", Some("http://{registry}/v2/")),
    ];
    let lines = for_each_reader(|reader| {
        let lines = ways.iter().flat_map(|(target, back)| {
            logins().map(|(options, hosts)| Case {
                what: format!("redirect to {target}, then to {back:?}"),
                options,
                reader,
                when: Moment::FirstLayer,
                event: Event::Strays((*target).to_owned(), back.map(str::to_owned)),
                gets: Gets::Refusal("status 401"),
                hosts: Hosts {
                    stranger: May::Questions,
                    ..hosts
                },
                ..Case::default()
            })
        });
        lines.collect()
    });
    check(lines).await;
}

/// The second layer of every image of the matrix names the stranger as another source of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_image_names_is_not_asked() {
    let lines = logins().into_iter().flat_map(|(options, hosts)| {
        [
            (Event::Nothing, Gets::Everything),
            (Event::LayerIsRemoved, Gets::Refusal("foreign layer")),
        ]
        .map(|(event, gets)| Case {
            what: "a foreign layer".to_owned(),
            options: options.clone(),
            when: Moment::SecondLayer,
            event,
            gets,
            hosts,
            ..Case::default()
        })
    });
    check(lines.collect()).await;
}

/// A mirror has the same repositories, and demands what it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_gets_nothing_of_its_origins_credential() {
    for login in [Login::Basic, Login::EcrLike, Login::Bearer(Realm::SameHost)] {
        let mirror = RegistrySim::with_login(login).await;
        mirror.push(REPOSITORY, "latest", &image());
        for (options, hosts) in logins() {
            let case = Case {
                what: "an origin and its mirror".to_owned(),
                options,
                hosts,
                ..Case::default()
            };
            let reading = Reading::begin(&case).await;
            reading.check(&case).await;
            let endpoint = Endpoint::new(Registry::parse(mirror.host()).unwrap());
            let source = reading.source();
            let client = RegistryClient::new(reading.dialer(), endpoint, Arc::clone(&source));
            let error = reading.manifest(&client.unwrap()).await.unwrap_err();
            assert!(matches!(error, RegistryError::Auth(_)), "{error}");
            let before = mirror.registry().read().requests;
            let client = reading.client_of(mirror.host()).await;
            let error = reading.manifest(&client);
            error
                .await
                .expect_err("the mirror wants a credential of its own");
            let received = mirror.registry().read();
            assert!(received.requests > before, "the mirror was asked");
            assert_eq!(received.credential_bytes, 0);
        }
    }
}
