//! Amazon ECR: AWS keys become the user name and password that its registries take.
//!
//! One signed request to the API of the registry's own region. What it gives lives for twelve
//! hours, less where the keys are of a session, and opens whatever the keys' principal may read, in
//! every account: it is no token for one repository. Private registries take it as it is, and the
//! public one exchanges it at its token service.

use std::time::Duration;

use aws_api::{Answer, AwsError, Keys, Operation};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use credential::auth::AuthError;
use credential::{AwsFields, SecretString, Service};
use jiff::Timestamp;
use reference::Registry;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{PresentFuture, Presented, Provider};
use crate::asker::Pass;
use crate::clouds::Clouds;
use crate::wire;

const PRIVATE_TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const PUBLIC_TARGET: &str = "SpencerFrontendService.GetAuthorizationToken";

/// The one region that gives out tokens for the public registry.
const PUBLIC_REGION: &str = "us-east-1";
const PUBLIC_API: &str = "api.ecr-public.us-east-1.amazonaws.com";
/// For who reaches the registry by its dual-stack name.
const PUBLIC_DUAL_STACK_API: &str = "ecr-public.us-east-1.api.aws";
const PUBLIC_DUAL_STACK_HOST: &str = "ecr-public.aws.com";

/// Longest life that is believed; the documented one is half of it.
const MAX_LIFE: Duration = Duration::from_hours(24);
/// Longest token; real ones are below 3 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// AWS keys at a registry of ECR.
pub(super) struct Ecr<'a> {
    keys: &'a AwsFields,
    operation: Operation<'a>,
}

impl<'a> Ecr<'a> {
    /// Nothing for a registry that is not one of ECR.
    pub(super) fn new(keys: &'a AwsFields, registry: &'a Registry) -> Option<Self> {
        let operation = operation(registry)?;
        Some(Self { keys, operation })
    }

    async fn ask(&self, clouds: &Clouds) -> Result<Presented, AuthError> {
        if self.keys.role_arn.is_some() {
            return Err(AuthError::Refused {
                message: "AWS roles are not supported yet; log in with keys that may pull"
                    .to_owned(),
            });
        }
        let (http, clock, keys) = (clouds.http()?, || clouds.now(), Keys::from(self.keys));
        let asked = self.operation.ask(&http, &clock, &keys).await;
        let answer = asked.map_err(told)?;
        read(&answer).ok_or_else(|| AuthError::Unreachable {
            message: format!("{} answered without a usable token", self.operation.host),
        })
    }
}

impl Provider for Ecr<'_> {
    fn present<'a>(&'a self, clouds: &'a Clouds) -> PresentFuture<'a> {
        Box::pin(self.ask(clouds))
    }
}

/// An error of AWS, told as one of auth.
fn told(error: AwsError) -> AuthError {
    let message = error.to_string();
    match error {
        AwsError::Dial(error) => wire::from_dial(&error),
        AwsError::BadKeys { .. } => AuthError::BadCredential { message },
        AwsError::NotAllowed { .. } => AuthError::NoPermission { message },
        AwsError::RateLimited { retry_after, .. } => AuthError::RateLimited {
            retry_after,
            message,
        },
        AwsError::Unavailable { .. } => AuthError::Unreachable { message },
        AwsError::Refused { .. } => AuthError::Refused { message },
        _ => AuthError::Internal { message },
    }
}

fn operation(registry: &Registry) -> Option<Operation<'_>> {
    match Service::of(registry) {
        Service::Ecr(ecr) => Some(Operation {
            host: ecr.api_host(),
            service: "ecr",
            region: ecr.region,
            target: PRIVATE_TARGET,
            permission: "ecr:GetAuthorizationToken",
        }),
        Service::EcrPublic => Some(Operation {
            host: public_api(registry.host()).to_owned(),
            service: "ecr-public",
            region: PUBLIC_REGION,
            target: PUBLIC_TARGET,
            permission: "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken",
        }),
        _ => None,
    }
}

fn public_api(host: &str) -> &'static str {
    if host == PUBLIC_DUAL_STACK_HOST {
        PUBLIC_DUAL_STACK_API
    } else {
        PUBLIC_API
    }
}

/// `None` when there is no usable token in the answer.
fn read(answer: &Answer) -> Option<Presented> {
    let reply: Value = serde_json::from_slice(&answer.body).ok()?;
    // A list of one for private registries, the thing itself for the public one.
    let data = reply.get("authorizationData")?;
    let data = data.get(0).unwrap_or(data);
    let token = data.get("authorizationToken")?.as_str()?;
    let stated = data.get("expiresAt")?.as_f64()?;
    Some(Presented {
        pass: pass(token)?,
        not_after: Some(end(stated, answer)?),
        is_renewable: true,
    })
}

