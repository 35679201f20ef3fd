//! The fault matrix: what goes wrong between a credential and the bytes of an image, and where.
//!
//! Each case is a line: what the registry is like, what happens and when, what the reader gets, and
//! what each host may have received. Two things hold for every line: a read that could still be
//! answered is answered, with the image's own bytes; and no host receives more of a credential than
//! belongs to it, in whatever form.

mod elsewhere;
mod events;
mod expiry;
mod judging;
mod reading;
mod realms;
mod silence;
mod troubles;

use dial::Limits;
use futures::future::join_all;
use registry_sim::{Faults, Options};

use reading::Reading;

/// A point of a start, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Before the registry was asked for anything.
    Challenge,
    /// There is an auth, and nothing was read with it.
    Manifest,
    Config,
    FirstLayer,
    /// A layer is read by ranges, and one of them was read.
    BetweenRanges,
    /// The first bytes of a long range are here; then its connection breaks.
    WithinRange,
    SecondLayer,
}

const MOMENTS: [Moment; 7] = [
    Moment::Challenge,
    Moment::Manifest,
    Moment::Config,
    Moment::FirstLayer,
    Moment::BetweenRanges,
    Moment::WithinRange,
    Moment::SecondLayer,
];

/// Who reads the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// With an auth, as at the first use of an image.
    Indexer,
    /// At signed locations where there are any, as every later start does.
    Mount,
}

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    Nothing,
    /// Every token that was given out has ended.
    TokensEnd,
    /// Every signed URL that was given out has ended.
    LocationsEnd,
    TokensAndLocationsEnd,
    /// The registry takes another password from now on, and the user has logged in with it.
    PasswordChanges,
    /// Every token has ended, and the next one is long in coming.
    ServiceIsSlow,
    /// The token service answers nobody from now on.
    ServiceIsSilent,
    /// Every token has ended, and the service answers nobody from now on.
    TokensEndInSilence,
    /// The same, until what was given up is asked again.
    ServiceIsSilentOnce,
    /// Something goes wrong from now on.
    Faults(fn(&mut Faults)),
    /// Every token has ended, and something goes wrong from now on.
    TokensEndAnd(fn(&mut Faults)),
    /// The registry sends the readers of its blobs there.
    Redirects(String),
    /// It sends them to the first, which sends them on to the second.
    Strays(String, Option<String>),
    /// The registry names another token service, and takes no token of the one that it had.
    Realm(String),
    /// The registry has the second layer no longer.
    LayerIsRemoved,
}

/// What the reader gets.
#[derive(Debug, Clone)]
enum Gets {
    /// The image's own bytes, all of them.
    Everything,
    /// An error that says this.
    Refusal(&'static str),
    /// The whole of the first layer, and then an error that says this.
    FirstLayer(&'static str),
}

/// The most that a host may have received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// No request.
    Nothing,
    /// Requests without a byte of any credential.
    Questions,
    /// Tokens, and nothing of what they were had for.
    Tokens,
    /// The user's name and password, or the identity token. Where all is read it has.
    Password,
}

/// What the hosts may have received.
#[derive(Debug, Clone, Copy)]
struct Hosts {
    registry: May,
    /// The token service, where it is a host of its own.
    realm: May,
    storage: May,
    /// Somebody who has nothing to do with it and asks everybody for a password.
    stranger: May,
}

impl Hosts {
    /// A registry that is its own token service, or wants the password itself.
    const OWN: Self = Self {
        registry: May::Password,
        realm: May::Nothing,
        storage: May::Nothing,
        stranger: May::Nothing,
    };
    /// A registry that has its tokens from another host.
    const APART: Self = Self {
        registry: May::Tokens,
        realm: May::Password,
        ..Self::OWN
    };

    /// As they are where blobs are behind signed URLs.
    fn of(case: &Case) -> Self {
        let storage = if case.options.redirect_blobs {
            May::Questions
        } else {
            May::Nothing
        };
        Self {
            storage,
            ..case.hosts
        }
    }
}

/// One line of the matrix.
struct Case {
    what: String,
    options: Options,
    /// Whether the user gave an identity token in place of a password.
    is_identity_token: bool,
    /// How long the reader waits for a reply.
    limits: Limits,
    /// What the user allowed by name.
    token_service: Option<String>,
    reader: Reader,
    when: Moment,
    event: Event,
    gets: Gets,
    hosts: Hosts,
    /// What they may have received of it since the event, where that is less.
    hosts_after: Option<Hosts>,
}

impl Case {
    /// Whether tokens that were given out end.
    fn ends_tokens(&self) -> bool {
        matches!(self.event, Event::TokensEnd | Event::TokensAndLocationsEnd)
            && self.when != Moment::Challenge
    }

    /// Whether a location ends while somebody reads at it.
    fn ends_location(&self) -> bool {
        matches!(
            self.event,
            Event::LocationsEnd | Event::TokensAndLocationsEnd
        ) && self.options.redirect_blobs
            && self.reader == Reader::Mount
            && matches!(self.when, Moment::BetweenRanges | Moment::WithinRange)
    }
}

impl Default for Case {
    fn default() -> Self {
        Self {
            what: String::new(),
            options: Options::default(),
            is_identity_token: false,
            limits: Limits::default(),
            token_service: None,
            reader: Reader::Mount,
            when: Moment::Challenge,
            event: Event::Nothing,
            gets: Gets::Everything,
            hosts: Hosts::OWN,
            hosts_after: None,
        }
    }
}

/// Plays all lines at once, so that those that wait wait together.
async fn check(cases: Vec<Case>) {
    assert!(!cases.is_empty());
    join_all(cases.into_iter().map(|case| async move {
        let reading = Reading::begin(&case).await;
        reading.check(&case).await;
    }))
    .await;
}
