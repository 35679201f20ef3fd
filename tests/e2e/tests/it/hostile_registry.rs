//! A registry that lies, floods and leads astray: each answer is refused by name, within bounds,
//! and nothing of it is stored.

use std::sync::Arc;

use e2e::Home;
use registry_sim::{
    Entry, Faults, Image, ImageBuilder, Layer, Login, RawHost, RawRequest, RegistrySim, Step,
};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::bounds::{self, Expected, indexes, refuses};
use crate::patience::{self, Reader};
use crate::support::{ENDS_WITHIN, noise, until_within};

/// What a body is said to be that nobody could hold.
const HUGE: u64 = 100 << 20;

/// Beyond this, what went out shows that somebody read on: the kernel's buffers hold a few
/// megabytes on either side.
const READ_MAX_BYTES: u64 = 64 << 20;

/// More than a connection's buffers, so that a reply can break off in the middle.
const LAYER_BYTES: usize = 600 << 10;

type Lie = Box<dyn Fn(&RawRequest, &Image) -> Option<Vec<Step>> + Send + Sync>;

struct Case {
    lie: Lie,
    expected: Expected,
}

fn case(
    kind: &'static str,
    says: &'static str,
    lie: impl Fn(&RawRequest, &Image) -> Option<Vec<Step>> + Send + Sync + 'static,
) -> Case {
    Case {
        lie: Box::new(lie),
        expected: Expected { kind, says },
    }
}

/// A lie about manifests, whatever is asked.
fn manifest(kind: &'static str, says: &'static str, steps: Vec<Step>) -> Case {
    case(kind, says, move |request, _| {
        request
            .path()
            .contains("/manifests/")
            .then(|| steps.clone())
    })
}

/// A lie about the layer.
fn layer(
    kind: &'static str,
    says: &'static str,
    lie: impl Fn(&RawRequest, &[u8]) -> Vec<Step> + Send + Sync + 'static,
) -> Case {
    case(kind, says, move |request, image| {
        let layer = &image.layers[0];
        request
            .path()
            .ends_with(&layer.digest)
            .then(|| lie(request, &layer.bytes))
    })
}

/// The layer breaks off, and the rest is asked for by its range: a lie about that.
fn rest(
    kind: &'static str,
    says: &'static str,
    lie: impl Fn(usize, &[u8]) -> Vec<Step> + Send + Sync + 'static,
) -> Case {
    layer(kind, says, move |request, bytes| {
        let Some(range) = request.header("range") else {
            let head = ok(&[&format!("Content-Length: {}", bytes.len())]);
            return vec![Step::Write([&head, &bytes[..bytes.len() / 2]].concat())];
        };
        let first = range.trim_start_matches("bytes=").split('-').next();
        let first = first.and_then(|first| first.parse().ok());
        lie(first.expect("a range that we would ask for"), bytes)
    })
}

