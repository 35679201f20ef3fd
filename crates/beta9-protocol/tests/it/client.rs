//! Our .proto files against what real clients put on the wire.
//!
//! `client-VERSION.txt` are facts that `describe_client.py` read off installed clients. A field
//! that only one of them has is held to that one.

use std::collections::{BTreeMap, BTreeSet};

use beta9_protocol::DESCRIPTORS;

use crate::facts::Facts;

const CLIENTS: [(&str, &str); 2] = [
    ("0.1.245", include_str!("../client-0.1.245.txt")),
    ("0.1.291", include_str!("../client-0.1.291.txt")),
];

/// The one field that the clients name differently: number and type are the same.
const RENAMED: (&str, &str, i32) = ("0.1.245", "PoolConfig", 3);

/// What a client would read and we never say, by message and number.
const LEFT_OUT: &[(&str, &[i32])] = &[
    ("CreateObjectDeltaResponse", &[2, 3, 4]),
    ("CreateObjectResponse", &[6, 7]),
    ("ExportWorkspaceConfigResponse", &[8]),
    ("GetOrCreateStubResponse", &[5, 6, 7]),
    ("ObjectUploadPart", &[1, 2, 3, 4]),
    ("VolumeInstance", &[3, 4, 5, 6, 7]),
];

fn clients() -> [(&'static str, Facts); 2] {
    CLIENTS.map(|(version, text)| (version, Facts::parse(text)))
}

#[test]
fn methods_are_the_clients() {
    let ours = Facts::decode(DESCRIPTORS);
    let mut known = BTreeSet::new();
    for (version, client) in clients() {
        for (path, sides) in client.methods {
            assert_eq!(ours.methods.get(&path), Some(&sides), "{path} of {version}");
            known.insert(path);
        }
    }
    assert_eq!(known, ours.methods.into_keys().collect());
}

#[test]
fn fields_that_are_declared_are_the_clients() {
    let ours = Facts::decode(DESCRIPTORS);
    let mut unknown: BTreeSet<_> = ours.fields.keys().collect();
    for (version, client) in clients() {
        for (key, theirs) in &client.fields {
            let Some(said) = ours.fields.get(key) else {
                continue;
            };
            unknown.remove(key);
            let renamed = (version, key.0.as_str(), key.1) == RENAMED;
            assert_eq!(theirs[1..], said[1..], "{key:?} of {version}");
            assert_eq!(theirs[0] != said[0], renamed, "{key:?} of {version}");
        }
    }
    assert!(unknown.is_empty(), "no client has {unknown:?}");
}

#[test]
fn values_are_the_clients() {
    let ours = Facts::decode(DESCRIPTORS);
    for (version, client) in clients() {
        assert_eq!(client.values, ours.values, "{version}");
    }
}

#[test]
fn fields_that_clients_send_are_declared() {
    let ours = Facts::decode(DESCRIPTORS);
    for (version, client) in clients() {
        let sent = client.sent();
        assert!(
            sent.contains("PoolConfig") && !sent.contains("Task"),
            "{sent:?}"
        );
        for key in client.fields.keys() {
            let needed = sent.contains(key.0.as_str());
            assert!(
                !needed || ours.fields.contains_key(key),
                "{key:?} of {version}"
            );
        }
    }
}

#[test]
fn fields_that_are_left_out_are_known() {
    let ours = Facts::decode(DESCRIPTORS);
    let mut left_out: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for (_, client) in clients() {
        for key in client.fields.into_keys() {
            if !ours.fields.contains_key(&key) {
                left_out.entry(key.0).or_default().insert(key.1);
            }
        }
    }
    let expected = LEFT_OUT.iter().map(|(message, numbers)| {
        let numbers = numbers.iter().copied().collect();
        ((*message).to_owned(), numbers)
    });
    assert_eq!(left_out, expected.collect());
}
