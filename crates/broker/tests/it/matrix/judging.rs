//! What came of a reading: the bytes, or an error that says what it was, and what each host
//! received.

use std::sync::atomic::Ordering;

use broker::CredentialChoice;
use credential::auth::{AuthRequest, AuthSource};
use registry_client::RegistryError;
use registry_sim::{Counts, HostCounter, RegistrySim};

use super::reading::{BREAK_AFTER, NEXT_PASSWORD, RANGE, Read, Reading, hosts};
use super::{Case, Event, Gets, Hosts, May, Moment};
use crate::support::PASSWORD;

/// A range is read again by who reads the whole, and what was sent before a break may be lost.
const SENT_TWICE: u64 = RANGE + BREAK_AFTER;

/// The first byte of a layer is asked for to learn where it is, by some events more than once.
const LOOKED_AT: u64 = 8;

/// What has arrived at a host.
#[derive(Clone, Copy)]
pub(super) struct Received {
    counts: Counts,
    /// Requests with a password in them.
    passwords: u64,
}

/// What was known when the event began.
pub(super) struct Known {
    received: [Received; 4],
    token_requests: u64,
    /// Requests to the registry.
    asked: usize,
}

impl Reading {
    /// Reads, and judges what came of it.
    pub(super) async fn check(&self, case: &Case) {
        let what = format!("{} at {:?} of {:?}", case.what, case.when, case.reader);
        let before = self.sim.blob_bytes();
        match (self.read(case).await, &case.gets) {
            (Ok(read), Gets::Everything) => {
                self.check_bytes(&read, &what);
                self.check_sent(case, self.sim.blob_bytes() - before, &what);
                self.check_effect(case, &what);
            }
            (Err(error), Gets::Refusal(text)) => check_told(&error, text, &what),
            (Err(error), Gets::FirstLayer(text)) => {
                check_told(&error, text, &what);
                let has_first_layer = self.has_first_layer.load(Ordering::SeqCst);
                assert!(has_first_layer, "{what}: {error} before the layer was read");
            }
            (Ok(_), gets) => panic!("{what}: read in spite of {gets:?}"),
            (Err(error), Gets::Everything) => panic!("{what}: {error}"),
        }
        self.check_silence(case, &what).await;
        self.check_hosts(&what, Hosts::of(case), self.before);
        if let Some(least) = case.hosts_after {
            let known = self.at_event.lock().unwrap();
            let known = known.as_ref().expect("the event took place");
            self.check_hosts(&format!("{what}, since then"), least, known.received);
        }
        if matches!(case.gets, Gets::Everything) {
            self.check_password(case, &what);
        }
    }

    fn check_bytes(&self, read: &Read, what: &str) {
        assert!(read.config == self.image.config.bytes, "{what}: config");
        for (read, layer) in read.layers.iter().zip(&self.image.layers) {
            assert!(*read == layer.bytes, "{what}: layer");
        }
    }

    /// Nothing is sent twice without need.
    fn check_sent(&self, case: &Case, sent: u64, what: &str) {
        let own = self.own_bytes();
        let twice = match (case.when, &case.event) {
            (Moment::WithinRange, _) | (_, Event::Faults(_)) => SENT_TWICE,
            _ => 0,
        };
        let right = own..=own + twice + LOOKED_AT;
        assert!(right.contains(&sent), "{what}: {sent} bytes for {own}");
        if case.when == Moment::WithinRange {
            let mut breaks_left = None;
            self.sim.faults(|faults| breaks_left = faults.break_times);
            assert_eq!(breaks_left, Some(0), "{what}: it broke");
        }
    }

    /// What ended was had anew.
    fn check_effect(&self, case: &Case, what: &str) {
        let known = self.at_event.lock().unwrap();
        let known = known.as_ref().expect("the event took place");
        if case.ends_tokens() {
            let asked = self.sim.token_requests().read().requests;
            assert!(asked > known.token_requests, "{what}: no other token");
        }
        if case.ends_location() {
            let paths = self.sim.registry().paths();
            let layer = &self.image.layers[0].digest;
            let mut since = paths[known.asked..].iter();
            let is_asked = since.any(|path| path.contains(layer.as_str()));
            assert!(is_asked, "{what}: no other location");
        }
    }