/// The head of a reply; the connection ends with it.
fn head(status: &str, fields: &[&str]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn ok(fields: &[&str]) -> Vec<u8> {
    head("200 OK", fields)
}

fn whole(content_type: &str, body: &[u8]) -> Vec<Step> {
    let (kind, length) = (
        format!("Content-Type: {content_type}"),
        format!("Content-Length: {}", body.len()),
    );
    vec![Step::Write([&ok(&[&kind, &length]), body].concat())]
}

/// What an honest registry says.
fn honest(request: &RawRequest, image: &Image) -> Vec<Step> {
    let path = request.path();
    if path == "/v2/" {
        return whole("application/json", b"{}");
    }
    if path.contains("/manifests/") {
        return whole(&image.media_type, &image.manifest);
    }
    let blobs = image.layers.iter().chain([&image.config]);
    let found = blobs.into_iter().find(|blob| path.ends_with(&blob.digest));
    match found {
        Some(blob) => whole("application/octet-stream", &blob.bytes),
        None => vec![Step::Write(head("404 Not Found", &["Content-Length: 0"]))],
    }
}

fn small_image() -> Image {
    let noise = Entry::file("noise", noise(7, LAYER_BYTES));
    ImageBuilder::new().layer(Layer::gzip(&[noise])).build()
}

/// Each case gets a registry and a home; afterwards an honest registry is read as ever.
fn check_all(cases: Vec<(&'static str, Case)>) {
    let runtime = Runtime::new().expect("a runtime");
    let honest_one = runtime.block_on(RegistrySim::anonymous());
    let image = Arc::new(small_image());
    honest_one.push("acme/fn", "v1", &image);
    let honest_name = format!("{}/acme/fn:v1", honest_one.host());
    bounds::all(cases, |case| {
        let image = Arc::clone(&image);
        let lie = case.lie;
        let host = RawHost::start(move |request| {
            lie(request, &image).unwrap_or_else(|| honest(request, &image))
        });
        let home = Home::new();
        let name = format!("{}/acme/fn:v1", host.host());
        refuses(&home, &name, case.expected)?;
        let written = host.bytes_written();
        if written > READ_MAX_BYTES {
            return Err(format!("{written} bytes were read of it"));
        }
        indexes(&home, &honest_name)
    });
}

fn flood(fields: &[&str], start: &[u8], again: &[u8]) -> Vec<Step> {
    vec![
        Step::Write([&ok(fields), start].concat()),
        Step::Endless(again.to_vec()),
    ]
}

fn digest_of(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn manifest_json(layers: &serde_json::Value) -> Vec<u8> {
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of('a'), "size": 10 });
    let text = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    text.to_string().into_bytes()
}

fn layer_of_size(size: &str) -> Vec<u8> {
    let layers = json!([{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": digest_of('b'), "size": "SIZE" }]);
    let text = String::from_utf8(manifest_json(&layers)).expect("JSON is text");
    text.replace("\"SIZE\"", size).into_bytes()
}

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image's manifest after a change.
fn changed_manifest(image: &Image, change: impl FnOnce(&mut serde_json::Value)) -> Vec<Step> {
    let mut manifest = serde_json::from_slice(&image.manifest).expect("our own");
    change(&mut manifest);
    whole(&image.media_type, manifest.to_string().as_bytes())
}

#[test]
fn manifests_that_flood_are_refused() {
    let huge = format!("Content-Length: {HUGE}");
    let says = "longer than 4194304 bytes";
    let chunked = "Transfer-Encoding: chunked";
    let refused = |says, fields: &[&str], start: &[u8], again: &[u8]| {
        manifest("unreachable", says, flood(fields, start, again))
    };
    let huge_chunk = b"fffffffffffffffffffff\r\n";
    let packed = "Transfer-Encoding: gzip, chunked";
    let chunk = [&b"1000\r\n"[..], &[b' '; 0x1000], b"\r\n"].concat();
    check_all(vec![
        ("length stated", refused(says, &[&huge], b"{", b" ")),
        ("length unknown", refused(says, &[], b"{", b" ")),
        ("chunked", refused(says, &[chunked], b"1\r\n{\r\n", &chunk)),
        (
            "a chunk beyond all",
            refused("", &[chunked], huge_chunk, b" "),
        ),
        ("compressed transfer", refused("", &[packed], b"", &chunk)),
    ]);
}

#[test]
fn manifests_that_swell_are_refused() {
    let spaces = Layer::gzip_of(&vec![b' '; 32 << 20]);
    let bomb = ImageBuilder::new()
        .layer(spaces)
        .build()
        .layers
        .remove(0)
        .bytes;
    let length = format!("Content-Length: {}", bomb.len());
    let bomb = [&ok(&["Content-Encoding: gzip", &length])[..], &bomb].concat();
    let descriptor = json!({ "mediaType": "", "digest": digest_of('b'), "size": 1 });
    let many = manifest_json(&json!(vec![descriptor; 30_000]));
    let brackets = vec![b'['; 2 << 20];
    let (layers, no_manifest) = ("30000 layers are too many", "not a manifest");
    check_all(vec![
        (
            "compressed",
            manifest("corrupt", no_manifest, vec![Step::Write(bomb)]),
        ),
        (
            "30,000 layers",
            manifest("unsupported", layers, whole(IMAGE, &many)),
        ),
        (
            "brackets without end",
            manifest("corrupt", no_manifest, whole(IMAGE, &brackets)),
        ),
    ]);
}

#[test]
fn indexes_that_lead_nowhere_are_refused() {
    let offer = |number: usize| {
        json!({ "mediaType": IMAGE, "digest": format!("sha256:{number:064x}"), "size": 10,
            "platform": { "os": format!("os-{number}"), "architecture": "none" } })
    };
    let index = |offers: Vec<serde_json::Value>| {
        let text = json!({ "schemaVersion": 2, "manifests": offers });
        whole(INDEX, text.to_string().as_bytes())
    };
    let mut itself = offer(1);
    itself["platform"] = serde_json::Value::Null;
    let many = index((0..10_000).map(offer).collect());
    check_all(vec![
        (
            "itself",
            manifest("corrupt", "do not have its digest", index(vec![itself])),
        ),
        ("10,000 platforms", manifest("unsupported", "linux", many)),
        (
            "nothing",
            manifest("unsupported", "linux", index(Vec::new())),
        ),
    ]);
}

#[test]
fn manifests_that_are_none_are_refused() {
    let both = json!({ "schemaVersion": 2, "manifests": [], "layers": [], "config": null });
    let both = whole("text/plain", both.to_string().as_bytes());
    let says = "not a manifest";
    let of_size = |size: &str| manifest("corrupt", says, whole(IMAGE, &layer_of_size(size)));
    let page = whole("text/html", b"<html>hello</html>");
    let another = case("corrupt", "do not have its digest", |request, image| {
        let digest = format!("Docker-Content-Digest: {}", digest_of('c'));
        let head = ok(&[&digest]);
        let steps = vec![Step::Write([&head, &image.manifest[..]].concat())];
        request.path().contains("/manifests/").then_some(steps)
    });
    check_all(vec![
        (
            "two kinds at once",
            manifest("corrupt", "both layers and manifests", both),
        ),
        (
            "another kind",
            manifest("corrupt", "", whole(INDEX, &layer_of_size("1"))),
        ),
        ("a page", manifest("corrupt", says, page)),
        ("nothing", manifest("corrupt", says, whole(IMAGE, b""))),
        ("another digest", another),
        ("size -1", of_size("-1")),
        ("size 1e30", of_size("1e30")),
        ("size 1.5", of_size("1.5")),
        ("size 2^64", of_size("18446744073709551616")),
        ("size as text", of_size("\"1\"")),
    ]);
}

#[test]
fn sizes_that_lie_are_refused() {
    let large_config = case("unsupported", "104857600 bytes", |request, image| {
        let lie = |manifest: &mut serde_json::Value| manifest["config"]["size"] = json!(HUGE);
        let is_manifest = request.path().contains("/manifests/");
        is_manifest.then(|| changed_manifest(image, lie))
    });
    let endless_config = case(
        "corrupt",
        "more bytes came than it has",
        |request, image| {
            let is_config = request.path().ends_with(&image.config.digest);
            is_config.then(|| flood(&[], &image.config.bytes, b" "))
        },
    );
    let large_layer = case("corrupt", "for 18446744073709551615", |request, image| {
        let lie =
            |manifest: &mut serde_json::Value| manifest["layers"][0]["size"] = json!(u64::MAX);
        let is_manifest = request.path().contains("/manifests/");
        is_manifest.then(|| changed_manifest(image, lie))
    });
    check_all(vec![
        ("a configuration of 100 MB", large_config),
        ("a configuration without end", endless_config),
        ("a layer of 2^64-1 bytes", large_layer),
    ]);
}

/// Whatever is asked, this comes.
fn everything(kind: &'static str, says: &'static str, steps: Vec<Step>) -> Case {
    case(kind, says, move |_, _| Some(steps.clone()))
}

#[test]
fn heads_without_end_are_refused() {
    let endless = |start: &str, again: &str| {
        let steps = vec![Step::Write(start.into()), Step::Endless(again.into())];
        everything("unreachable", "", steps)
    };
    let refusal = |fields: &[&str]| vec![Step::Write(head("401 Unauthorized", fields))];
    let challenges = ["WWW-Authenticate: Bearer realm=\"x\""; 10_000];
    let in_one_line = format!("WWW-Authenticate: {}", "Basic realm=x, ".repeat(4000));
    let file = "WWW-Authenticate: Bearer realm=\"file:///etc/passwd\",service=\"s\"";
    check_all(vec![
        (
            "header lines",
            endless("HTTP/1.1 200 OK\r\n", "X-More: yes\r\n"),
        ),
        (
            "a header line",
            endless("HTTP/1.1 200 OK\r\nX-More: ", "yes"),
        ),
        ("a status line", endless("HTTP/1.1 200 ", "OK")),
        (
            "10,000 challenges",
            everything("unreachable", "", refusal(&challenges)),
        ),
        (
            "as many in a line",
            everything("denied", "", refusal(&[&in_one_line])),
        ),
        (
            "a challenge that leads to a file",
            everything("denied", "", refusal(&[file])),
        ),
    ]);
}

#[test]
fn heads_that_are_none_are_refused() {
    let all = |bytes: &[u8]| everything("unreachable", "", vec![Step::Write(bytes.to_vec())]);
    let of_manifest = |head: &str| {
        manifest(
            "unreachable",
            "",
            vec![Step::Write(format!("{head}\r\n\r\n{{}}").into())],
        )
    };
    let two_lengths = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3";
    let no_number = "HTTP/1.1 200 OK\r\nContent-Length: lots";
    check_all(vec![
        ("another protocol", all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        (
            "HTTP/2 unasked",
            all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        ),
        ("nothing at all", all(b"")),
        ("two lengths", of_manifest(two_lengths)),
        ("a length that is no number", of_manifest(no_number)),
    ]);
}

#[test]
fn redirects_that_lead_astray_are_refused() {
    let to = |kind, says, location: &str| {
        let location = format!("Location: {location}");
        let head = head("307 Temporary Redirect", &[&location, "Content-Length: 0"]);
        layer(kind, says, move |_, _| vec![Step::Write(head.clone())])
    };
    let elsewhere = "http://169.254.169.254/latest/meta-data";
    check_all(vec![
        (
            "in circles",
            case("unreachable", "in circles", |request, _| {
                let location = format!("Location: {}", request.path());
                let steps = vec![Step::Write(head("307 Temporary Redirect", &[&location]))];
                request.path().contains("/blobs/").then_some(steps)
            }),
        ),
        (
            "to a metadata service",
            to("denied", "169.254.169.254", elsewhere),
        ),
        (
            "to a metadata service by IPv6",
            to("denied", "fd00:ec2::254", "http://[fd00:ec2::254]/latest"),
        ),
        (
            "to a file",
            to("unreachable", "not http", "file:///etc/passwd"),
        ),
        ("to nowhere", to("unreachable", "", "http://")),
        (
            "with a password",
            to(
                "unreachable",
                "user name or password",
                "http://a:b@127.0.0.1:1/",
            ),
        ),
    ]);
}

#[test]
fn layers_that_are_not_what_they_say_are_refused() {
    let length = |bytes: usize| format!("Content-Length: {bytes}");
    let reply = |fields: &[&str], body: &[u8]| vec![Step::Write([&ok(fields), body].concat())];
    check_all(vec![
        (
            "a length too short",
            layer("corrupt", "sends 10 bytes for", move |_, bytes| {
                reply(&[&length(10)], &bytes[..10])
            }),
        ),
        (
            "a length too long",
            layer("corrupt", "bytes for", move |_, bytes| {
                reply(&[&length(bytes.len() + 1)], &[bytes, b"x"].concat())
            }),
        ),
        (
            "a huge length",
            layer("corrupt", "sends 4611686018427387904 bytes", |_, _| {
                flood(&["Content-Length: 4611686018427387904"], b"", b"x")
            }),
        ),
        (
            "bytes without end",
            layer("corrupt", "more bytes came", |_, bytes| {
                flood(&[], bytes, b"x")
            }),
        ),
        (
            "an end too early",
            layer("unreachable", "", move |request, bytes| {
                match request.header("range") {
                    None => reply(&[], &bytes[..1000]),
                    Some(_) => reply(&[], b""),
                }
            }),
        ),
        (
            "a part for the whole",
            layer("unreachable", "status 206", |_, bytes| {
                let range = format!("Content-Range: bytes 0-{}/{}", bytes.len() - 1, bytes.len());
                vec![Step::Write(
                    [&head("206 Partial Content", &[&range]), bytes].concat(),
                )]
            }),
        ),
        (
            "other bytes",
            layer("corrupt", "digest", move |_, bytes| {
                reply(&[&length(bytes.len())], &vec![0; bytes.len()])
            }),
        ),
        (
            "one byte of its trailer",
            layer("corrupt", "", move |_, bytes| {
                let mut other = bytes.to_vec();
                *other.last_mut().expect("not empty") ^= 1;
                reply(&[&length(bytes.len())], &other)
            }),
        ),
        (
            "compressed once more",
            layer("corrupt", "digest", move |_, bytes| {
                let other = vec![0; bytes.len()];
                reply(&["Content-Encoding: gzip", &length(bytes.len())], &other)
            }),
        ),
    ]);
}

#[test]
fn ranges_that_are_not_what_was_asked_for_are_refused() {
    let part = |range: &str, bytes: &[u8]| {
        let range = format!("Content-Range: {range}");
        vec![Step::Write(
            [&head("206 Partial Content", &[&range]), bytes].concat(),
        )]
    };
    let last = |bytes: &[u8]| bytes.len() - 1;
    check_all(vec![
        (
            "another range",
            rest("unreachable", "for bytes", move |first, bytes| {
                let range = format!("bytes {}-{}/{}", first - 1, last(bytes), bytes.len());
                part(&range, &bytes[first..])
            }),
        ),
        (
            "another total",
            rest("corrupt", "the manifest says", move |first, bytes| {
                part(
                    &format!("bytes {first}-{}/{}", last(bytes), u64::MAX),
                    &bytes[first..],
                )
            }),
        ),
        (
            "no range",
            rest("unreachable", "which part it is", |first, bytes| {
                let head = head("206 Partial Content", &[]);
                vec![Step::Write([&head, &bytes[first..]].concat())]
            }),
        ),
        (
            "several ranges",
            rest("unreachable", "which part it is", |_, _| {
                let kind = "Content-Type: multipart/byteranges; boundary=x";
                let body = b"--x\r\nContent-Range: bytes 0-9/10\r\n\r\n0123456789\r\n--x--";
                vec![Step::Write(
                    [&head("206 Partial Content", &[kind]), &body[..]].concat(),
                )]
            }),
        ),
        (
            "the whole, without end",
            rest("corrupt", "more bytes came", |_, bytes| {
                flood(&[], bytes, b"x")
            }),
        ),
        (
            "other bytes in the right range",
            rest("corrupt", "", move |first, bytes| {
                let range = format!("bytes {first}-{}/{}", last(bytes), bytes.len());
                let other: Vec<u8> = bytes[first..].iter().map(|byte| !byte).collect();
                part(&range, &other)
            }),
        ),
        (
            "more bytes than the range",
            rest("corrupt", "more bytes came", move |first, bytes| {
                let range = format!("bytes {first}-{}/{}", last(bytes), bytes.len());
                part(&range, &[&bytes[first..], b"more"].concat())
            }),
        ),
    ]);
}

#[test]
fn what_answers_a_handshake_with_noise_is_told() {
    for noise in [
        &b"\x15\x03\x03\x00\x02\x02\x28"[..],
        b"\x16\x03\x03\xff\xff\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\0\0\0\0\0",
    ] {
        let gone = |_: &RawRequest| Vec::new();
        let host = RawHost::with_tls_answer(noise, gone);
        let name = format!("{}/acme/fn:v1", host.host());
        let expected = Expected {
            kind: "unreachable",
            says: "127.0.0.1",
        };
        let refused = refuses(&Home::new(), &name, expected);
        assert_eq!(refused, Ok(()), "{noise:?}");
    }
}

type Fault = fn(&mut Faults);

#[test]
fn a_reader_gets_the_layers_own_bytes_or_none() {
    let runtime = Runtime::new().expect("a runtime");
    let registry = runtime.block_on(RegistrySim::with_login(Login::Basic));
    registry.push("acme/fn", "v1", &patience::image().build());
    let name = format!("{}/acme/fn:v1", registry.host());
    let faults: [(&str, Fault); 4] = [
        ("other bytes", |faults| faults.wrong_bytes = true),
        ("another range", |faults| faults.shift_range = 1),
        ("another length", |faults| faults.length_lie = -1),
        ("the whole", |faults| faults.ignore_range = true),
    ];
    for (what, fault) in faults {
        // A home that has seen a start would have what is asked for before the fault is there.
        let home = Home::new();
        home.login(registry.host(), "puller", "correct-horse-battery")
            .ok();
        let mut reader = Reader::start(&home, &name);
        // The shell is read lazily too: what it needs to say so comes first.
        reader.ask(99);
        assert_eq!(reader.line(), "failed\n", "{what}");
        registry.faults(fault);
        let asked = registry.registry().read().requests;
        reader.ask(4);
        until_within(ENDS_WITHIN, what, || {
            registry.registry().read().requests > asked
        });
        registry.faults(|faults| *faults = Faults::default());
        let line = reader.line();
        let honest = line == Reader::right(4) || line == "failed\n";
        assert!(honest, "{what}: {line:?}");
        reader.read(4);
        reader.end();
    }
}
