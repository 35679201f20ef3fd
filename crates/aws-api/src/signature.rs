//! Signature version 4, which shows that we have a key without sending it.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningInstructions, SigningSettings, UriPathNormalizationMode, sign as sign_http,
};
use aws_sigv4::sign::v4::SigningParams;
use credential::{ExposeSecret, SecretString};
use dial::header::{HeaderName, HeaderValue};
use dial::{Request, Url};
use jiff::Timestamp;

use crate::error::AwsError;
use crate::keys::Keys;

/// The name of where keys come from, which the signer keeps beside them.
const SOURCE: &str = "holdfast";

/// The service that stores objects, whose signatures have rules of their own.
pub(crate) const STORAGE: &str = "s3";

/// What a signature counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) service: &'static str,
    pub(crate) region: &'a str,
}

/// The request with date and signature for this scope.
pub(crate) fn sign(
    mut request: Request,
    keys: &Keys,
    scope: Scope<'_>,
    now: Timestamp,
) -> Result<Request, AwsError> {
    let headers = request.headers.iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(
        request.method.as_str(),
        request.url.as_str(),
        headers,
        SignableBody::Bytes(&request.body),
    )
    .map_err(|_| AwsError::NoRequest)?;
    let instructions = instructions(signable, keys, scope, (settings(scope), now))?;
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| AwsError::NoRequest)?;
        let mut value = HeaderValue::try_from(value).map_err(|_| AwsError::NoRequest)?;
        value.set_sensitive(true);
        request.headers.insert(name, value);
    }
    Ok(request)
}

/// A URL with which anybody gets this object until then.
pub(crate) fn presign_get(
    mut url: Url,
    keys: &Keys,
    scope: Scope<'_>,
    (now, life): (Timestamp, Duration),
) -> Result<SecretString, AwsError> {
    let mut settings = settings(scope);
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(life);
    let no_headers = std::iter::empty();
    let body = SignableBody::UnsignedPayload;
    let signable = SignableRequest::new("GET", url.as_str(), no_headers, body);
    let signable = signable.map_err(|_| AwsError::NoRequest)?;
    let instructions = instructions(signable, keys, scope, (settings, now))?;
    url.query_pairs_mut().extend_pairs(instructions.params());
    Ok(String::from(url).into())
}

