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
    use dial::header::{AUTHORIZATION, CONTENT_TYPE};
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

    /// Requests of the test suite that AWS publishes for this version, and their signatures.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        let example = operation("example.amazonaws.com", "service", "us-east-1");
        let url = |text: &str| Url::parse(text).unwrap();
        let get = |text: &str| Request::get(url(text));
        let post = || Request::new(Method::POST, url("https://example.amazonaws.com/"));
        let mut form = post().header(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        form.body = Bytes::from_static(b"Param1=value1");
        let plain = keys(None);
        let temporary = keys(Some(SESSION_TOKEN));
        let cases = [
            (
                get("https://example.amazonaws.com/"),
                &plain,
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                get("https://example.amazonaws.com/?Param2=value2&Param1=value1"),
                &plain,
                "host;x-amz-date",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                post(),
                &plain,
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                post(),
                &temporary,
                "host;x-amz-date;x-amz-security-token",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
            (
                form,
                &plain,
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ];
        for (request, keys, headers, signature) in cases {
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={headers}, Signature={signature}"
            );
            assert_eq!(
                signed(request, keys, &example, "2015-08-30T12:36:00Z"),
                expected
            );
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
