//! Vending: a lease, auth to read with, and the lease's end; alone, in a crowd, and in rotations.

use anyhow::{Result, ensure};

use super::Lab;
use super::keychain::{self, Keychain, Question};
use super::pace::{Paces, number};
use crate::bench::report::{Row, Samples, Target};

/// What is promised while secrets and the root key rotate.
const VENDS_PER_SECOND: f64 = 1000.0;

const RESOLVE: &str = "its keychain reads Docker's configuration";
const TOKEN: &str = "its transport's ping and token, nothing kept";

/// What is asked of ours, and what is likest to it of the peer.
struct Vends {
    field: &'static str,
    what: &'static str,
    peer: PeerRuns,
}

struct PeerRuns {
    question: &'static str,
    name: &'static str,
    callers: usize,
    each: usize,
}

const fn peer(question: &'static str, callers: usize, each: usize, name: &'static str) -> PeerRuns {
    PeerRuns {
        question,
        name,
        callers,
        each,
    }
}

const VENDS: [Vends; 6] = [
    Vends {
        field: "held_1",
        what: "vend, token held: lease, auth, end",
        peer: peer("resolve", 1, 2000, RESOLVE),
    },
    Vends {
        field: "held_64",
        what: "vend, token held, 64 callers",
        peer: peer("resolve", 64, 200, RESOLVE),
    },
    Vends {
        field: "asked_1",
        what: "auth on a lease that is held",
        peer: peer("resolve", 1, 2000, RESOLVE),
    },
    Vends {
        field: "asked_64",
        what: "auth on a lease that is held, 64 callers",
        peer: peer("resolve", 64, 200, RESOLVE),
    },
    Vends {
        field: "minted_1",
        what: "vend, token asked for",
        peer: peer("token", 1, 100, TOKEN),
    },
    Vends {
        field: "minted_64",
        what: "vend, token asked for, 64 callers",
        peer: peer("token", 64, 8, TOKEN),
    },
];

pub(super) fn alone(lab: &Lab) -> Result<Vec<Row>> {
    let keychain = Keychain::build()?;
    let registry = lab.program.registry()?;
    let (host, config) = (registry.host(), lab.folder("docker"));
    keychain::log_in(&config, host)?;
    let mut paces: Vec<(Paces, Paces)> = VENDS.iter().map(|_| Default::default()).collect();
    for _ in 0..lab.runs {
        let measured = lab.program.run("vend", &lab.folder("vend"), &[host])?;
        for (vends, (ours, theirs)) in VENDS.iter().zip(&mut paces) {
            ours.push(&measured[vends.field])?;
            let peer = &vends.peer;
            let question = Question {
                what: peer.question,
                host,
                config: &config,
                callers: peer.callers,
                each: peer.each,
            };
            if let Some(pace) = keychain.run(&question)? {
                theirs.push(&pace)?;
            }
        }
    }
    let rows = VENDS.iter().zip(paces).flat_map(|(vends, (ours, theirs))| {
        ours.rows(vends.what, theirs, &keychain.name(vends.peer.name))
    });
    Ok(rows.collect())
}

pub(super) fn crowd(lab: &Lab) -> Result<Vec<Row>> {
    let (mut seconds, mut requests) = (Samples::default(), Samples::default());
    let mut at_doors = Samples::default();
    let mut identities = f64::NAN;
    for _ in 0..lab.runs {
        let measured = lab.program.run("crowd", &lab.folder("crowd"), &[])?;
        identities = number(&measured, "identities")?;
        ensure!(
            measured["token_requests"] == measured["identities"],
            "not one token request for each identity: {measured}"
        );
        requests.push(number(&measured, "token_requests")?);
        seconds.push(number(&measured, "seconds")?);
        at_doors.push(number(&measured, "door_requests")?);
    }
    Ok(vec![
        Row {
            what: "10,000 vends of 100 identities at once: token requests".to_owned(),
            unit: "requests",
            ours: requests,
            peer: Samples::of([identities]),
            peer_name: "one for each identity".to_owned(),
            target: Target::AtMost(1.0),
        },
        Row {
            what: "10,000 vends of 100 identities at once: requests at the door".to_owned(),
            unit: "requests",
            ours: at_doors,
            peer: Samples::of([2.0 * identities]),
            peer_name: "its scheme and its demand, for each identity".to_owned(),
            target: Target::AtMost(1.0),
        },
        alone_row("10,000 vends of 100 identities at once", "s", seconds),
    ])
}

pub(super) fn rotating(lab: &Lab) -> Result<Vec<Row>> {
    let (mut failed, mut rotations) = (Samples::default(), Samples::default());
    let (mut paces, mut per_second) = (Paces::default(), Samples::default());
    for _ in 0..lab.runs {
        let measured = lab.program.run("rotating", &lab.folder("rotating"), &[])?;
        ensure!(measured["failed"] == 0, "vends failed: {measured}");
        ensure!(
            measured["keys_left"] == 0,
            "keys are left under an old root key: {measured}"
        );
        ensure!(
            number(&measured, "rotations")? > 1.0,
            "nothing rotated: {measured}"
        );
        per_second.push(number(&measured, "per_second")?);
        failed.push(number(&measured, "failed")?);
        rotations.push(number(&measured, "rotations")?);
        paces.push(&measured)?;
    }
    let what = "vends, secrets and root key rotate";
    let mut rows = vec![
        Row {
            what: format!("{what}: of 1250/s that are asked for"),
            unit: "1/s",
            ours: per_second,
            peer: Samples::of([VENDS_PER_SECOND]),
            peer_name: "1000/s".to_owned(),
            target: Target::AtLeast(1.0),
        },
        alone_row(&format!("{what}: failed of 6000"), "vends", failed),
        alone_row(&format!("{what}: rotations of both"), "times", rotations),
    ];
    let [_, p99] = paces.rows(what, Paces::default(), "-");
    rows.push(p99);
    Ok(rows)
}

fn alone_row(what: &str, unit: &'static str, ours: Samples) -> Row {
    Row {
        what: what.to_owned(),
        unit,
        ours,
        peer: Samples::default(),
        peer_name: "-".to_owned(),
        target: Target::None,
    }
}
