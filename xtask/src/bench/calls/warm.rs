//! A call that does nothing, of a function that is warm, one after the other from one program.
//!
//! The disk is compared with as well: ours waits for it, since a call that was accepted is kept.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use super::gateway::Gateway;
use super::peers::{Celery, Ray};
use super::program::Program;
use crate::bench::lab::Lab;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::timed;

/// Starts what is to be started, and has every cache be as it stays.
const WARM_UP_CALLS: usize = 200;
/// Before each turn: what idled comes back, and a container that was not kept is started again.
const READY_CALLS: usize = 20;
/// Calls of a turn: three of them are beyond the 99th percentile.
const CALLS: usize = 300;

/// What a small commit writes: a few pages of a log.
const COMMIT_BYTES: usize = 16 << 10;

/// How long a call takes for most, and for nearly all.
#[derive(Default)]
struct Taken {
    p50_ms: Samples,
    p99_ms: Samples,
}

impl Taken {
    fn turn(&mut self, program: &mut Program, kind: &str) -> Result<()> {
        program.make(kind, READY_CALLS)?;
        self.push(&Samples::of(program.make(kind, CALLS)?));
        Ok(())
    }

    fn push(&mut self, turn: &Samples) {
        self.p50_ms.push(turn.percentile(50));
        self.p99_ms.push(turn.percentile(99));
    }
}

#[derive(Default)]
struct Measured {
    sdk: Taken,
    beta9: Taken,
    task: Taken,
    actor: Taken,
    celery: Taken,
    disk: Taken,
}

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let gateway = Gateway::start(lab)?;
    let (mut sdk, mut beta9) = (gateway.sdk()?, gateway.beta9()?);
    let (mut ray, mut celery) = (Ray::start(lab)?, Celery::start(lab)?);
    sdk.make("call", WARM_UP_CALLS)?;
    beta9.make("call", WARM_UP_CALLS)?;
    ray.program.make("task", WARM_UP_CALLS)?;
    ray.program.make("method", WARM_UP_CALLS)?;
    celery.program.make("call", WARM_UP_CALLS)?;
    let mut measured = Measured::default();
    for _ in 0..lab.runs {
        measured.sdk.turn(&mut sdk, "call")?;
        measured.task.turn(&mut ray.program, "task")?;
        measured.beta9.turn(&mut beta9, "call")?;
        measured.actor.turn(&mut ray.program, "method")?;
        measured.celery.turn(&mut celery.program, "call")?;
        measured.disk.push(&commits(&lab.folder("commits"))?);
    }
    drop((sdk, beta9));
    gateway.stop()?;
    Ok(compare(&measured))
}

/// Milliseconds that the disk with our state takes for what a commit asks of it at least.
fn commits(path: &Path) -> Result<Samples> {
    let file = File::create(path)?;
    let mut turn = Samples::default();
    for at in 0..CALLS as u64 {
        file.write_all_at(&[1; COMMIT_BYTES], at * COMMIT_BYTES as u64)?;
        turn.push(timed(|| Ok(file.sync_data()?))?.1 * 1000.0);
    }
    Ok(turn)
}

fn compare(measured: &Measured) -> Vec<Row> {
    let peers = [
        ("Ray task", &measured.task, Target::AtMost(1.0)),
        ("Ray actor method", &measured.actor, Target::None),
        ("Celery, Redis", &measured.celery, Target::None),
        ("the disk's fdatasync", &measured.disk, Target::None),
    ];
    let faces = [
        ("our package", &measured.sdk),
        ("beta9 client", &measured.beta9),
    ];
    let mut rows = Vec::new();
    for (face, ours) in faces {
        for (peer, theirs, target) in &peers {
            let what = format!("warm call by {face}, p50");
            rows.push(row(what, (&ours.p50_ms, &theirs.p50_ms), peer, *target));
        }
        for (peer, theirs, _) in &peers {
            let what = format!("  by {face}, p99");
            rows.push(row(
                what,
                (&ours.p99_ms, &theirs.p99_ms),
                peer,
                Target::None,
            ));
        }
    }
    rows
}

fn row(what: String, (ours, theirs): (&Samples, &Samples), peer: &str, target: Target) -> Row {
    Row {
        what,
        unit: "ms",
        ours: ours.clone(),
        peer: theirs.clone(),
        peer_name: peer.to_owned(),
        target,
    }
}
