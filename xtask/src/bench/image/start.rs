//! Container start from a warm cache, beside the OCI runtime's own `run` of the unpacked tree.
//!
//! Both use the host's network namespace. The registry's proof (resolving the tag with the
//! credential) is a promise and not a part of starting: its phases are shown in a row of their own.
//! What is prepared beside it costs the start nothing.

use anyhow::Result;
use serde_json::Value;

use super::Lab;
use crate::bench::peer::Peer;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::timed;

/// Phases of the waterfall that wait for the registry or mint for it.
const PROOF_PHASES: &[&str] = &["lease", "resolve"];

const COMMANDS: &[(&str, &[&str], &str)] = &[
    ("start of /bin/true", &["/bin/true"], ""),
    (
        "start of python3 and a library",
        &["python3", "-c", "import requests; print('ready')"],
        "ready",
    ),
];

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let image = lab.registry.push(&lab.demo, &lab.login)?;
    lab.ours.login(&lab.registry.address(), &lab.login)?;
    let peer = Peer::new(&lab.folder("start-peer"))?;
    peer.forget()?;
    let auth_file = lab
        .registry
        .auth_file(&lab.registry.address(), &lab.login)?;
    peer.pull(&image, &auth_file)?;
    peer.unpack()?;
    let mut rows = Vec::new();
    for (what, words, expected) in COMMANDS {
        peer.prepare(words)?;
        let (mut ours, mut proof, mut theirs) =
            (Samples::default(), Samples::default(), Samples::default());
        // One turn each to warm what is to be warm.
        lab.ours.run(&image, words, expected)?;
        peer.run(expected)?;
        for _ in 0..lab.runs * TURNS_PER_RUN {
            let (timing, seconds) = timed(|| lab.ours.run(&image, words, expected))?;
            let waited = proof_ms(&timing);
            ours.push(seconds * 1000.0 - waited);
            proof.push(waited);
            theirs.push(timed(|| peer.run(expected))?.1 * 1000.0);
        }
        rows.push(row(what, ours, &theirs, Target::AtMost(1.5)));
        rows.push(row(
            &format!("  registry's proof for {what}"),
            proof,
            &theirs,
            Target::None,
        ));
    }
    peer.forget()?;
    Ok(rows)
}

/// Starts are short, so each run takes several.
const TURNS_PER_RUN: usize = 5;

fn proof_ms(timing: &Value) -> f64 {
    let phases = timing["phases"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    phases
        .iter()
        .filter(|phase| {
            phase["name"]
                .as_str()
                .is_some_and(|name| PROOF_PHASES.contains(&name))
        })
        .filter_map(|phase| phase["ms"].as_f64())
        .sum()
}

fn row(what: &str, ours: Samples, peer: &Samples, target: Target) -> Row {
    Row {
        what: what.to_owned(),
        unit: "ms",
        ours,
        peer: peer.clone(),
        peer_name: "runc run of the unpacked tree".to_owned(),
        target,
    }
}
