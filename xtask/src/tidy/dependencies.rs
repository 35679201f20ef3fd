//! Rules on dependencies: layers point down, dangerous crates have one home, closures stay small.
//!
//! Layers and closures count normal dependencies; tests may use what they like of ours.

use super::Violation;
use super::graph::{Graph, Member};

/// An external or internal crate that only the named crates may use directly.
struct Home {
    dependency: &'static str,
    crates: &'static [&'static str],
    why: &'static str,
}

/// The two protocols, and the processes at their ends.
const SPEAKS_GRPC: &[&str] = &["beta9-protocol", "worker-protocol", "gateway", "worker"];

const TLS_PROFILES: &str =
    "three TLS profiles: towards strangers, between machines of ours, and for callers";

const HOMES: &[Home] = &[
    Home {
        dependency: "fuser",
        crates: &["image-mount"],
        why: "one FUSE adaptor",
    },
    Home {
        dependency: "sqlx",
        crates: &["database", "vault"],
        why: "one way to open a database and to speak to it",
    },
    Home {
        dependency: "aws-lc-rs",
        crates: &["vault", "identity-issuer", "shared-cache", "registry-sim"],
        why: "ciphers in vault; what clouds are told of an identity is signed with an RSA key, and \
              what lies in a store of others is sealed",
    },
    Home {
        dependency: "reqwest",
        crates: &["dial", "holdfast-cli", "registry-sim"],
        why: "one way out to registries; a command asks its gateway, which is none",
    },
    Home {
        dependency: "hyper",
        crates: &["worker"],
        why: "one way out, and it is dial's reqwest; a worker dials nothing and is given a socket",
    },
    Home {
        dependency: "rustls",
        crates: &[
            "dial",
            "peer-identity",
            "gateway",
            "holdfast-cli",
            "registry-sim",
        ],
        why: TLS_PROFILES,
    },
    Home {
        dependency: "tokio-rustls",
        crates: &["peer-identity", "gateway", "registry-sim"],
        why: TLS_PROFILES,
    },
    Home {
        dependency: "rustls-webpki",
        crates: &["gateway"],
        why: "who shows a certificate reads its names",
    },
    Home {
        dependency: "libz-rs-sys",
        crates: &["inflate-resume"],
        why: "one codec room",
    },
    Home {
        dependency: "object",
        crates: &["image-fs"],
        why: "programs of strangers are read where they can do no harm",
    },
    Home {
        dependency: "landlock",
        crates: &["confine"],
        why: "one way to confine a process",
    },
    Home {
        dependency: "seccompiler",
        crates: &["confine"],
        why: "one way to confine a process",
    },
    Home {
        dependency: "axum",
        crates: &["gateway", "registry-sim"],
        why: "one HTTP server in what is shipped",
    },
    Home {
        dependency: "utoipa",
        crates: &["gateway"],
        why: "one API that is described",
    },
    Home {
        dependency: "utoipa-axum",
        crates: &["gateway"],
        why: "one API that is described",
    },
    Home {
        dependency: "prometheus-client",
        crates: &["gateway"],
        why: "what is counted is said in one place, and no label is made elsewhere",
    },
    Home {
        dependency: "tonic",
        crates: SPEAKS_GRPC,
        why: "gRPC is what protocols and those who serve them speak",
    },
    Home {
        dependency: "prost",
        crates: SPEAKS_GRPC,
        why: "messages of others' making are a protocol's",
    },
    Home {
        dependency: "prost-types",
        crates: SPEAKS_GRPC,
        why: "messages of others' making are a protocol's",
    },
    Home {
        dependency: "tonic-prost",
        crates: &["beta9-protocol", "worker-protocol"],
        why: "only a protocol is made of .proto files",
    },
    Home {
        dependency: "tonic-prost-build",
        crates: &["beta9-protocol", "worker-protocol"],
        why: "only a protocol is made of .proto files",
    },
    Home {
        dependency: "protox",
        crates: &["beta9-protocol", "worker-protocol"],
        why: "only a protocol is made of .proto files",
    },
    Home {
        dependency: "clap",
        crates: &["holdfast-cli"],
        why: "only the binary has a command line",
    },
    Home {
        dependency: "anyhow",
        crates: &["holdfast-cli", "e2e", "xtask"],
        why: "libraries type errors",
    },
    Home {
        dependency: "aws-sigv4",
        crates: &["aws-api"],
        why: "one way to sign for AWS",
    },
    Home {
        dependency: "aws-credential-types",
        crates: &["aws-api"],
        why: "one way to sign for AWS",
    },
    Home {
        dependency: "aws-api",
        crates: &["token-exchange", "key-service", "gateway"],
        why: "a cloud's keys are used where they are exchanged, a root key is asked to wrap, or \
              layers are shared",
    },
    Home {
        dependency: "libfuzzer-sys",
        crates: &["fuzz"],
        why: "a C++ runtime that nothing shipped may link",
    },
    Home {
        dependency: "vault",
        crates: &["broker", "key-service", "holdfast-cli"],
        why: "the broker opens secrets, and a key service wraps the keys to them",
    },
    Home {
        dependency: "key-service",
        crates: &["holdfast-cli"],
        why: "who opens a vault says where its root key is",
    },
    Home {
        dependency: "token-exchange",
        crates: &["broker", "holdfast-cli", "fuzz"],
        why: "the broker mints",
    },
    Home {
        dependency: "registry-sim",
        crates: &["e2e"],
        why: "tests and demo only",
    },
    Home {
        dependency: "postgres-server",
        crates: &["e2e"],
        why: "tests only",
    },
];

