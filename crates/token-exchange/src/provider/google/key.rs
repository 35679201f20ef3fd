//! A service account's key becomes an access token.

use credential::auth::AuthError;
use credential::{ExposeSecret, ServiceAccount};
use jiff::{SignedDuration, Timestamp};

use super::{TOKEN_HOST, TOKEN_URL, assertion, url};
use crate::clouds::Clouds;
use crate::provider::oauth::{self, Refusal, Reply};
use crate::reply::Token;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A refusal may be for our clock when theirs shows a time that is so far from all those between
/// the sending and the arrival.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Asks with this key. Where Google refuses and its clock shows another time, once more by that.
pub(super) async fn exchange(
    clouds: &Clouds,
    account: &ServiceAccount,
) -> Result<Token, AuthError> {
    let now = clouds.now();
    let reply = ask_at(clouds, account, now).await?;
    if reply.is_success() {
        return reply.token();
    }
    let refusal = reply.refusal();
    let Some(theirs) = clock_of_theirs(&reply, &refusal, (now, clouds.now())) else {
        return Err(told(&reply, &refusal));
    };
    tracing::warn!(%theirs, ours = %now, "Google has another time than this machine");
    let reply = ask_at(clouds, account, theirs).await?;
    if reply.is_success() {
        return reply.token();
    }
    Err(told(&reply, &reply.refusal()))
}

async fn ask_at(
    clouds: &Clouds,
    account: &ServiceAccount,
    now: Timestamp,
) -> Result<Reply, AuthError> {
    let assertion = assertion::sign(account, now)?;
    let fields = [
        ("grant_type", GRANT),
        ("assertion", assertion.expose_secret()),
    ];
    let request = oauth::post(url(TOKEN_URL)?, &fields);
    let sent = clouds.now();
    let response = clouds.send(request).await?;
    Reply::read(TOKEN_HOST, sent, response).await
}

/// The time of Google's clock, where it is not ours. A reply may have been long in coming.
fn clock_of_theirs(
    reply: &Reply,
    refusal: &Refusal,
    (sent, arrived): (Timestamp, Timestamp),
) -> Option<Timestamp> {
    let is_about_assertion = refusal.error == "invalid_grant";
    let theirs = reply.times.answered.filter(|_| is_about_assertion)?;
    let is_early = sent.duration_since(theirs) > SKEW;
    let is_late = theirs.duration_since(arrived) > SKEW;
    (is_early || is_late).then_some(theirs)
}

fn told(reply: &Reply, refusal: &Refusal) -> AuthError {
    let says = |words: &str| refusal.description.contains(words);
    let known = match refusal.error.as_str() {
        "invalid_grant" if refusal.subtype == "invalid_rapt" => Some(
            "its organisation wants people to log in again; a service account outside of that rule \
             is needed",
        ),
        "invalid_grant" if says("account not found") => {
            Some("there is no such service account; it may have been deleted")
        }
        "invalid_grant" if says("Signature") => {
            Some("the key is not one of that account; it may have been deleted, so make a new one")
        }
        "invalid_grant" if says("timeframe") => {
            Some("the time of this machine is wrong; set its clock")
        }
        "invalid_grant" => Some("the key does not count; it may have been deleted or disabled"),
        "disabled_client" | "unauthorized_client" | "invalid_client" => {
            Some("the service account is disabled or may not do this")
        }
        _ => None,
    };
    reply.refused("the service account's key", known, refusal)
}
