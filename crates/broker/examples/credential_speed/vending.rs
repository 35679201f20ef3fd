//! What vending takes: alone, in a crowd, and while secret and root key rotate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ids::WorkspaceId;
use registry_sim::RegistrySim;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use vault::NewSecret;

use crate::clocked::{Callers, p99_micros, pace};
use crate::stage::{Stage, ask, keys_left, registry};
use crate::{Failure, Outcome};

const ONE_VENDS: Callers = Callers::new(1, 200);
const MANY_VEND: Callers = Callers::new(64, 32);
const ONE_ASKS: Callers = Callers::new(1, 2000);
const MANY_ASK: Callers = Callers::new(64, 200);
const ONE_MINTS: Callers = Callers::new(1, 100);
const MANY_MINT: Callers = Callers::new(64, 8);

const IDENTITIES: usize = 100;
const CROWD: usize = 10_000;

/// More than the thousand a second that are promised, for as long as a dozen rotations take.
const VENDS: usize = 6000;
const VEND_EVERY: Duration = Duration::from_micros(800);
/// Each with a secret of its own.
const ROTATING_WORKSPACES: usize = 10;
/// Between two rotations: often, and not so often that nothing is ever held.
const ROTATION_PAUSE: Duration = Duration::from_millis(200);

/// With a token that is held, on a lease that is held, and with a token of its own each time.
pub(crate) async fn alone(folder: &Path, host: &str) -> Outcome<Value> {
    let stage = Stage::new(folder, host).await?;
    let workspace = stage.workspace(0).await?;
    let held = || {
        let stage = stage.clone();
        move |_| vend(stage.clone(), workspace, 0)
    };
    // Tokens are for one repository: one that was not asked for before has none.
    let minted = |base: usize| {
        let stage = stage.clone();
        move |number| vend(stage.clone(), workspace, base + number)
    };
    let lease = Arc::new(stage.lease(workspace, 0).await?);
    let asked = || {
        let lease = Arc::clone(&lease);
        move |_| {
            let lease = Arc::clone(&lease);
            async move { ask(&lease).await }
        }
    };
    stage.vend(workspace, 0).await?;
    let measured = json!({
        "held_1": pace(ONE_VENDS, held()).await?,
        "held_64": pace(MANY_VEND, held()).await?,
        "asked_1": pace(ONE_ASKS, asked()).await?,
        "asked_64": pace(MANY_ASK, asked()).await?,
        "minted_1": pace(ONE_MINTS, minted(1)).await?,
        "minted_64": pace(MANY_MINT, minted(1 + ONE_MINTS.questions_of_each)).await?,
    });
    lease.end().await?;
    Ok(measured)
}

async fn vend(stage: Stage, workspace: WorkspaceId, app: usize) -> Outcome<()> {
    stage.vend(workspace, app).await
}

/// Vends of a few identities, all at once.
pub(crate) async fn crowd(folder: &Path) -> Outcome<Value> {
    let registry = registry().await;
    let stage = Stage::new(folder, registry.host()).await?;
    let mut workspaces = Vec::with_capacity(IDENTITIES);
    for number in 0..IDENTITIES {
        workspaces.push(stage.workspace(number).await?);
    }
    let before = requests(&registry);
    let begun = Instant::now();
    let mut vends = JoinSet::new();
    for number in 0..CROWD {
        vends.spawn(vend(stage.clone(), workspaces[number % IDENTITIES], 0));
    }
    while let Some(vended) = vends.join_next().await {
        vended??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let [at_door, for_token] = requests(&registry);
    Ok(json!({
        "vends": CROWD,
        "identities": IDENTITIES,
        "seconds": seconds,
        "token_requests": for_token - before[1],
        "door_requests": at_door - before[0],
    }))
}

/// What has arrived at the registry so far: at its door, and for tokens.
fn requests(registry: &RegistrySim) -> [u64; 2] {
    let for_token = registry.token_requests().read().requests;
    [registry.registry().read().requests - for_token, for_token]
}

/// Vends at a steady pace while secrets and the root key are replaced again and again.
pub(crate) async fn rotating(folder: &Path) -> Outcome<Value> {
    let registry = registry().await;
    let stage = Stage::new(folder, registry.host()).await?;
    let mut workspaces = Vec::with_capacity(ROTATING_WORKSPACES);
    for number in 0..ROTATING_WORKSPACES {
        workspaces.push(stage.workspace(number).await?);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let rotating = rotate(stage.clone(), workspaces.clone(), Arc::clone(&is_over));
    let rotations = tokio::spawn(rotating);

    let begun = Instant::now();
    let mut pace = tokio::time::interval(VEND_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut vends = JoinSet::new();
    for number in 0..VENDS {
        pace.tick().await;
        let (stage, workspace) = (stage.clone(), workspaces[number % ROTATING_WORKSPACES]);
        vends.spawn(async move {
            let begun = Instant::now();
            let vended = stage.vend(workspace, 0).await;
            vended.map(|()| begun.elapsed())
        });
    }
    let mut times = Vec::with_capacity(VENDS);
    let mut failures = Vec::new();
    while let Some(vended) = vends.join_next().await {
        match vended? {
            Ok(time) => times.push(time),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    let rotations = rotations.await??;
    if !stage.broker.vault().verify(None).await?.is_sound() {
        return Err("the vault is not sound after its rotations".into());
    }
    Ok(json!({
        "vends": VENDS,
        "failed": failures.len(),
        "failure": failures.first(),
        "rotations": rotations,
        "keys_left": keys_left(folder).await?,
        "per_second": f64::from(u32::try_from(times.len())?) / seconds,
        "p99_micros": p99_micros(times),
    }))
}

/// How often both were replaced: each secret by another version of the same value, as the registry
/// takes only one.
async fn rotate(
    stage: Stage,
    workspaces: Vec<WorkspaceId>,
    is_over: Arc<AtomicBool>,
) -> Result<u32, Failure> {
    let (vault, name) = (stage.broker.vault(), stage.scope()?.secret_name());
    let mut rotations = 0;
    while !is_over.load(Ordering::Relaxed) {
        for workspace in &workspaces {
            let opened = vault.open_secret(*workspace, &name, None, "bench").await?;
            let new = NewSecret {
                name: &name,
                kind: &opened.kind,
                scope: &opened.scope,
                plaintext: &opened.plaintext,
                in_clear: None,
            };
            vault.put(*workspace, new, "bench").await?;
        }
        vault.rotate_root_key(None, "bench").await?;
        rotations += 1;
        tokio::time::sleep(ROTATION_PAUSE).await;
    }
    Ok(rotations)
}
