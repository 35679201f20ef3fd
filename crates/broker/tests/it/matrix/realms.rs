//! A registry that names another token service than its own, in all the ways to write an address.
//!
//! Whoever can forge a header of the registry can do this. `{registry}` and `{stranger}` are hosts
//! with their ports, `{port}` is that of the registry's own token service.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use registry_sim::{Login, Options, Realm, RegistrySim};
use tokio::net::TcpListener;

use super::reading::{Reading, Stand};
use super::{Case, Event, Gets, Hosts, May, Moment, check};

fn options() -> Options {
    Options {
        login: Login::Bearer(Realm::OtherPort),
        ..Options::default()
    }
}

/// The credential goes nowhere, and the registry sees no more of it than it had.
const NOWHERE: Hosts = Hosts {
    registry: May::Tokens,
    realm: May::Nothing,
    storage: May::Nothing,
    stranger: May::Nothing,
};

/// Realm, and what the refusal says.
#[rustfmt::skip]
const UNASKED: [(&str, &str); 22] = [
    ("http://{stranger}/token",                  "--token-service localhost"),
    ("http://{registry}@{stranger}/token",       "user name or password"),
    ("http://puller:pw@{registry}/token",        "user name or password"),
    ("http://127.0.0.1.localhost:{port}/token",  "--token-service"),
    ("http://127.0.0.1.example/token",           "--token-service"),
    ("https://127.0.0.1.example/token",          "--token-service"),
    ("http://[::ffff:127.0.0.1]:{port}/token",   "--token-service"),
    ("http://[::1]:{port}/token",                "--token-service"),
    ("http://[64:ff9b::7f00:1]:{port}/token",    "--token-service"),
    ("http://[64:ff9b:1::7f00:1]:{port}/token",  "--token-service"),
    ("http://[2002:7f00:1::]:{port}/token",      "--token-service"),
    ("http://0.0.0.0:{port}/token",              "--token-service"),
    ("http://127.0.0.2:{port}/token",            "--token-service"),
    ("http://2852039166/token",                  "--token-service 169.254.169.254"),
    ("http://0251.0376.0251.0376/token",         "--token-service 169.254.169.254"),
    ("http://0xa9fea9fe/token",                  "--token-service 169.254.169.254"),
    ("http://169.254.169.254/latest/meta-data/", "--token-service"),
    ("http://metadata.example/token",            "--token-service"),
    ("gopher://{registry}/token",                "no URL"),
    ("file:///etc/passwd",                       "no URL"),
    ("/token",                                   "no URL"),
    ("http://",                                  "no URL"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_token_service_gets_nothing_unasked() {
    let moments = [Moment::Challenge, Moment::BetweenRanges];
    let lines = UNASKED.iter().flat_map(|(realm, told)| {
        moments.map(|when| Case {
            what: format!("realm {realm}"),
            options: options(),
            when,
            event: Event::Realm((*realm).to_owned()),
            gets: Gets::Refusal(told),
            hosts: Hosts {
                // What was right before is not undone by what comes after it.
                realm: if when == Moment::Challenge {
                    May::Nothing
                } else {
                    May::Password
                },
                ..NOWHERE
            },
            hosts_after: Some(NOWHERE),
            ..Case::default()
        })
    });
    check(lines.collect()).await;
}

/// Realms at places that nobody but the operator can allow.
const FORBIDDEN: [&str; 19] = [
    "2852039166",
    "0251.0376.0251.0376",
    "0xa9fea9fe",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "[::]",
    "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]",
    "[::a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:4136:e378:8000:63bf:5601:5601]",
    "[fd12::5efe:a9fe:a9fe]",
    "[2606:4700::200:5efe:a9fe:a9fe]",
    "metadata.example",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_service_that_the_user_allowed_is_under_the_address_policy() {
    let lines = FORBIDDEN.map(|host| Case {
        what: format!("allowed realm {host}"),
        options: options(),
        token_service: Some(host.to_owned()),
        event: Event::Realm(format!("http://{host}/token")),
        gets: Gets::Refusal("is not allowed"),
        hosts: NOWHERE,
        ..Case::default()
    });
    check(lines.into()).await;
}

/// Other ways to write the place where the token service is, and one that the user has allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_token_service_is_found_however_it_is_written() {
    #[rustfmt::skip]
    let realms = [
        ("http://127.0.0.1:{port}/token",          None),
        ("http://2130706433:{port}/token?x=y",     None),
        ("http://0x7f.1:{port}/token#fragment",    None),
        ("http://localhost:{port}/token",          Some("localhost:{port}")),
        ("http://[::ffff:127.0.0.1]:{port}/token", Some("[::ffff:7f00:1]:{port}")),
        ("http://home.example:{port}/token",       Some("http://home.example:{port}/")),
    ];
    let lines = realms.map(|(realm, allowed)| Case {
        what: format!("realm {realm}"),
        options: options(),
        token_service: allowed.map(str::to_owned),
        event: Event::Realm(realm.to_owned()),
        hosts: Hosts::APART,
        ..Case::default()
    });
    check(lines.into()).await;
}

/// What the name of the allowed token service leads to from one moment to the next, and whether
/// that can be read with.
#[rustfmt::skip]
const REBINDINGS: [(&[&str], bool); 6] = [
    (&["127.0.0.2"],              false),
    (&["169.254.169.254"],        false),
    (&["::ffff:127.0.0.2"],       false),
    (&["64:ff9b::7f00:2"],        false),
    (&["2002:7f00:2::"],          false),
    (&["127.0.0.2", "127.0.0.1"], true),
];

/// The operator allows one address of this machine, and names lead to it. Then one leads to another
/// address at which somebody waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_elsewhere_from_one_moment_to_the_next_gets_nothing() {
    for (addresses, is_readable) in REBINDINGS {
        let sim = RegistrySim::start(options()).await;
        let (_, port) = sim.realm_host().rsplit_once(':').expect("a port");
        let trap = TcpListener::bind(format!("127.0.0.2:{port}")).await;
        let trap = trap.expect("a loopback port");
        let is_rebound = Arc::new(AtomicBool::new(false));
        let rebound = Arc::clone(&is_rebound);
        let names = move |host: &str| match host {
            "auth.example" if rebound.load(Ordering::SeqCst) => {
                let addresses = addresses.iter().map(|address| address.parse::<IpAddr>());
                Some(
                    addresses
                        .map(|address| address.expect("an address"))
                        .collect(),
                )
            }
            "registry.example" | "auth.example" => Some(vec![[127, 0, 0, 1].into()]),
            _ => None,
        };
        let realm = format!("http://auth.example:{port}/token");
        let challenge = format!("Bearer realm=\"{realm}\",service=\"sim\"");
        sim.faults(|faults| faults.challenge = Some(challenge));
        let gets = if is_readable {
            Gets::Everything
        } else {
            Gets::Refusal("is not allowed")
        };
        let case = Case {
            what: format!("auth.example becomes {addresses:?}"),
            token_service: Some("auth.example:{port}".to_owned()),
            gets,
            hosts: if is_readable { Hosts::APART } else { NOWHERE },
            ..Case::default()
        };
        let stand = Stand {
            registry: "registry.example",
            names: Arc::new(names),
            allow: vec!["127.0.0.1".parse().expect("a rule")],
        };
        let reading = Reading::at(&case, sim, stand).await;
        is_rebound.store(true, Ordering::SeqCst);
        reading.check(&case).await;
        assert!(trap.accept().now_or_never().is_none(), "{addresses:?}");
    }
}
