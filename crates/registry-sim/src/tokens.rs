//! Who may log in, and the tokens that were given out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::azure::unsigned_token;

/// Accounts and tokens of one simulated registry.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    accounts: HashMap<String, String>,
    given: HashMap<String, Given>,
    count: u64,
}

#[derive(Debug)]
struct Given {
    scopes: Vec<String>,
    until: Instant,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Expired,
    Insufficient,
    Unknown,
}

impl Tokens {
    pub(crate) fn set_account(&mut self, username: &str, password: &str) {
        self.accounts
            .insert(username.to_owned(), password.to_owned());
    }

    /// Whether the request carries a right user name and password.
    pub(crate) fn knows(&self, headers: &HeaderMap) -> bool {
        basic(headers).is_some_and(|(username, password)| {
            self.accounts
                .get(&username)
                .is_some_and(|right| *right == password)
        })
    }

    /// Whether this is somebody's password, which here also serves as identity token.
    pub(crate) fn knows_identity(&self, token: &str) -> bool {
        self.accounts.values().any(|password| password == token)
    }

    pub(crate) fn give(&mut self, scopes: Vec<String>, life: Duration, says_end: bool) -> String {
        self.count += 1;
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system has random numbers");
        let name = format!(
            "sim-token-{}-{}",
            self.count,
            BASE64_STANDARD.encode(random)
        );
        let token = if says_end {
            unsigned_token(&name, life)
        } else {
            name
        };
        self.given.insert(
            token.clone(),
            Given {
                scopes,
                until: Instant::now() + life,
            },
        );
        token
    }

    pub(crate) fn expire_all(&mut self) {
        let now = Instant::now();
        for given in self.given.values_mut() {
            given.until = now;
        }
    }

    /// What the request's bearer token allows for this repository (none: just being known).
    pub(crate) fn standing(&self, headers: &HeaderMap, repository: Option<&str>) -> Standing {
        let Some(given) = bearer(headers).and_then(|token| self.given.get(&token)) else {
            return Standing::Unknown;
        };
        if given.until <= Instant::now() {
            return Standing::Expired;
        }
        let wanted = repository.map(|repository| format!("repository:{repository}:pull"));
        match wanted {
            Some(wanted) if !given.scopes.contains(&wanted) => Standing::Insufficient,
            _ => Standing::Good,
        }
    }
}

fn header_after(headers: &HeaderMap, scheme: &str) -> Option<String> {
    let value = headers.get("authorization")?.to_str().ok()?;
    value
        .strip_prefix(scheme)
        .map(|rest| rest.trim().to_owned())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    header_after(headers, "Bearer ")
}

/// User name and password of a Basic header.
pub(crate) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let decoded = BASE64_STANDARD
        .decode(header_after(headers, "Basic ")?)
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}
