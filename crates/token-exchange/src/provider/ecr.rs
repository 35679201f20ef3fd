//! Amazon ECR: AWS keys become the user name and password that its registries take.
//!
//! One signed request to the API of the registry's own region. What it gives lives for twelve
//! hours, less where the keys are of a session, and opens whatever the keys' principal may read, in
//! every account: it is no token for one repository. Private registries take it as it is, and the
//! public one exchanges it at its token service. With a role, see `role`, it is for one; a role
//! may trust our own issuer, and then there are no keys.

mod role;

use std::sync::Arc;

use aws_api::{Answer, AwsError, Input, Keys, Operation};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use credential::auth::AuthError;
use credential::{Credential, Fields, SecretString, Service};
use reference::Registry;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{PresentFuture, Presented, Provider};
use crate::asker::Pass;
use crate::clouds::Clouds;
use crate::login::Login;
use crate::node::NodeIdentity;
use crate::wire;

pub(crate) use role::Role;

const PRIVATE_TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const PUBLIC_TARGET: &str = "SpencerFrontendService.GetAuthorizationToken";

/// The one region that gives out tokens for the public registry.
const PUBLIC_REGION: &str = "us-east-1";
const PUBLIC_API: &str = "api.ecr-public.us-east-1.amazonaws.com";
/// For who reaches the registry by its dual-stack name.
const PUBLIC_DUAL_STACK_API: &str = "ecr-public.us-east-1.api.aws";
const PUBLIC_DUAL_STACK_HOST: &str = "ecr-public.aws.com";

/// Longest token; real ones are below 3 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A principal of AWS at a registry of ECR.
pub(super) struct Ecr<'a> {
    principal: Principal,
    login: &'a Login,
    registry: &'a Registry,
}

/// Who asks.
enum Principal {
    Keys(Keys),
    Role(Role),
    /// The machine, by the name under which its identity is granted.
    Node(String),
}

impl<'a> Ecr<'a> {
    /// Nothing for a registry that is not one of ECR, and for what is no credential of AWS.
    pub(super) fn new(credential: &Credential, login: &'a Login) -> Option<Self> {
        let registry = &login.endpoint.registry;
        operation(registry)?;
        let principal = match credential.fields() {
            Fields::Aws(fields) => match Role::of_keys(fields, login) {
                Some(role) => Principal::Role(role),
                None => Principal::Keys(Keys::from(fields)),
            },
            Fields::AwsKeyless(fields) => Principal::Role(Role::keyless(fields, login)),
            Fields::Node(node) => Principal::Node(node.name.clone()),
            _ => return None,
        };
        Some(Self {
            principal,
            login,
            registry,
        })
    }

    async fn pass(&self, clouds: &Clouds) -> Result<Presented, AuthError> {
        let role = match &self.principal {
            Principal::Keys(keys) => return ask(clouds, self.registry, keys).await,
            Principal::Role(role) => role,
            Principal::Node(name) => &self.node_role(name).await?,
        };
        if Service::of(self.registry) == Service::EcrPublic {
            // The token service there makes one repository's of it.
            return role.password(clouds, "").await;
        }
        Ok(Presented {
            pass: Pass::Role(Arc::new(role.clone())),
            not_after: None,
            is_renewable: false,
        })
    }

    /// The role that the machine takes on, where that is granted.
    async fn node_role(&self, name: &str) -> Result<Role, AuthError> {
        match self.login.identity.credential.node_identity(name).await? {
            NodeIdentity::Aws { role_arn } => Ok(Role::of_node(role_arn, self.registry)),
            other => Err(other.is_no("AWS")),
        }
    }
}

impl Provider for Ecr<'_> {
    fn present<'a>(&'a self, clouds: &'a Clouds) -> PresentFuture<'a> {
        Box::pin(self.pass(clouds))
    }
}

/// What the registry's API gives for these keys.
async fn ask(clouds: &Clouds, registry: &Registry, keys: &Keys) -> Result<Presented, AuthError> {
    let operation = operation(registry).ok_or_else(|| AuthError::Internal {
        message: format!("{registry} is no registry of ECR"),
    })?;
    let (http, clock) = (clouds.http()?, || clouds.now());
    let answer = operation.ask(&http, &clock, Some(keys)).await;
    read(&answer.map_err(told)?).map_err(|what| AuthError::Unreachable {
        message: format!("{} answered {what}", operation.host),
    })
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
        AwsError::NotFound { .. } | AwsError::Refused { .. } => AuthError::Refused { message },
        _ => AuthError::Internal { message },
    }
}

fn operation(registry: &Registry) -> Option<Operation<'_>> {
    let (host, service, region, target, permission) = match Service::of(registry) {
        Service::Ecr(ecr) => (
            ecr.api_host(),
            "ecr",
            ecr.region,
            PRIVATE_TARGET,
            "ecr:GetAuthorizationToken",
        ),
        Service::EcrPublic => (
            public_api(registry.host()).to_owned(),
            "ecr-public",
            PUBLIC_REGION,
            PUBLIC_TARGET,
            "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken",
        ),
        _ => return None,
    };
    let body = Bytes::from_static(b"{}");
    Some(Operation {
        host,
        service,
        region,
        input: Input::Json { target, body },
        shown: "the AWS keys",
        permission,
    })
}

fn public_api(host: &str) -> &'static str {
    if host == PUBLIC_DUAL_STACK_HOST {
        PUBLIC_DUAL_STACK_API
    } else {
        PUBLIC_API
    }
}

/// What is in the answer, or what it is instead.
fn read(answer: &Answer) -> Result<Presented, &'static str> {
    let (pass, stated) = pass_and_end(&answer.body).ok_or("without a usable token")?;
    let end = answer.end_of(stated).ok_or("with a token that has ended")?;
    Ok(Presented {
        pass,
        not_after: Some(end),
        is_renewable: true,
    })
}

/// The end is in seconds by the service's clock.
fn pass_and_end(body: &[u8]) -> Option<(Pass, f64)> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    // A list of one for private registries, the thing itself for the public one.
    let data = reply.get("authorizationData")?;
    let data = data.get(0).unwrap_or(data);
    let token = data.get("authorizationToken")?.as_str()?;
    Some((pass(token)?, data.get("expiresAt")?.as_f64()?))
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

#[cfg(test)]
mod tests {
    use credential::ExposeSecret;
    use jiff::Timestamp;

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
            let Ok(presented) = read(&answer) else {
                panic!("a usable token");
            };
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
        assert!(read(&answer(&of(&good, "1000301"))).is_ok());
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
            assert!(read(&answer(&body)).is_err(), "{body}");
        }
        // A life without end is not believed.
        let long = read(&answer(&of(&good, "1e300"))).ok();
        let end = long.and_then(|presented| presented.not_after);
        assert_eq!(end.map(Timestamp::as_second), Some(1_000_000 + 86_400));
        let ended = read(&answer(&of(&good, "1000300"))).err();
        assert_eq!(ended, Some("with a token that has ended"));
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
