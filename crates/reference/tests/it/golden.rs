//! The table of names in `tests/data/references.txt`, row by row.

use reference::{Digest, ParseReferenceError, Reference, Registry, Selector};

const TABLE: &str = include_str!("../data/references.txt");
/// What the table must keep, at least, so that it is never emptied by mistake.
const LEAST_ROWS: usize = 150;
const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

enum Row {
    Good {
        registry: String,
        repository: String,
        tag: String,
        digest: String,
        canonical: String,
    },
    Bad {
        kind: String,
    },
}

fn rows() -> Vec<(String, Row)> {
    let lines = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<(String, Row)> = lines.map(row).collect();
    assert!(rows.len() >= LEAST_ROWS, "only {} rows", rows.len());
    rows
}

fn row(line: &str) -> (String, Row) {
    if let Some((input, kind)) = line.split_once(" ! ") {
        return (
            expand(input),
            Row::Bad {
                kind: kind.to_owned(),
            },
        );
    }
    let (input, parts) = line.split_once(" = ").expect(line);
    let parts: Vec<String> = parts.split(" | ").map(expand).collect();
    let [registry, repository, tag, digest, canonical] = parts.try_into().expect(line);
    (
        expand(input),
        Row::Good {
            registry,
            repository,
            tag,
            digest,
            canonical,
        },
    )
}

/// Resolves the escapes and stand-ins that the table's head explains.
fn expand(text: &str) -> String {
    let text = text
        .replace("{hex512}", &HEX.repeat(2))
        .replace("{hex}", HEX);
    let text = text.replace("{HEX}", &HEX.to_uppercase());
    let mut expanded = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(['\\', '{']) {
        expanded.push_str(&rest[..start]);
        let (piece, length) = match rest.as_bytes()[start] {
            b'\\' => escape(&rest[start + 1..]),
            _ => stand_in(&rest[start + 1..]),
        };
        expanded.push_str(&piece);
        rest = &rest[start + 1 + length..];
    }
    expanded + rest
}

fn escape(rest: &str) -> (String, usize) {
    let plain = |text: &str| (text.to_owned(), 1);
    match rest.as_bytes()[0] {
        b'n' => plain("\n"),
        b'r' => plain("\r"),
        b't' => plain("\t"),
        b'\\' => plain("\\"),
        b'u' => {
            let code = u32::from_str_radix(&rest[1..5], 16).expect(rest);
            (char::from_u32(code).expect(rest).to_string(), 5)
        }
        _ => panic!("unknown escape: {rest}"),
    }
}

fn stand_in(rest: &str) -> (String, usize) {
    let (name, _) = rest.split_once('}').expect(rest);
    let number = |text: &str| text.parse::<usize>().expect(rest);
    let text = match (name.strip_prefix("host"), name.strip_prefix("label")) {
        (Some(length), _) => host_of(number(length)),
        (_, Some(length)) => "a".repeat(number(length)),
        _ => "a".repeat(number(name)),
    };
    (text, name.len() + 1)
}

/// A host of this many bytes whose labels are all short enough.
fn host_of(length: usize) -> String {
    let host = "abcdefghi.".repeat(length.div_ceil(10));
    let mut host = host[..length].to_owned();
    if host.ends_with('.') {
        host.replace_range(length - 1.., "x");
    }
    host
}

#[test]
fn every_row_of_the_table() {
    for (input, row) in rows() {
        match (Reference::parse(&input), row) {
            (
                Ok(found),
                Row::Good {
                    registry,
                    repository,
                    tag,
                    digest,
                    canonical,
                },
            ) => {
                assert_eq!(found.typed(), input);
                assert_eq!(found.registry().as_str(), registry, "{input}");
                assert_eq!(found.repository(), repository, "{input}");
                assert_eq!(found.tag().unwrap_or("-"), tag, "{input}");
                assert_eq!(
                    found.digest().map_or("-", Digest::as_str),
                    digest,
                    "{input}"
                );
                let implied = format!("{registry}/{repository}{}", suffix(&tag, &digest));
                let canonical = if canonical == "." { implied } else { canonical };
                assert_eq!(found.canonical(), canonical, "{input}");
            }
            (Err(error), Row::Bad { kind }) => assert_eq!(kind_of(&error), kind, "{input:?}"),
            (Ok(found), Row::Bad { kind }) => panic!("{input:?} is {found:?}, not {kind}"),
            (Err(error), Row::Good { .. }) => panic!("{input:?}: {error}"),
        }
    }
}

fn suffix(tag: &str, digest: &str) -> String {
    match (tag, digest) {
        ("-", "-") => ":latest".to_owned(),
        (tag, "-") => format!(":{tag}"),
        (_, digest) => format!("@{digest}"),
    }
}

