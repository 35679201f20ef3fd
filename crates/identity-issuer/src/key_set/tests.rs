//! Sets that follow each other, and what verifiers with the published halves believe.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ids::WorkspaceId;
use secrecy::ExposeSecret;

use super::*;
use crate::subject;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    later(time, by)
}

/// The claims of a token whose signature one of the published keys made; nothing otherwise.
fn verified(token: &SecretString, keys: &PublicKeys, now: Timestamp) -> Option<Value> {
    let (signed, signature) = token.expose_secret().rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let json = |text: &str| serde_json::from_slice::<Value>(&bytes(text)?).ok();
    let header = json(header)?;
    let jwks = keys.to_jwks(now);
    let key = jwks["keys"].as_array()?.iter();
    let key = key.into_iter().find(|key| key["kid"] == header["kid"])?;
    let public = RsaPublicKeyComponents {
        n: bytes(key["n"].as_str()?)?,
        e: bytes(key["e"].as_str()?)?,
    };
    let algorithm = &RSA_PKCS1_2048_8192_SHA256;
    let checked = public.verify(algorithm, signed.as_bytes(), &bytes(signature)?);
    checked.ok()?;
    json(claims)
}

fn token(set: &KeySet, now: Timestamp) -> SecretString {
    let issuer = IssuerUrl::parse("https://acme.example").unwrap();
    set.identity_token(&issuer, "workspace:a", "cloud", now)
        .unwrap()
}

#[test]
fn a_token_is_for_one_workspace_and_one_audience_and_ten_minutes() {
    let now = at(1_800_000_000);
    let set = KeySet::new(now);
    let issuer = IssuerUrl::parse("https://acme.example/a").unwrap();
    let (own, other) = (WorkspaceId::new(), WorkspaceId::new());
    assert_ne!(subject(own), subject(other));
    let token = set.identity_token(&issuer, &subject(own), "sts.amazonaws.com", now);
    let mut claims = verified(&token.unwrap(), &set.public(), now).unwrap();
    let id = claims["jti"].take();
    assert_eq!(id.as_str().map(str::len), Some(22), "{id}");
    assert_eq!(
        claims,
        json!({
            "iss": "https://acme.example/a",
            "sub": format!("workspace:{own}"),
            "aud": "sts.amazonaws.com",
            "iat": 1_800_000_000 - 300,
            "nbf": 1_800_000_000 - 300,
            "exp": 1_800_000_000 + 300,
            "jti": null,
        })
    );
}

#[test]
fn the_next_key_is_published_before_it_signs_and_a_former_one_until_its_tokens_are_dead() {
    let start = at(1_800_000_000);
    let first = KeySet::new(start);
    let (public, old) = (first.public(), token(&first, start));
    let ids = |keys: &PublicKeys, now| -> Vec<(String, KeyState)> {
        let rows = keys.rows(now).into_iter();
        rows.map(|row| (row.id, row.state)).collect()
    };
    let before = ids(&public, start);
    assert_eq!(before[0].1, KeyState::Current);
    assert_eq!(before[1].1, KeyState::Next);

    let from = after(start, PUBLISHED_BEFORE);
    assert_eq!(public.next_signs_from(), Some(from));
    let just_before = at(from.as_second() - 1);
    let sealed = first.to_sealed();
    let early = first.rotated(just_before).unwrap_err();
    assert_eq!(early, TooEarly { from });

    let second = KeySet::from_sealed(&sealed).unwrap().rotated(from).unwrap();
    let now_public = second.public();
    let rows = ids(&now_public, from);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], (before[1].0.clone(), KeyState::Current));
    assert_eq!(rows[2], (before[0].0.clone(), KeyState::Former));
    // Who still has the old document knows the key that signs, and who has the new one the old.
    assert!(verified(&token(&second, from), &public, from).is_some());
    assert!(verified(&old, &now_public, from).is_some());

    let dead = after(from, PUBLISHED_AFTER);
    assert!(verified(&old, &now_public, dead).is_none());
    assert_eq!(ids(&now_public, dead).len(), 2);
    // Its private half went with the rotation.
    let sealed = second.to_sealed();
    assert_eq!(sealed.expose_secret().matches("private_key").count(), 2);
}

#[test]
fn a_clock_that_was_set_back_or_on_leaves_a_key_that_signs() {
    let now = at(1_800_000_000);
    let set = KeySet::new(now)
        .rotated(after(now, PUBLISHED_BEFORE))
        .unwrap();
    for now in [at(0), at(1_000_000_000), at(4_000_000_000)] {
        let public = set.public();
        assert!(verified(&token(&set, now), &public, now).is_some(), "{now}");
        let published = public.rows(now).len();
        assert_eq!(published, if now < at(1_800_000_000) { 3 } else { 2 });
    }
}

#[test]
fn a_next_key_of_a_clock_that_was_years_ahead_is_renewed() {
    let now = at(1_800_000_000);
    let set = KeySet::new(at(4_000_000_000));
    let id = |key: &OwnKey| key.public.id();
    let (current, next) = (id(&set.current), id(&set.next));
    let renewed = set.rotated(now).unwrap();
    assert_eq!(id(&renewed.current), current);
    assert_ne!(id(&renewed.next), next);
    let (next, from) = (id(&renewed.next), after(now, PUBLISHED_BEFORE));
    assert_eq!(renewed.public().next_signs_from(), Some(from));
    assert_eq!(id(&renewed.rotated(from).unwrap().current), next);
}

#[test]
fn the_document_stays_small() {
    let mut set = KeySet::new(at(1_800_000_000));
    // A clock that is set on by a day and back, over and over.
    for _ in 0..MAX_FORMER + 2 {
        set.next.published_at = at(1_700_000_000);
        set = set.rotated(at(1_800_000_000)).unwrap();
    }
    let now = at(1_800_000_000);
    assert_eq!(set.public().rows(now).len(), MAX_FORMER + 2);
    assert!(set.public().to_jwks(now).to_string().len() < 16 * 1024);
}

#[test]
fn a_key_is_old_by_when_it_began_to_sign() {
    let start = at(1_800_000_000);
    let first = KeySet::new(start);
    let old_from = after(start, REPLACED_AFTER);
    let before = |time: Timestamp| at(time.as_second() - 1);
    assert!(!first.public().is_old(start));
    assert!(!first.public().is_old(before(old_from)));
    assert!(first.public().is_old(old_from));
    // The one that follows was published as long ago, and signs from now on.
    let second = first.rotated(old_from).unwrap().public();
    assert_eq!(second.signs_since(), old_from);
    assert!(!second.is_old(old_from));
    assert!(second.is_old(after(old_from, REPLACED_AFTER)));
    // Made by a clock that was years ahead.
    assert!(second.is_old(start));
}

#[test]
fn a_key_that_was_replaced_by_a_clock_that_was_ahead_says_nothing_of_its_followers_age() {
    let (now, ahead) = (at(1_800_000_000), at(1_840_000_000));
    let set = KeySet::new(now).rotated(ahead).unwrap();
    assert!(set.public().is_old(now), "its age is not known");
    // The next one is of that time too: another takes its place, and signs after a day.
    let set = set.rotated(now).unwrap();
    assert!(set.public().is_old(now));
    let then = after(now, PUBLISHED_BEFORE);
    let set = set.rotated(then).unwrap();
    assert_eq!(set.public().signs_since(), then);
    assert!(!set.public().is_old(then));
}