/// What must not be reachable from a crate, by normal dependencies among ours.
struct Closure {
    of: &'static str,
    without: &'static [&'static str],
    why: &'static str,
}

const CLOSURES: &[Closure] = &[
    Closure {
        of: "launch",
        without: &["vault", "token-exchange", "control-store"],
        why: "a worker never holds a stored secret",
    },
    Closure {
        of: "worker",
        without: &["vault", "token-exchange", "control-store", "broker"],
        why: "a worker never holds a stored secret",
    },
    Closure {
        of: "image-mount",
        without: &["vault", "token-exchange", "control-store"],
        why: "a mount process holds nothing but its own lease",
    },
    Closure {
        of: "layer-indexer",
        without: &[
            "dial",
            "registry-client",
            "credential",
            "vault",
            "token-exchange",
        ],
        why: "the indexer has no network, no key and no credential",
    },
    Closure {
        of: "vault",
        without: &["dial", "key-service"],
        why: "the vault speaks to no network",
    },
    Closure {
        of: "dial",
        without: &["credential"],
        why: "the way out knows no credentials",
    },
];

/// Crates that must not be built at all: a second TLS stack, a second SQLite, a second clock.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "rustls with aws-lc-rs is the one TLS stack"),
    ("openssl-sys", "rustls with aws-lc-rs is the one TLS stack"),
    ("native-tls", "rustls with aws-lc-rs is the one TLS stack"),
    ("ring", "aws-lc-rs is the one provider"),
    ("rusqlite", "sqlx is the one SQLite"),
    ("chrono", "jiff is the one calendar"),
];

pub(super) fn check(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for member in graph.members.values() {
        violations.extend(check_layer(graph, member));
        violations.extend(check_homes(member));
    }
    violations.extend(
        CLOSURES
            .iter()
            .flat_map(|closure| check_closure(graph, closure)),
    );
    violations.extend(
        BANNED
            .iter()
            .filter_map(|(name, why)| check_banned(graph, name, why)),
    );
    violations
}