fn kind_of(error: &ParseReferenceError) -> &'static str {
    match error {
        ParseReferenceError::Empty => "empty",
        ParseReferenceError::TooLong => "too-long",
        ParseReferenceError::Scheme => "scheme",
        ParseReferenceError::ImageId => "image-id",
        ParseReferenceError::Registry(_) => "registry",
        ParseReferenceError::Repository(_) => "repository",
        ParseReferenceError::EmptyTag
        | ParseReferenceError::TagTooLong
        | ParseReferenceError::Tag { .. } => "tag",
        ParseReferenceError::Digest(_) => "digest",
    }
}

#[test]
fn canonical_forms_read_back_as_themselves() {
    for (input, row) in rows() {
        if let Row::Good { .. } = row {
            let found = Reference::parse(&input).expect(&input);
            let canonical = found.canonical();
            let back = Reference::parse(&canonical).expect(&canonical);
            assert_eq!((back.canonical(), &back), (canonical, &found));
            assert_eq!(back.registry(), found.registry());
            let registry = Registry::parse(&found.registry().canonical()).expect(&input);
            assert_eq!(&registry, found.registry());
        }
    }
}

#[test]
fn names_that_mean_one_pull_are_equal() {
    let equal = [
        ["ubuntu", "registry-1.docker.io:443/library/ubuntu:latest"],
        ["docker://GCR.io/x", "gcr.io:443/x:latest"],
        ["[::1]:443/x", "[0:0::1]/x"],
        ["Foo/x", "foo:443/x"],
    ];
    for [left, right] in equal {
        assert_eq!(Reference::parse(left), Reference::parse(right));
    }
    let pinned = format!("x.io/a@sha256:{HEX}");
    assert_eq!(
        Reference::parse(&format!("x.io/a:1@sha256:{HEX}")),
        Reference::parse(&pinned)
    );
    let different = [
        ["foo:443/x", "foo/x"],
        ["x.io:80/a", "x.io/a"],
        ["x.io/a:1", "x.io/a:2"],
    ];
    for [left, right] in different {
        assert_ne!(Reference::parse(left), Reference::parse(right));
    }
}

#[test]
fn a_pinned_name_keeps_its_tag() {
    let digest = Digest::parse(&format!("sha256:{HEX}")).expect("well formed");
    let pinned = Reference::parse("ubuntu:22.04")
        .expect("well formed")
        .pinned(digest.clone());
    assert_eq!(
        pinned.typed(),
        format!("docker.io/library/ubuntu:22.04@sha256:{HEX}")
    );
    assert_eq!(pinned.tag(), Some("22.04"));
    assert_eq!(pinned.selector(), Selector::Digest(digest));
    assert_eq!(Reference::parse(pinned.typed()), Ok(pinned));
}

#[test]
fn registries_know_where_to_dial() {
    let table = [
        (
            "docker.io",
            "registry-1.docker.io",
            "docker.io",
            None,
            false,
        ),
        (
            "INDEX.docker.io:443",
            "registry-1.docker.io",
            "docker.io",
            None,
            false,
        ),
        (
            "docker.io:5000",
            "docker.io:5000",
            "docker.io",
            Some(5000),
            false,
        ),
        ("ghcr.io:443", "ghcr.io:443", "ghcr.io", Some(443), false),
        ("localhost", "localhost", "localhost", None, true),
        ("127.8.9.1:80", "127.8.9.1:80", "127.8.9.1", Some(80), true),
        ("[::1]:5000", "[::1]:5000", "::1", Some(5000), true),
        (
            "[::ffff:127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "::ffff:127.0.0.1",
            None,
            true,
        ),
        ("128.0.0.1", "128.0.0.1", "128.0.0.1", None, false),
        (
            "127.0.0.1.evil.com",
            "127.0.0.1.evil.com",
            "127.0.0.1.evil.com",
            None,
            false,
        ),
        (
            "localhost.evil.com",
            "localhost.evil.com",
            "localhost.evil.com",
            None,
            false,
        ),
    ];
    for (text, endpoint, host, port, loopback) in table {
        let registry = Registry::parse(text).expect(text);
        assert_eq!(registry.endpoint(), endpoint);
        assert_eq!((registry.host(), registry.port()), (host, port), "{text}");
        assert_eq!(registry.is_loopback(), loopback, "{text}");
        assert_eq!(
            registry.is_docker_hub(),
            endpoint == "registry-1.docker.io",
            "{text}"
        );
    }
}

#[test]
fn errors_do_not_repeat_a_password() {
    for text in [
        "https://user:CANARY@foo.com/x",
        "user:CANARY@foo.com/x",
        "foo.com/CANARY",
    ] {
        let error = Reference::parse(text).expect_err(text);
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}
