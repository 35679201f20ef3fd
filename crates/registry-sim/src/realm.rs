//! The token service: `GET` with a user name and password, `POST` with an identity token.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use bytes::Bytes;

use crate::answer::{error_reply, reply, too_many_requests, with_header};
use crate::faults::Faults;
use crate::host::{Arrived, Handler};
use crate::sim::{Login, Shared, lock};

pub(crate) fn handler(shared: &Arc<Shared>) -> Handler {
    let shared = Arc::clone(shared);
    Arc::new(move |arrived| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { answer(&shared, &arrived).await })
    })
}

pub(crate) async fn answer(shared: &Shared, arrived: &Arrived) -> Response {
    shared
        .token_requests
        .record(&arrived.parts, &arrived.body, &shared.secrets);
    shared.token_gate.pass().await;
    if let Some(response) = busy(shared) {
        return response;
    }
    let post = arrived.parts.method == Method::POST;
    let post_says = lock(&shared.faults).token_post_says;
    if let Some(status) = post_says.filter(|_| post) {
        return error_reply(status, "UNSUPPORTED", "no such grant");
    }
    let fields = if post {
        &arrived.body[..]
    } else {
        query(arrived).as_bytes()
    };
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(fields)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut tokens = lock(&shared.tokens);
    let public = shared.options.login == Login::PublicBearer;
    let allowed = if post {
        is(&fields, "grant_type", "refresh_token")
            && find(&fields, "refresh_token").is_some_and(|token| tokens.knows_identity(token))
    } else {
        let anonymous = !arrived.parts.headers.contains_key("authorization");
        tokens.knows(&arrived.parts.headers) || (public && anonymous)
    };
    if !allowed {
        return error_reply(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let scopes: Vec<String> = fields
        .iter()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' ').map(str::to_owned))
        .collect();
    if let Some(refusal) = refusal_of(&lock(&shared.faults), &scopes) {
        return refusal;
    }
    let options = &shared.options;
    let token = tokens.give(scopes, options.token_life, options.token_says_its_end);
    shared.secrets.add(&token);
    reply_with(shared, &token)
}

/// The answer to who asks for what is kept from everybody.
fn refusal_of(faults: &Faults, scopes: &[String]) -> Option<Response> {
    let is_about = |name: &String| scopes.contains(&format!("repository:{name}:pull"));
    let text = "requested access to the resource is denied";
    if let Some(status) = faults.token_for_nothing_says.filter(|_| scopes.is_empty()) {
        return Some(error_reply(status, "UNSUPPORTED", "no scope"));
    }
    if faults.token_forbidden.as_ref().is_some_and(is_about) {
        return Some(error_reply(403, "DENIED", text));
    }
    let is_unauthorized = faults.token_unauthorized.as_ref().is_some_and(is_about);
    is_unauthorized.then(|| error_reply(401, "UNAUTHORIZED", text))
}

fn busy(shared: &Shared) -> Option<Response> {
    let mut faults = lock(&shared.faults);
    if Faults::take(&mut faults.token_too_many_requests) {
        return Some(too_many_requests(&faults));
    }
    if let Some((status, body)) = faults.take_token_says() {
        return Some(reply(status, "text/plain", body.into()));
    }
    if let Some(target) = &faults.token_redirects_to {
        let redirect = reply(307, "text/plain", Bytes::new());
        return Some(with_header(redirect, "location", target));
    }
    Faults::take(&mut faults.token_unavailable)
        .then(|| error_reply(503, "UNAVAILABLE", "come back later"))
}

fn reply_with(shared: &Shared, token: &str) -> Response {
    let options = &shared.options;
    let text = options.token_reply;
    let text = text.replace("LIFE", &options.token_life.as_secs().to_string());
    let text = text.replace("NOW", &jiff::Timestamp::now().to_string());
    // Last: it may have any letters.
    let text = text.replace("TOKEN", token);
    reply(200, "application/json", text.into())
}

fn query(arrived: &Arrived) -> &str {
    arrived.parts.uri.query().unwrap_or_default()
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

fn is(fields: &[(String, String)], name: &str, value: &str) -> bool {
    find(fields, name) == Some(value)
}
