//! What came of a reading: the bytes, or an error that says what it was, and what each host
//! received.

use registry_sim::{Counts, HostCounter};

use super::reading::{BREAK_AFTER, NEXT_PASSWORD, RANGE, Reading};
use super::{Case, Gets, Hosts, May};
use crate::support::PASSWORD;

/// A range is read again by who reads the whole, and what was sent before a break may be lost.
const SENT_TWICE: u64 = RANGE + BREAK_AFTER;

/// What has arrived at a host.
#[derive(Clone, Copy)]
pub(super) struct Received {
    counts: Counts,
    /// Requests with a password in them.
    passwords: u64,
}

impl Reading {
    /// Reads, and judges what came of it.
    pub(super) async fn check(&self, case: &Case) {
        let what = format!("{} at {:?} of {:?}", case.what, case.when, case.reader);
        let before = self.sim.blob_bytes();
        match (self.read(case).await, &case.gets) {
            (Ok(read), Gets::Everything) => {
                assert!(read.config == self.image.config.bytes, "{what}: config");
                for (read, layer) in read.layers.iter().zip(&self.image.layers) {
                    assert!(*read == layer.bytes, "{what}: layer");
                }
                let sent = self.sim.blob_bytes() - before;
                let own = self.own_bytes();
                assert!(sent <= own + SENT_TWICE, "{what}: {sent} bytes for {own}");
            }
            (Err(error), Gets::Refusal(text)) => {
                let shown = format!("{error} {error:?} {:?}", error.hint());
                assert!(shown.contains(text), "{what}: {shown}");
                for secret in [PASSWORD, NEXT_PASSWORD, "sim-token", "sim-signature"] {
                    assert!(!shown.contains(secret), "{what}: {shown}");
                }
            }
            (Ok(_), Gets::Refusal(text)) => panic!("{what}: read in spite of {text}"),
            (Err(error), Gets::Everything) => panic!("{what}: {error}"),
        }
        self.check_hosts(&what, Hosts::of(case));
    }

    fn check_hosts(&self, what: &str, hosts: Hosts) {
        let sim = &self.sim;
        let lines = [
            ("registry", sim.registry(), hosts.registry),
            ("token service", sim.realm(), hosts.realm),
            ("storage", sim.storage(), hosts.storage),
            ("stranger", sim.stranger(), hosts.stranger),
        ];
        for ((name, counter, may), before) in lines.into_iter().zip(self.before) {
            let received = Received::by(counter).since(before);
            received.check(may, &format!("{what}: {name}"));
        }
    }

    fn own_bytes(&self) -> u64 {
        let layers = self.image.layers.iter().map(|layer| layer.bytes.len());
        layers.chain([self.image.config.bytes.len()]).sum::<usize>() as u64
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
