//! What ends before it was to: tokens, passwords and signed URLs, at every moment of a start.

use registry_sim::{Login, Options, Realm};

use super::{Case, Event, Hosts, MOMENTS, Reader, check};

fn bearer(realm: Realm) -> Options {
    Options {
        login: Login::Bearer(realm),
        ..Options::default()
    }
}

fn with_login(login: Login) -> Options {
    Options {
        login,
        ..Options::default()
    }
}

/// One that sends its blobs to signed URLs.
fn redirecting(options: Options) -> Options {
    Options {
        redirect_blobs: true,
        ..options
    }
}

/// As ECR Public answers a token that has ended: 400, without a challenge.
fn of_ecr_public(realm: Realm) -> Options {
    Options {
        is_400_for_expired: true,
        ..bearer(realm)
    }
}

/// What ends, of which registry, and what its hosts may receive.
fn ends() -> Vec<(&'static str, Options, Event, Hosts)> {
    use Event::{LocationsEnd, PasswordChanges, TokensAndLocationsEnd, TokensEnd};
    let (own, apart) = (Hosts::OWN, Hosts::APART);
    let alone = || bearer(Realm::SameHost);
    let token = || bearer(Realm::OtherPort);
    let pair = || with_login(Login::Basic);
    let ecr = || with_login(Login::EcrLike);
    let public = || of_ecr_public(Realm::OtherPort);
    let away = redirecting;
    #[rustfmt::skip]
    let ends = vec![
        ("a token of its own service",    alone(),        TokensEnd,             own),
        ("a token of another host",       token(),        TokensEnd,             apart),
        ("a token, before storage",       away(token()),  TokensEnd,             apart),
        ("a signed URL after a token",    away(token()),  LocationsEnd,          apart),
        ("a token and a signed URL",      away(token()),  TokensAndLocationsEnd, apart),
        ("a signed URL after basic",      away(pair()),   LocationsEnd,          own),
        ("a signed URL of ECR",           away(ecr()),    LocationsEnd,          own),
        ("a password, with 401",          pair(),         PasswordChanges,       own),
        ("a password before storage",     away(pair()),   PasswordChanges,       own),
        ("ECR's, with a bare 403",        ecr(),          PasswordChanges,       own),
        ("ECR Public's, with a bare 400", public(),       TokensEnd,             apart),
        ("ECR Public's before storage",   away(public()), TokensEnd,             apart),
        ("a password behind a token",     token(),        PasswordChanges,       apart),
    ];
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_at_any_moment_is_had_anew() {
    let ends = ends();
    let lines = MOMENTS.into_iter().flat_map(|when| {
        let readers = [Reader::Indexer, Reader::Mount].into_iter();
        let ends = &ends;
        readers.flat_map(move |reader| {
            ends.iter().map(move |(what, options, event, hosts)| Case {
                what: (*what).to_owned(),
                options: options.clone(),
                reader,
                when,
                event: event.clone(),
                hosts: *hosts,
                ..Case::default()
            })
        })
    });
    check(lines.filter(has_effect).collect()).await;
}

/// Whether anything was given out that can end.
fn has_effect(case: &Case) -> bool {
    let is_change = matches!(case.event, Event::PasswordChanges);
    is_change || case.ends_tokens() || case.ends_location()
}

/// An identity token is exchanged at the token service, and no other host ever sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_of_an_identity_token_is_had_anew() {
    let lines = MOMENTS.map(|when| Case {
        what: "a token of an identity token".to_owned(),
        options: redirecting(bearer(Realm::OtherPort)),
        is_identity_token: true,
        when,
        event: Event::TokensAndLocationsEnd,
        hosts: Hosts::APART,
        ..Case::default()
    });
    check(lines.into_iter().filter(has_effect).collect()).await;
}

/// The shortest lives that are stated in seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lives_for_a_second_is_enough() {
    let second = std::time::Duration::from_secs(1);
    let lines = MOMENTS.map(|when| Case {
        what: "everything lives for a second".to_owned(),
        options: Options {
            token_life: second,
            location_life: second,
            ..redirecting(bearer(Realm::OtherPort))
        },
        when,
        event: Event::TokensAndLocationsEnd,
        hosts: Hosts::APART,
        ..Case::default()
    });
    check(lines.into_iter().filter(has_effect).collect()).await;
}
