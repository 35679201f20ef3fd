//! A role at a registry of ECR: what is asked for with its session opens one repository.
//!
//! The session's policy is what narrows: it allows getting a token and pulling from the repository
//! that is asked for, whatever else the role may do. So such a token is kept by repository, like
//! one of a token service. What takes the role on are keys, a token of our own
//! issuer, or the machine's own role.

use std::fmt;
use std::sync::Arc;

use aws_api::{Keys, Session, Sts};
use credential::auth::AuthError;
use credential::{AwsFields, AwsKeyless, SecretString, Service};
use reference::Registry;
use serde_json::{Value, json};

use super::{PUBLIC_REGION, told};
use crate::clouds::Clouds;
use crate::identity::OpensCredential;
use crate::login::Login;
use crate::node;
use crate::provider::Presented;

const PUBLIC_STS: &str = "sts.us-east-1.amazonaws.com";
const PUBLIC_PARTITION: &str = "aws";

/// What pulling needs, as policies call it.
const PULL: [&str; 3] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
];

/// Longest name of a repository; ECR's own limit.
const MAX_REPOSITORY_BYTES: usize = 256;

/// How sessions are called that nobody has named: this, and the repository.
const SESSION_NAME: &str = "holdfast";
/// What AWS takes.
const MAX_SESSION_NAME_BYTES: usize = 64;

/// Whom tokens of our own issuer are for, in all partitions.
const AUDIENCE: &str = "sts.amazonaws.com";

/// A role, and what takes it on.
#[derive(Clone)]
pub(crate) struct Role {
    arn: String,
    session_name: Option<String>,
    by: By,
    registry: Registry,
}

/// What a role is taken on with.
#[derive(Clone)]
enum By {
    Keys {
        keys: Keys,
        external_id: Option<SecretString>,
    },
    /// A token of our own issuer, made for each session.
    Issuer(Arc<dyn OpensCredential>),
    /// The keys of the machine's own role, asked for at each session.
    Node,
}

impl Role {
    /// Nothing for keys that pull by themselves.
    ///
    /// An external id is always shown, as AWS advises to who acts for several: a role that demands
    /// one is taken on for no other workspace by oversight, and one that demands none ignores it.
    pub(super) fn of_keys(fields: &AwsFields, login: &Login) -> Option<Self> {
        let own = || login.identity.credential.external_id();
        Some(Self {
            arn: fields.role_arn.clone()?,
            session_name: fields.role_session_name.clone(),
            by: By::Keys {
                keys: Keys::from(fields),
                external_id: fields.external_id.clone().or_else(|| own().map(Into::into)),
            },
            registry: login.endpoint.registry.clone(),
        })
    }

    pub(super) fn keyless(fields: &AwsKeyless, login: &Login) -> Self {
        Self {
            arn: fields.role_arn.clone(),
            session_name: fields.role_session_name.clone(),
            by: By::Issuer(Arc::clone(&login.identity.credential)),
            registry: login.endpoint.registry.clone(),
        }
    }

    /// One that the machine's own role takes on. Without one the machine's keys would open all
    /// that they may read.
    pub(super) fn of_node(arn: String, registry: &Registry) -> Self {
        Self {
            arn,
            session_name: None,
            by: By::Node,
            registry: registry.clone(),
        }
    }

    /// A user name and password for this repository; for the registry's door when it is empty.
    pub(crate) async fn password(
        &self,
        clouds: &Clouds,
        repository: &str,
    ) -> Result<Presented, AuthError> {
        let session = self.session(clouds, repository).await?;
        let mut presented = super::ask(clouds, &self.registry, &session.keys).await?;
        // A token ends with the session that it was asked for with.
        let own = presented.not_after.unwrap_or(session.not_after);
        presented.not_after = Some(own.min(session.not_after));
        Ok(presented)
    }

    async fn session(&self, clouds: &Clouds, repository: &str) -> Result<Session, AuthError> {
        let policy = policy(&self.registry, repository).ok_or_else(|| self.no_policy())?;
        self.check_partition()?;
        let name = self.session_name.clone();
        let name = name.unwrap_or_else(|| session_name(repository));
        let role = aws_api::Role {
            arn: &self.arn,
            session_name: &name,
            policy: &policy,
        };
        let (http, clock, sts) = (clouds.http()?, || clouds.now(), sts(&self.registry));
        let asked = match &self.by {
            By::Keys { keys, external_id } => {
                sts.assume_role(&http, &clock, keys, &role, external_id.as_ref())
                    .await
            }
            By::Node => {
                let keys = node::aws_keys(clouds).await?;
                sts.assume_role(&http, &clock, &keys, &role, None).await
            }
            By::Issuer(issuer) => {
                let token = issuer.identity_token(AUDIENCE).await?;
                sts.assume_role_with_web_identity(&http, &clock, &token, &role)
                    .await
            }
        };
        asked.map_err(told)
    }