/// Objects have names that are signed as they are sent, and with the digest of what is sent.
fn settings(scope: Scope<'_>) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if scope.service == STORAGE {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

fn instructions(
    signable: SignableRequest<'_>,
    keys: &Keys,
    scope: Scope<'_>,
    (settings, now): (SigningSettings, Timestamp),
) -> Result<SigningInstructions, AwsError> {
    let token = keys.session_token.as_ref();
    let identity = Credentials::new(
        &keys.access_key_id,
        keys.secret_access_key.expose_secret(),
        token.map(|token| token.expose_secret().to_owned()),
        None,
        SOURCE,
    )
    .into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(system_time(now))
        .settings(settings)
        .build()
        .map_err(|_| AwsError::NoRequest)?
        .into();
    // The error could repeat a header, and one of them may be the session token.
    let signed = sign_http(signable, &params).map_err(|_| AwsError::NoRequest)?;
    Ok(signed.into_parts().0)
}

fn system_time(time: Timestamp) -> SystemTime {
    let since_epoch = Duration::try_from(time.as_duration()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + since_epoch
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dial::Method;
    use dial::header::AUTHORIZATION;

    use super::*;
    use crate::operation::{Input, Operation};

    const SESSION_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZ\
        TwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUp\
        p2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xV\
        qr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    fn keys(session_token: Option<&str>) -> Keys {
        Keys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
            session_token: session_token.map(|token| token.to_owned().into()),
        }
    }

    fn operation(host: &str, service: &'static str, region: &'static str) -> Operation<'static> {
        Operation {
            host: host.to_owned(),
            service,
            region,
            input: Input::Json {
                target: "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
                body: Bytes::from_static(b"{}"),
            },
            shown: "",
            permission: "",
        }
    }

    fn signed(request: Request, keys: &Keys, scope: Scope<'_>, at: &str) -> String {
        let signed = sign(request, keys, scope, at.parse().unwrap()).unwrap();
        signed.headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// A request of the test suite that AWS publishes for this version, and its signature.
    struct Published {
        name: &'static str,
        method: Method,
        /// What stands behind the host.
        path: &'static str,
        headers: &'static [(&'static str, &'static str)],
        body: &'static [u8],
        session_token: Option<&'static str>,
        signature: &'static str,
    }

    /// One without a query, headers and a body.
    const fn published(name: &'static str, method: Method, signature: &'static str) -> Published {
        Published {
            name,
            method,
            path: "/",
            headers: &[],
            body: b"",
            session_token: None,
            signature,
        }
    }

    fn with(headers: &'static [(&'static str, &'static str)], request: Published) -> Published {
        Published { headers, ..request }
    }

    fn gets() -> Vec<Published> {
        let get = |name, path, signature| Published {
            path,
            ..published(name, Method::GET, signature)
        };
        vec![
            get(
                "vanilla",
                "/",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            get(
                "vanilla-query-order-key",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            get(
                "vanilla-query-order-value",
                "/?Param1=value2&Param1=value1",
                "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
            ),
            get(
                "vanilla-empty-query-key",
                "/?Param1=value1",
                "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            ),
            get(
                "vanilla-utf8-query",
                "/?\u{1234}=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            get(
                "unreserved",
                "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            get(
                "relative-relative",
                "/example1/example2/../..",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            get(
                "slash-pointless-dot",
                "/./example",
                "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
            ),
            with(
                &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
                get(
                    "header-value-trim",
                    "/",
                    "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
                ),
            ),
        ]
    }

    fn posts() -> Vec<Published> {
        let post = |name, signature| published(name, Method::POST, signature);
        vec![
            post(
                "vanilla",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            Published {
                session_token: Some(SESSION_TOKEN),
                ..post(
                    "sts-header-before",
                    "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
                )
            },
            Published {
                path: "/?Param1=value1",
                ..post(
                    "vanilla-query",
                    "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
                )
            },
            with(
                &[("my-header1", "value1")],
                post(
                    "header-key-sort",
                    "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
                ),
            ),
            with(
                &[("my-header1", "VALUE1")],
                post(
                    "header-value-case",
                    "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
                ),
            ),
            Published {
                body: b"Param1=value1",
                ..with(
                    &[("content-type", "application/x-www-form-urlencoded")],
                    post(
                        "x-www-form-urlencoded",
                        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
                    ),
                )
            },
        ]
    }

    #[test]
    fn signatures_are_those_of_the_published_suite() {
        let example = Scope {
            service: "service",
            region: "us-east-1",
        };
        for vector in gets().into_iter().chain(posts()) {
            let url = format!("https://example.amazonaws.com{}", vector.path);
            let mut request = Request::new(vector.method, Url::parse(&url).unwrap());
            request.body = Bytes::from_static(vector.body);
            for (name, value) in vector.headers {
                let name = HeaderName::from_static(name);
                request = request.header(name, HeaderValue::from_static(value));
            }
            let keys = keys(vector.session_token);
            let signed = signed(request, &keys, example, "2015-08-30T12:36:00Z");
            let scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
            let (algorithm, rest) = signed.split_once(" Credential=").unwrap();
            let (credential, rest) = rest.split_once(", SignedHeaders=").unwrap();
            let (headers, signature) = rest.split_once(", Signature=").unwrap();
            assert_eq!((algorithm, credential), ("AWS4-HMAC-SHA256", scope));
            assert_eq!(signature, vector.signature, "{} {headers}", vector.name);
        }
    }

    /// As botocore 1.44.8 signs the request for a token.
    #[test]
    fn requests_for_tokens_are_signed_as_by_botocore() {
        let ecr = operation("api.ecr.eu-west-1.amazonaws.com", "ecr", "eu-west-1");
        let cases = [
            (
                None,
                "content-type;host;x-amz-date;x-amz-target",
                "b156d90df9069437ad06b5af9dae10bead577fada11306faa1ee226c93d9d962",
            ),
            (
                Some("session-token"),
                "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
                "ee975571b0cbe775ba7242f72cad73101b9376c94cc69d6371f20e0ee782b787",
            ),
        ];
        for (session_token, headers, signature) in cases {
            let request = ecr.request().unwrap();
            let at = "2026-11-28T08:51:36Z";
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261128/eu-west-1/ecr/aws4_request, \
                 SignedHeaders={headers}, Signature={signature}"
            );
            assert_eq!(
                signed(request, &keys(session_token), ecr.scope(), at),
                expected
            );
        }
    }

    /// The keys, time and place of the examples in the documentation of S3.
    const STORED: (&str, &str) = (
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    );
    const STORED_AT: &str = "2013-05-24T00:00:00Z";
    const STORAGE_SCOPE: Scope<'_> = Scope {
        service: STORAGE,
        region: "us-east-1",
    };

    fn storage_keys() -> Keys {
        Keys {
            access_key_id: STORED.0.to_owned(),
            secret_access_key: STORED.1.to_owned().into(),
            session_token: None,
        }
    }

    fn storage_url(rest: &str) -> Url {
        Url::parse(&format!("https://examplebucket.s3.amazonaws.com/{rest}")).unwrap()
    }

    #[test]
    fn requests_for_objects_are_signed_as_the_documentation_does() {
        let get = |rest| Request::get(storage_url(rest));
        let with = |request: Request, name, value| {
            request.header(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut put = Request::new(Method::PUT, storage_url("test%24file.text"));
        put.body = Bytes::from_static(b"Welcome to Amazon S3.");
        let put = with(put, "date", "Fri, 24 May 2013 00:00:00 GMT");
        let put = with(put, "x-amz-storage-class", "REDUCED_REDUNDANCY");
        let cases = [
            (
                with(get("test.txt"), "range", "bytes=0-9"),
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                put,
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
            (
                get("?lifecycle"),
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                get("?max-keys=2&prefix=J"),
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ];
        for (request, signature) in cases {
            let shown = format!("{request:?}");
            let signed = signed(request, &storage_keys(), STORAGE_SCOPE, STORED_AT);
            assert!(
                signed.ends_with(&format!("Signature={signature}")),
                "{shown}: {signed}"
            );
        }
    }

    #[test]
    fn a_url_is_signed_as_the_documentation_does() {
        let life = (STORED_AT.parse().unwrap(), Duration::from_hours(24));
        let signed = presign_get(
            storage_url("test.txt"),
            &storage_keys(),
            STORAGE_SCOPE,
            life,
        );
        let signed = signed.unwrap();
        let expected = "https://examplebucket.s3.amazonaws.com/test.txt\
            ?X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
            &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=\
            aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        let ordered = |url: &str| {
            let (path, query) = url.split_once('?').unwrap();
            let mut pairs: Vec<_> = query.split('&').map(str::to_owned).collect();
            pairs.sort();
            (path.to_owned(), pairs)
        };
        assert_eq!(ordered(signed.expose_secret()), ordered(expected));
    }
}
