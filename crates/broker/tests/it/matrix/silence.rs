//! A token service that takes a question and answers later than anybody waits.

use std::time::Duration;

use dial::Limits;
use registry_sim::{Login, Options, Realm};

use super::{Case, Event, Gets, Hosts, May, Moment, Reader, check};

/// How long readers wait here for a reply. In place of the 40 seconds that people wait.
const PATIENCE: Duration = Duration::from_millis(500);

/// What they say then.
const TOLD: &str = "no reply within 500ms";

fn limits() -> Limits {
    Limits {
        head: PATIENCE,
        ..Limits::default()
    }
}

fn case(realm: &Realm, when: Moment) -> Case {
    Case {
        options: Options {
            login: Login::Bearer(realm.clone()),
            ..Options::default()
        },
        limits: limits(),
        when,
        hosts: match realm {
            Realm::SameHost => Hosts::OWN,
            _ => Hosts::APART,
        },
        ..Case::default()
    }
}

/// What was given up is asked again, and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_service_that_answers_nobody_is_asked_again() {
    let moments = [
        Moment::Challenge,
        Moment::Manifest,
        Moment::BetweenRanges,
        Moment::WithinRange,
        Moment::SecondLayer,
    ];
    let lines = moments.into_iter().flat_map(|when| {
        let readers = [Reader::Indexer, Reader::Mount].into_iter();
        readers.flat_map(move |reader| {
            [Realm::SameHost, Realm::OtherPort].map(|realm| Case {
                what: format!("silent once, {realm:?}"),
                reader,
                event: Event::ServiceIsSilentOnce,
                ..case(&realm, when)
            })
        })
    });
    check(lines.collect()).await;
}

/// While it lasts, a start is told who did not answer, and for how long it was waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_service_that_never_answers_is_told() {
    let start = [Realm::SameHost, Realm::OtherPort].map(|realm| Case {
        what: format!("silent, {realm:?}"),
        event: Event::ServiceIsSilent,
        gets: Gets::Refusal(TOLD),
        hosts: match realm {
            Realm::SameHost => Hosts::OWN,
            _ => Hosts {
                registry: May::Questions,
                ..Hosts::APART
            },
        },
        ..case(&realm, Moment::Challenge)
    });
    let within = [Moment::BetweenRanges, Moment::WithinRange].map(|when| Case {
        what: "silent, and no token".to_owned(),
        event: Event::TokensEndInSilence,
        gets: Gets::Refusal(TOLD),
        ..case(&Realm::OtherPort, when)
    });
    let second = Case {
        what: "silent, and no token".to_owned(),
        event: Event::TokensEndInSilence,
        gets: Gets::FirstLayer(TOLD),
        ..case(&Realm::OtherPort, Moment::SecondLayer)
    };
    check(start.into_iter().chain(within).chain([second]).collect()).await;
}

/// A token that is good needs nobody's answer, whoever waits for one meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_had_is_good_while_its_token_service_is_silent() {
    let moments = [
        Moment::Manifest,
        Moment::FirstLayer,
        Moment::BetweenRanges,
        Moment::WithinRange,
        Moment::SecondLayer,
    ];
    let lines = moments.into_iter().flat_map(|when| {
        [Reader::Indexer, Reader::Mount].map(|reader| Case {
            what: "a good token, in silence".to_owned(),
            reader,
            event: Event::ServiceIsSilent,
            ..case(&Realm::OtherPort, when)
        })
    });
    check(lines.collect()).await;
}
