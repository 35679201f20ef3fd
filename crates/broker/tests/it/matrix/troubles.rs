//! What a registry and its token service do instead of answering, at the first question and in the
//! middle of a read.

use registry_sim::{Faults, Login, Options, Realm};

use super::{Case, Event, Gets, Hosts, MOMENTS, May, Moment, Reader, check};

fn options() -> Options {
    Options {
        login: Login::Bearer(Realm::OtherPort),
        ..Options::default()
    }
}

/// What is done to the token service, by name.
type Trouble = (&'static str, fn(&mut Faults));

/// What happens is over after a while, and the read goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_service_gets_over_is_waited_for() {
    #[rustfmt::skip]
    let troubles: [Trouble; 7] = [
        ("429 with Retry-After",    |faults| limit(faults, Some("1"))),
        ("429 without Retry-After", |faults| limit(faults, None)),
        ("429 with a date long ago", |faults| limit(faults, Some("Sun, 06 Nov 1994 08:49:37 GMT"))),
        ("503",                     |faults| faults.token_unavailable = 2),
        ("500",                     |faults| say_twice(faults, 500, "<html>oops")),
        ("garbage",                 |faults| say_twice(faults, 200, "<html>log in here")),
        ("10 MB",                   |faults| say_twice(faults, 200, &"x".repeat(10_000_000))),
    ];
    let moments = [
        Moment::Challenge,
        Moment::BetweenRanges,
        Moment::WithinRange,
    ];
    let lines = troubles.iter().flat_map(|(what, change)| {
        moments.map(|when| Case {
            what: (*what).to_owned(),
            options: options(),
            when,
            event: Event::TokensEndAnd(*change),
            hosts: Hosts::APART,
            ..Case::default()
        })
    });
    let slow = moments.map(|when| Case {
        what: "slow".to_owned(),
        options: options(),
        when,
        event: Event::ServiceIsSlow,
        hosts: Hosts::APART,
        ..Case::default()
    });
    check(lines.chain(slow).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registry_gets_over_is_waited_for() {
    #[rustfmt::skip]
    let troubles: [Trouble; 4] = [
        ("429 with Retry-After",    |faults| { faults.too_many_requests = 1; pause(faults, "1"); }),
        ("429 without Retry-After", |faults| faults.too_many_requests = 2),
        ("503",                     |faults| faults.unavailable = 2),
        ("replies that break off",  |faults| {
            (faults.reset_after, faults.truncate_after) = (None, Some(70_000));
            faults.break_times = Some(3);
        }),
    ];
    let lines = troubles.iter().flat_map(|(what, change)| {
        MOMENTS.map(|when| Case {
            what: (*what).to_owned(),
            options: options(),
            when,
            event: Event::Faults(*change),
            hosts: Hosts::APART,
            ..Case::default()
        })
    });
    check(lines.collect()).await;
}

fn pause(faults: &mut Faults, seconds: &str) {
    faults.retry_after = Some(seconds.to_owned());
}

fn limit(faults: &mut Faults, pause: Option<&str>) {
    faults.token_too_many_requests = 1;
    faults.retry_after = pause.map(str::to_owned);
}

fn say_twice(faults: &mut Faults, status: u16, body: &str) {
    always_say(faults, status, body);
    faults.token_says_times = Some(2);
}

fn always_say(faults: &mut Faults, status: u16, body: &str) {
    faults.token_says = Some((status, body.to_owned()));
}

/// What does not pass is one error that says what it was, and the password has gone nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_service_does_for_ever_is_told() {
    #[rustfmt::skip]
    let troubles: [(Trouble, &str); 9] = [
        (("500",          |faults| always_say(faults, 500, "oops")),               "status 500"),
        (("garbage",      |faults| always_say(faults, 200, "<html>")),             "usable token"),
        (("10 MB",        |faults| always_say(faults, 200, &"x".repeat(10_000_000))), "longer"),
        (("nothing",      |faults| always_say(faults, 200, "")),                   "usable token"),
        (("a line break", |faults| always_say(faults, 200, r#"{"token":"\n"}"#)),  "usable token"),
        (("401",          |faults| always_say(faults, 401, "")),                   "refused"),
        (("403",          |faults| always_say(faults, 403, "")),                   "no token"),
        (("429 for an hour", |faults| {
            faults.token_too_many_requests = u32::MAX;
            faults.retry_after = Some("3600".to_owned());
        }), "limiting requests"),
        (("a redirect to metadata", |faults| {
            faults.token_redirects_to = Some("http://169.254.169.254/latest/".to_owned());
        }), "redirects"),
    ];
    let lines = troubles.into_iter().map(|((what, change), told)| Case {
        what: what.to_owned(),
        options: options(),
        event: Event::Faults(change),
        gets: Gets::Refusal(told),
        hosts: Hosts {
            // Nothing was ever had that it could have been shown.
            registry: May::Questions,
            ..Hosts::APART
        },
        ..Case::default()
    });
    check(lines.collect()).await;
}

/// A token or a signed URL that is good needs no token service, within a read least of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_had_is_good_without_its_token_service() {
    fn dies(faults: &mut Faults) {
        always_say(faults, 500, "oops");
    }
    let moments = [Moment::Manifest, Moment::BetweenRanges, Moment::WithinRange];
    let lines = moments.into_iter().flat_map(|when| {
        let readers = [
            (Reader::Indexer, false),
            (Reader::Indexer, true),
            (Reader::Mount, true),
        ];
        readers.map(|(reader, redirect_blobs)| Case {
            what: format!("a good token, redirected: {redirect_blobs}"),
            options: Options {
                redirect_blobs,
                ..options()
            },
            reader,
            when,
            event: Event::Faults(dies),
            hosts: Hosts::APART,
            ..Case::default()
        })
    });
    let at_locations = [Moment::BetweenRanges, Moment::WithinRange].map(|when| Case {
        what: "a good signed URL, and no token".to_owned(),
        options: Options {
            redirect_blobs: true,
            ..options()
        },
        when,
        event: Event::TokensEndAnd(dies),
        gets: Gets::FirstLayer("status 500"),
        hosts: Hosts::APART,
        ..Case::default()
    });
    check(lines.chain(at_locations).collect()).await;
}