/// Base64 of user name, colon and password.
fn pass(token: &str) -> Option<Pass> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let pair = Zeroizing::new(BASE64_STANDARD.decode(token).ok()?);
    let (username, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    if username.is_empty() || password.is_empty() {
        return None;
    }
    Some(Pass::Password {
        username: username.to_owned(),
        password: SecretString::from(password.to_owned()),
    })
}

/// The end by our clock of what ends then by theirs. `None` for what has ended.
fn end(stated_seconds: f64, answer: &Answer) -> Option<Timestamp> {
    let now = answer.answered.unwrap_or(answer.sent);
    let left = stated_seconds - now.as_duration().as_secs_f64();
    if left.is_nan() || left <= 0.0 {
        return None;
    }
    let left = Duration::from_secs_f64(left.min(MAX_LIFE.as_secs_f64()));
    answer.sent.checked_add(left).ok()
}

#[cfg(test)]
mod tests {
    use credential::ExposeSecret;

    use super::*;

    fn answer(body: &str) -> Answer {
        Answer {
            body: body.to_owned().into(),
            sent: Timestamp::from_second(1_000_000).unwrap(),
            // A service whose clock is five minutes ahead of ours.
            answered: Some(Timestamp::from_second(1_000_300).unwrap()),
        }
    }

    #[test]
    fn tokens_of_both_registries_are_read_and_end_by_our_clock() {
        let token = BASE64_STANDARD.encode("AWS:a:b");
        let data = format!(r#"{{"authorizationToken":"{token}","expiresAt":1043500.5}}"#);
        for data in [format!("[{data}]"), data] {
            let answer = answer(&format!(r#"{{"authorizationData":{data}}}"#));
            let presented = read(&answer).unwrap();
            let Pass::Password { username, password } = presented.pass else {
                panic!("a user name and password");
            };
            assert_eq!(
                (username.as_str(), password.expose_secret()),
                ("AWS", "a:b")
            );
            let end = presented.not_after.unwrap().as_millisecond();
            assert_eq!(end, (1_043_500_500) - 300_000);
            assert!(presented.is_renewable);
        }
    }

    #[test]
    fn other_answers_are_not_usable() {
        let of = |token: &str, end: &str| {
            format!(
                r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":{end}}}]}}"#
            )
        };
        let good = BASE64_STANDARD.encode("AWS:a");
        assert!(read(&answer(&of(&good, "1000301"))).is_some());
        let long = BASE64_STANDARD.encode("a:".repeat(MAX_TOKEN_BYTES));
        for body in [
            String::new(),
            "{}".to_owned(),
            r#"{"authorizationData":[]}"#.to_owned(),
            r#"{"authorizationData":"AWS"}"#.to_owned(),
            of("AWS:a", "1043500"),
            of(&BASE64_STANDARD.encode("AWS"), "1043500"),
            of(&BASE64_STANDARD.encode(":a"), "1043500"),
            of(&BASE64_STANDARD.encode("AWS:"), "1043500"),
            of(&BASE64_STANDARD.encode(b"AWS:\xff"), "1043500"),
            of(&long, "1043500"),
            of(&good, "1000300"),
            of(&good, "1420070400e-9"),
            of(&good, "null"),
            of(&good, "\"1043500\""),
        ] {
            assert!(read(&answer(&body)).is_none(), "{body}");
        }
        // A life without end is not believed.
        let long = read(&answer(&of(&good, "1e300")))
            .unwrap()
            .not_after
            .unwrap();
        assert_eq!(long.as_second(), 1_000_000 + 86_400);
    }

    #[test]
    fn tokens_are_asked_for_in_the_registrys_own_region() {
        let cases = [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                "api.ecr.eu-west-1.amazonaws.com",
                "eu-west-1",
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "api.ecr.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
            ),
            (
                "public.ecr.aws",
                "api.ecr-public.us-east-1.amazonaws.com",
                "us-east-1",
            ),
            (
                "ecr-public.aws.com",
                "ecr-public.us-east-1.api.aws",
                "us-east-1",
            ),
        ];
        for (registry, host, region) in cases {
            let registry = Registry::parse(registry).unwrap();
            let operation = operation(&registry).unwrap();
            assert_eq!((operation.host.as_str(), operation.region), (host, region));
        }
        let other = Registry::parse("public.ecr.aws.evil.example").unwrap();
        assert!(operation(&other).is_none());
    }
}