fn check_layer(graph: &Graph, member: &Member) -> Vec<Violation> {
    let manifest = member.manifest.as_str();
    let Some(own) = member.layer else {
        if manifest.starts_with("crates/") {
            let fix = "add `layer = N` under [package.metadata.holdfast]";
            return vec![Violation::new(manifest, 1, "no layer", fix)];
        }
        return Vec::new();
    };
    let internal = member
        .normal
        .iter()
        .filter_map(|name| graph.members.get(name));
    internal
        .filter(|dependency| dependency.layer.is_none_or(|layer| layer >= own))
        .map(|dependency| {
            let layer = dependency
                .layer
                .map_or_else(|| "none".to_owned(), |layer| layer.to_string());
            let (name, used) = (&member.name, &dependency.name);
            let what = format!("{name} (layer {own}) depends on {used} (layer {layer})");
            Violation::new(
                manifest,
                1,
                what,
                "depend strictly downwards, or move the code",
            )
        })
        .collect()
}

fn check_homes(member: &Member) -> Vec<Violation> {
    HOMES
        .iter()
        .filter(|home| member.normal.contains(home.dependency))
        .filter(|home| home.dependency != member.name)
        .filter(|home| !home.crates.contains(&member.name.as_str()))
        .map(|home| {
            let what = format!("{} depends on {}", member.name, home.dependency);
            let homes = if home.crates.is_empty() {
                "nowhere"
            } else {
                &home.crates.join(", ")
            };
            let fix = format!("{}: allowed in {homes}, or as a dev-dependency", home.why);
            Violation::new(&member.manifest, 1, what, fix)
        })
        .collect()
}

fn check_closure(graph: &Graph, closure: &Closure) -> Vec<Violation> {
    let Some(member) = graph.members.get(closure.of) else {
        return Vec::new();
    };
    let reached = graph.closure(closure.of);
    closure
        .without
        .iter()
        .filter(|name| reached.contains(*name))
        .map(|name| {
            let what = format!("{} reaches {name} through its dependencies", closure.of);
            Violation::new(
                &member.manifest,
                1,
                what,
                format!("{}: cut the path", closure.why),
            )
        })
        .collect()
}

fn check_banned(graph: &Graph, name: &str, why: &str) -> Option<Violation> {
    let what = format!("{name} is built");
    let fix = format!("{why}: see `cargo tree --workspace -i {name}` and switch the feature off");
    graph
        .built
        .contains(name)
        .then(|| Violation::new("Cargo.toml", 1, what, fix))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::check;
    use crate::tidy::graph::{Graph, Member};

    fn member(name: &str, layer: Option<u64>, normal: &[&str]) -> (String, Member) {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let member = Member {
            name: name.to_owned(),
            manifest: format!("crates/{name}/Cargo.toml"),
            layer,
            normal: set(normal),
            dev: set(&["axum", "fuser"]),
        };
        (name.to_owned(), member)
    }

    fn whats(members: Vec<(String, Member)>, built: &[&str]) -> Vec<String> {
        let built = built.iter().map(ToString::to_string).collect();
        let graph = Graph {
            members: BTreeMap::from_iter(members),
            built,
        };
        check(&graph)
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    #[test]
    fn layers_point_strictly_down() {
        let low = || member("low", Some(0), &["libc"]);
        assert_eq!(
            whats(vec![low(), member("up", Some(1), &["low"])], &[]),
            [""; 0]
        );
        assert_eq!(
            whats(vec![low(), member("same", Some(0), &["low"])], &[]),
            ["same (layer 0) depends on low (layer 0)"]
        );
        assert_eq!(whats(vec![member("bare", None, &[])], &[]), ["no layer"]);
    }

    #[test]
    fn dangerous_crates_stay_at_home() {
        assert_eq!(
            whats(vec![member("image-mount", Some(4), &["fuser"])], &[]),
            [""; 0]
        );
        assert_eq!(
            whats(vec![member("image-fs", Some(3), &["fuser"])], &[]),
            ["image-fs depends on fuser"]
        );
        assert_eq!(whats(vec![], &["ring", "serde"]), ["ring is built"]);
    }

    #[test]
    fn closures_are_followed_to_the_end() {
        let members = vec![
            member("launch", Some(5), &["middle"]),
            member("middle", Some(4), &["vault"]),
            member("vault", Some(2), &[]),
        ];
        assert_eq!(
            whats(members, &[]),
            [
                "middle depends on vault",
                "launch reaches vault through its dependencies"
            ]
        );
    }
}