    fn no_policy(&self) -> AuthError {
        AuthError::Refused {
            message: format!("no such repository can be at {}", self.registry),
        }
    }

    /// AWS says of a role in another partition only that there is no such key.
    fn check_partition(&self) -> Result<(), AuthError> {
        let own = self.arn.split(':').nth(1).unwrap_or_default();
        let theirs = match Service::of(&self.registry) {
            Service::Ecr(ecr) => ecr.partition(),
            _ => PUBLIC_PARTITION,
        };
        if own == theirs {
            return Ok(());
        }
        let registry = &self.registry;
        let message = format!("the role is of the partition {own}, and {registry} of {theirs}");
        Err(AuthError::Refused { message })
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Role")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

fn sts(registry: &Registry) -> Sts<'_> {
    match Service::of(registry) {
        Service::Ecr(ecr) => Sts {
            host: ecr.sts_host(),
            region: ecr.region,
        },
        _ => Sts {
            host: PUBLIC_STS.to_owned(),
            region: PUBLIC_REGION,
        },
    }
}

/// What a session is for. Nothing for a name that a policy would read as a pattern.
fn policy(registry: &Registry, repository: &str) -> Option<String> {
    let statements = match Service::of(registry) {
        Service::Ecr(_) if repository.is_empty() => {
            vec![allow(&["ecr:GetAuthorizationToken"], "*")]
        }
        Service::Ecr(ecr) => {
            let (partition, region, account) = (ecr.partition(), ecr.region, ecr.account);
            let repository = Some(repository).filter(|name| is_repository(name))?;
            let arn = format!("arn:{partition}:ecr:{region}:{account}:repository/{repository}");
            vec![
                allow(&["ecr:GetAuthorizationToken"], "*"),
                allow(&PULL, &arn),
            ]
        }
        _ => {
            let actions = [
                "ecr-public:GetAuthorizationToken",
                "sts:GetServiceBearerToken",
            ];
            vec![allow(&actions, "*")]
        }
    };
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    Some(policy.to_string())
}

fn allow(actions: &[&str], resource: &str) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resource })
}

/// Nothing that stands for other names too, in a policy.
fn is_repository(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    name.len() <= MAX_REPOSITORY_BYTES && name.bytes().all(allowed)
}

/// A name that says in AWS's logs what the session was for.
fn session_name(repository: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '-',
    };
    let mut name = SESSION_NAME.to_owned();
    if !repository.is_empty() {
        name.push('-');
        name.extend(repository.chars().map(plain));
    }
    name.truncate(MAX_SESSION_NAME_BYTES);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_name_one_repository_and_nothing_but_pulling() {
        let cases = [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                "arn:aws:ecr:eu-west-1:123456789012:repository/acme/app",
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/acme/app",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "arn:aws-cn:ecr:cn-north-1:123456789012:repository/acme/app",
            ),
        ];
        for (registry, arn) in cases {
            let registry = Registry::parse(registry).unwrap();
            let policy = policy(&registry, "acme/app").unwrap();
            let policy: Value = serde_json::from_str(&policy).unwrap();
            let statements = policy["Statement"].as_array().unwrap();
            assert_eq!(statements.len(), 2, "{policy}");
            assert_eq!(
                statements[0]["Action"],
                json!(["ecr:GetAuthorizationToken"])
            );
            assert_eq!(statements[1]["Action"], json!(PULL));
            assert_eq!(statements[1]["Resource"], arn);
        }
    }

    #[test]
    fn names_that_a_policy_reads_as_patterns_are_refused() {
        let registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let registry = Registry::parse(registry).unwrap();
        let long = "a".repeat(MAX_REPOSITORY_BYTES + 1);
        for name in [
            "*",
            "acme/*",
            "acme/ap?",
            "${aws:username}",
            "a\"b",
            "A",
            &long,
        ] {
            assert_eq!(policy(&registry, name), None, "{name}");
        }
        let door = policy(&registry, "").unwrap();
        assert!(!door.contains("BatchGetImage"), "{door}");
    }

    #[test]
    fn sessions_have_names_that_aws_takes() {
        let long = "a".repeat(300);
        let cases = [
            ("", "holdfast"),
            ("acme/app", "holdfast-acme-app"),
            ("a*é", "holdfast-a--"),
            (&long, &format!("holdfast-{}", "a".repeat(55))),
        ];
        for (repository, expected) in cases {
            assert_eq!(session_name(repository), expected);
        }
    }
}
