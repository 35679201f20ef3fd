//! Sessions of roles: the Security Token Service, by its API of 2011-06-15.

use bytes::Bytes;
use credential::{ExposeSecret, SecretString};
use dial::HttpClient;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::error::AwsError;
use crate::exchange::Clock;
use crate::keys::Keys;
use crate::operation::{Answer, Input, Operation};
use crate::xml;

const VERSION: &str = "2011-06-15";

/// Longest key or token of a session that is taken. It goes into a header; real ones are below
/// 4 KiB.
const MAX_KEY_BYTES: usize = 16 * 1024;

/// The service in one region.
#[derive(Debug, Clone)]
pub struct Sts<'a> {
    /// From a table.
    pub host: String,
    pub region: &'a str,
}

/// A role to take on, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Role<'a> {
    pub arn: &'a str,
    /// What the role's owner sees in logs, and may demand.
    pub session_name: &'a str,
    /// What the session is for at most, whatever the role may do.
    pub policy: &'a str,
}

/// Keys that end.
#[derive(Debug, Clone)]
pub struct Session {
    pub keys: Keys,
    /// By our clock.
    pub not_after: Timestamp,
}

impl Sts<'_> {
    /// A session of a role that trusts whoever has the keys.
    pub async fn assume_role(
        &self,
        http: &HttpClient,
        clock: Clock<'_>,
        keys: &Keys,
        role: &Role<'_>,
        external_id: Option<&SecretString>,
    ) -> Result<Session, AwsError> {
        let external_id = external_id.map(|id| ("ExternalId", id));
        let form = form("AssumeRole", role, external_id);
        let operation = self.operation(form, "the AWS keys", "sts:AssumeRole");
        self.session(&operation.ask(http, clock, Some(keys)).await?)
    }

    /// A session of a role that trusts who issued this token. Needs no keys.
    pub async fn assume_role_with_web_identity(
        &self,
        http: &HttpClient,
        clock: Clock<'_>,
        token: &SecretString,
        role: &Role<'_>,
    ) -> Result<Session, AwsError> {
        let token = Some(("WebIdentityToken", token));
        let form = form("AssumeRoleWithWebIdentity", role, token);
        let permission = "sts:AssumeRoleWithWebIdentity";
        let operation = self.operation(form, "the identity token", permission);
        self.session(&operation.ask(http, clock, None).await?)
    }

    fn operation(
        &self,
        form: Bytes,
        shown: &'static str,
        permission: &'static str,
    ) -> Operation<'_> {
        Operation {
            host: self.host.clone(),
            service: "sts",
            region: self.region,
            input: Input::Form(form),
            shown,
            permission,
        }
    }

    fn session(&self, answer: &Answer) -> Result<Session, AwsError> {
        read(answer).ok_or_else(|| AwsError::Unavailable {
            message: format!("{} answered without a usable session", self.host),
        })
    }
}

fn form(action: &str, role: &Role<'_>, secret: Option<(&str, &SecretString)>) -> Bytes {
    let mut form = dial::form();
    form.append_pair("Action", action);
    form.append_pair("Version", VERSION);
    form.append_pair("RoleArn", role.arn);
    form.append_pair("RoleSessionName", role.session_name);
    form.append_pair("Policy", role.policy);
    if let Some((name, secret)) = secret {
        form.append_pair(name, secret.expose_secret());
    }
    Bytes::from(form.finish())
}

/// `None` when there are no usable keys in the answer.
fn read(answer: &Answer) -> Option<Session> {
    let field = |name: &str| xml::text(&answer.body, name).map(Zeroizing::new);
    let key = |name: &str| field(name).filter(|text| is_key(text));
    let secret = |name: &str| key(name).map(|text| SecretString::from(text.as_str().to_owned()));
    let end: Timestamp = field("Expiration")?.parse().ok()?;
    Some(Session {
        keys: Keys {
            access_key_id: key("AccessKeyId")?.as_str().to_owned(),
            secret_access_key: secret("SecretAccessKey")?,
            session_token: Some(secret("SessionToken")?),
        },
        not_after: answer.end_of(end.as_duration().as_secs_f64())?,
    })
}

/// Visible ASCII, as a header can carry it.
fn is_key(text: &str) -> bool {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    !text.is_empty() && text.len() <= MAX_KEY_BYTES && is_visible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str, secret: &str, token: &str, end: &str) -> Answer {
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/a/b</Arn>\
             </AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        Answer {
            body: body.into(),
            sent: "2026-01-01T00:00:00Z".parse().unwrap(),
            // A service whose clock is five minutes ahead of ours.
            answered: Some("2026-01-01T00:05:00Z".parse().unwrap()),
        }
    }

    #[test]
    fn sessions_are_read_and_end_by_our_clock() {
        let session = read(&answer("ASIA", "s/+=", "t+/==", "2026-01-01T01:05:00Z")).unwrap();
        assert_eq!(session.keys.access_key_id, "ASIA");
        assert_eq!(session.keys.secret_access_key.expose_secret(), "s/+=");
        let token = session.keys.session_token.as_ref().unwrap();
        assert_eq!(token.expose_secret(), "t+/==");
        assert_eq!(session.not_after.to_string(), "2026-01-01T01:00:00Z");
        assert!(!format!("{session:?}").contains("s/+="));
    }

    #[test]
    fn other_answers_are_no_session() {
        let end = "2026-01-01T01:05:00Z";
        let long = "a".repeat(MAX_KEY_BYTES + 1);
        for (id, secret, token, end) in [
            ("", "s", "t", end),
            ("a", "", "t", end),
            ("a", "s", "", end),
            ("a", "s", "t\n", end),
            ("a", "s", "&#10;", end),
            ("a", "s", &long, end),
            ("a</AccessKeyId><AccessKeyId>b", "s", "t", end),
            ("a", "s", "t", ""),
            ("a", "s", "t", "2026-01-01T00:05:00Z"),
            ("a", "s", "t", "tomorrow"),
        ] {
            let read = read(&answer(id, secret, token, end));
            assert!(read.is_none(), "{id} {secret} {end}");
        }
    }

    #[test]
    fn forms_escape_what_they_hold() {
        let role = Role {
            arn: "arn:aws:iam::1:role/a",
            session_name: "a=b",
            policy: "{\"a\": 1}",
        };
        let id = SecretString::from("x&Policy=y".to_owned());
        let form = form("AssumeRole", &role, Some(("ExternalId", &id)));
        assert_eq!(
            form,
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa\
             &RoleSessionName=a%3Db&Policy=%7B%22a%22%3A+1%7D&ExternalId=x%26Policy%3Dy"
        );
    }
}