    /// Nobody was answered: neither who asked again, nor who needs a token now.
    async fn check_silence(&self, case: &Case, what: &str) {
        let asked_since = {
            let known = self.at_event.lock().unwrap();
            let known = known.as_ref().expect("the event took place");
            self.sim.token_requests().read().requests - known.token_requests
        };
        let is_silent = match case.event {
            Event::ServiceIsSilentOnce | Event::TokensEndInSilence => {
                assert!(asked_since >= 2, "{what}: {asked_since} questions");
                matches!(case.event, Event::TokensEndInSilence)
            }
            Event::ServiceIsSilent => true,
            _ => false,
        };
        if is_silent {
            self.check_needs_answer(what).await;
        }
    }

    /// Who has no token gets none, after waiting for it.
    async fn check_needs_answer(&self, what: &str) {
        let name = format!("{}/acme/other", self.lease().image().registry());
        let name = name.parse().expect("an image's name");
        let lease = self
            .broker
            .lease(self.workspace, &name, CredentialChoice::Auto);
        let lease = lease.await.expect(what);
        let request = AuthRequest {
            registry: name.registry(),
            repository: name.repository(),
            rejected: None,
        };
        let error = lease.auth(request).await.expect_err(what).to_string();
        assert!(
            error.contains("no answer of the token service"),
            "{what}: {error}"
        );
    }

    fn check_hosts(&self, what: &str, may: Hosts, before: [Received; 4]) {
        let names = ["registry", "token service", "storage", "stranger"];
        let may = [may.registry, may.realm, may.storage, may.stranger];
        let now = hosts(&self.sim).map(Received::by);
        for (((name, may), now), before) in names.into_iter().zip(may).zip(now).zip(before) {
            now.since(before).check(may, &format!("{what}: {name}"));
        }
    }

    /// Who may have the password was shown it, else the line says nothing of it.
    fn check_password(&self, case: &Case, what: &str) {
        let shown = |counter: &HostCounter, before: Received| {
            Received::by(counter).since(before).passwords > 0
        };
        let [registry, realm, ..] = self.before;
        let is_shown = match (case.hosts.registry, case.hosts.realm) {
            (_, May::Password) => shown(self.sim.realm(), realm),
            (May::Password, _) => shown(self.sim.registry(), registry),
            _ => true,
        };
        assert!(is_shown, "{what}: nobody was shown the password");
    }

    fn own_bytes(&self) -> u64 {
        let layers = self.image.layers.iter().map(|layer| layer.bytes.len());
        layers.chain([self.image.config.bytes.len()]).sum::<usize>() as u64
    }
}

impl Known {
    pub(super) fn of(sim: &RegistrySim) -> Self {
        Self {
            received: hosts(sim).map(Received::by),
            token_requests: sim.token_requests().read().requests,
            asked: sim.registry().paths().len(),
        }
    }
}

fn check_told(error: &RegistryError, text: &str, what: &str) {
    let shown = format!("{error} {error:?} {:?}", error.hint());
    assert!(shown.contains(text), "{what}: {shown}");
    for secret in [PASSWORD, NEXT_PASSWORD, "sim-token", "sim-signature"] {
        assert!(!shown.contains(secret), "{what}: {shown}");
    }
}

impl Received {
    pub(super) fn by(counter: &HostCounter) -> Self {
        Self {
            counts: counter.read(),
            passwords: counter.sightings(),
        }
    }

    fn since(self, before: Self) -> Self {
        let (counts, other) = (self.counts, before.counts);
        Self {
            counts: Counts {
                requests: counts.requests - other.requests,
                credential_bytes: counts.credential_bytes - other.credential_bytes,
            },
            passwords: self.passwords - before.passwords,
        }
    }

    fn check(self, may: May, what: &str) {
        let Self { counts, passwords } = self;
        let is_allowed = match may {
            May::Nothing => counts.requests == 0,
            May::Questions => counts.credential_bytes == 0,
            May::Tokens => passwords == 0,
            May::Password => true,
        };
        assert!(
            is_allowed,
            "{what}: {counts:?}, {passwords} passwords for {may:?}"
        );
    }
}
