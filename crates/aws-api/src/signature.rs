//! Signature version 4, which shows that we have a key without sending it.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_http};
use aws_sigv4::sign::v4::SigningParams;
use credential::ExposeSecret;
use dial::Request;
use dial::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::error::AwsError;
use crate::keys::Keys;
use crate::operation::Operation;

/// The name of where keys come from, which the signer keeps beside them.
const SOURCE: &str = "holdfast";

/// The request with date and signature for this operation's service and region.
pub(crate) fn sign(
    mut request: Request,
    keys: &Keys,
    operation: &Operation<'_>,
    now: Timestamp,
) -> Result<Request, AwsError> {
    let identity = Credentials::new(
        &keys.access_key_id,
        keys.secret_access_key.expose_secret(),
        keys.session_token
            .as_ref()
            .map(|token| token.expose_secret().to_owned()),
        None,
        SOURCE,
    )
    .into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(operation.region)
        .name(operation.service)
        .time(system_time(now))
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| AwsError::NoRequest)?
        .into();
    let headers = request.headers.iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(
        request.method.as_str(),
        request.url.as_str(),
        headers,
        SignableBody::Bytes(&request.body),
    )
    .map_err(|_| AwsError::NoRequest)?;
    // The error could repeat a header, and one of them may be the session token.
    let signed = sign_http(signable, &params).map_err(|_| AwsError::NoRequest)?;
    let (instructions, _signature) = signed.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| AwsError::NoRequest)?;
        let mut value = HeaderValue::try_from(value).map_err(|_| AwsError::NoRequest)?;
        value.set_sensitive(true);
        request.headers.insert(name, value);
    }
    Ok(request)
}

fn system_time(time: Timestamp) -> SystemTime {
    let since_epoch = Duration::try_from(time.as_duration()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + since_epoch
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dial::header::AUTHORIZATION;
    use dial::{Method, Url};

    use super::*;
    use crate::operation::Input;

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

    fn signed(request: Request, keys: &Keys, operation: &Operation<'_>, at: &str) -> String {
        let signed = sign(request, keys, operation, at.parse().unwrap()).unwrap();
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
        let example = operation("example.amazonaws.com", "service", "us-east-1");
        for vector in gets().into_iter().chain(posts()) {
            let url = format!("https://example.amazonaws.com{}", vector.path);
            let mut request = Request::new(vector.method, Url::parse(&url).unwrap());
            request.body = Bytes::from_static(vector.body);
            for (name, value) in vector.headers {
                let name = HeaderName::from_static(name);
                request = request.header(name, HeaderValue::from_static(value));
            }
            let keys = keys(vector.session_token);
            let signed = signed(request, &keys, &example, "2015-08-30T12:36:00Z");
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
            assert_eq!(signed(request, &keys(session_token), &ecr, at), expected);
        }
    }
}
