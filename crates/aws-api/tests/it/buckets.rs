//! Objects in a bucket of `moto`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_api::{AwsError, Bucket, BucketError, Keys, ObjectKey, Style};
use bytes::Bytes;
use credential::{ExposeSecret, SecretString};
use dial::header::{HeaderValue, RANGE};
use dial::{AddressPolicy, DialPolicy, Dialer, HttpClient, Request, TlsProfile, Url};
use jiff::Timestamp;
use registry_sim::Moto;

/// What a part has at least that is not the last.
const PART_BYTES: usize = 5 << 20;

fn keys() -> Keys {
    Keys {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "canary".to_owned().into(),
        session_token: Some("session+/=".to_owned().into()),
    }
}

fn client() -> HttpClient {
    let tls = TlsProfile {
        extra_ca_pem: Vec::new(),
        plain_http: true,
    };
    let addresses = AddressPolicy::for_host("127.0.0.1");
    let dialer = Dialer::new(DialPolicy::default());
    dialer.client(&tls, &addresses).expect("a client")
}

fn object(name: &str) -> ObjectKey {
    ObjectKey::parse(name).expect("a name of an object")
}

/// What anybody reads at this URL.
async fn got(http: &HttpClient, url: &SecretString, range: Option<&'static str>) -> (u16, Bytes) {
    let mut request = Request::get(Url::parse(url.expose_secret()).expect("a URL"));
    if let Some(range) = range {
        request = request.header(RANGE, HeaderValue::from_static(range));
    }
    let response = http.send(request).await.expect("an answer");
    let status = response.status.as_u16();
    (
        status,
        response.read_bounded(16 << 20).await.expect("a body"),
    )
}

#[tokio::test]
async fn objects_are_written_found_and_read_by_a_url_that_says_nothing_secret() {
    let moto = Moto::start(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let endpoint = Url::parse(&moto.bucket("spans").endpoint).expect("a URL");
    let bucket = Bucket::new(&endpoint, "spans", "eu-west-1", Style::Path).expect("a bucket");
    let (http, keys) = (client(), keys());
    let way = (&http, &Timestamp::now as _);
    let life = (Timestamp::now(), Duration::from_mins(5));

    let whole = object("v1/a/b.c_d");
    assert_eq!(bucket.head(way, &keys, &whole).await.expect("a look"), None);
    let body = Bytes::from_static(b"0123456789");
    bucket.put(way, &keys, &whole, body).await.expect("written");
    assert_eq!(
        bucket.head(way, &keys, &whole).await.expect("a look"),
        Some(10)
    );
    let url = bucket.presign_get(&keys, &whole, life).expect("a URL");
    assert_eq!(got(&http, &url, None).await, (200, "0123456789".into()));
    assert_eq!(
        got(&http, &url, Some("bytes=2-4")).await,
        (206, "234".into())
    );
    assert!(!url.expose_secret().contains("canary"));
    assert!(!format!("{url:?}").contains("X-Amz"));

    let parts = object("parts");
    let upload = bucket.begin(way, &keys, &parts).await.expect("begun");
    let mut taken = Vec::new();
    for (number, body) in [(1, vec![1; PART_BYTES]), (2, vec![2; 10])] {
        let part = bucket.put_part(way, &keys, &upload, (number, body.into()));
        taken.push(part.await.expect("taken"));
        let found = bucket.head(way, &keys, &parts).await.expect("a look");
        assert_eq!(found, None, "before the last word");
    }
    bucket
        .finish(way, &keys, &upload, &taken)
        .await
        .expect("there");
    let length = bucket.head(way, &keys, &parts).await.expect("a look");
    assert_eq!(length, Some(PART_BYTES as u64 + 10));
    let url = bucket.presign_get(&keys, &parts, life).expect("a URL");
    let seam = got(&http, &url, Some("bytes=5242879-5242880")).await;
    assert_eq!(seam, (206, Bytes::from_static(&[1, 2])));

    let given_up = bucket
        .begin(way, &keys, &object("never"))
        .await
        .expect("begun");
    bucket
        .abandon(way, &keys, &given_up)
        .await
        .expect("nothing left");
    bucket
        .abandon(way, &keys, &given_up)
        .await
        .expect("as before");

    let absent = Bucket::new(&endpoint, "absent", "eu-west-1", Style::Path).expect("a bucket");
    let refused = absent
        .put(way, &keys, &whole, Bytes::from_static(b"x"))
        .await;
    let Err(AwsError::Refused { name, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(name, "NoSuchBucket", "{message}");
}

#[test]
fn a_bucket_is_named_in_the_path_or_in_the_host() {
    let bucket = |endpoint: &str, name, style| {
        let endpoint = Url::parse(endpoint).expect("a URL");
        Bucket::new(&endpoint, name, "eu-west-1", style)
    };
    let url = |endpoint, style| {
        let bucket = bucket(endpoint, "spans", style).expect("a bucket");
        let life = (Timestamp::UNIX_EPOCH, Duration::from_mins(1));
        let url = bucket.presign_get(&keys(), &object("a/b"), life);
        let url = url.expect("a URL").expose_secret().to_owned();
        url.split_once('?').expect("a query").0.to_owned()
    };
    for (endpoint, style, expected) in [
        (
            "https://s3.example.com",
            Style::Path,
            "https://s3.example.com/spans/a/b",
        ),
        (
            "https://s3.example.com",
            Style::Host,
            "https://spans.s3.example.com/a/b",
        ),
        ("http://h:9000/", Style::Path, "http://h:9000/spans/a/b"),
        ("http://h:9000/", Style::Host, "http://spans.h:9000/a/b"),
    ] {
        assert_eq!(url(endpoint, style), expected);
    }
    let hosted = bucket("http://h:9000", "spans", Style::Host).expect("a bucket");
    assert_eq!((hosted.name(), hosted.host()), ("spans", "spans.h:9000"));
    let local = bucket("http://[::1]:9000", "spans", Style::Path).expect("a bucket");
    assert_eq!((local.bare_host(), local.host()), ("::1", "[::1]:9000"));

    for (endpoint, name, style, expected) in [
        ("https://h", "Spans", Style::Path, BucketError::Name),
        ("https://h", "a", Style::Path, BucketError::Name),
        ("https://h", "a/../b", Style::Path, BucketError::Name),
        ("https://h", "a..b", Style::Path, BucketError::Name),
        ("https://h", "a.b", Style::Host, BucketError::Name),
        (
            "https://h/path",
            "spans",
            Style::Path,
            BucketError::Endpoint,
        ),
        ("https://u:p@h", "spans", Style::Path, BucketError::Endpoint),
        ("https://h?q", "spans", Style::Path, BucketError::Endpoint),
        ("ftp://h", "spans", Style::Path, BucketError::Endpoint),
        (
            "https://10.0.0.1",
            "spans",
            Style::Host,
            BucketError::Endpoint,
        ),
    ] {
        let refused = bucket(endpoint, name, style).expect_err("no bucket");
        assert_eq!(refused, expected, "{endpoint} {name}");
    }
    for key in ["", "/a", "a/", "a//b", "a/../b", "a b", "a%2e", "\u{e4}"] {
        assert_eq!(ObjectKey::parse(key), Err(BucketError::Key), "{key:?}");
    }
    let long = "a".repeat(1025);
    assert_eq!(ObjectKey::parse(&long), Err(BucketError::Key));
}
