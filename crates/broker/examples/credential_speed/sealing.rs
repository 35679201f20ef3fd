//! What sealing and opening take: the cipher alone, and the vault with its disk and audit log.

use std::path::Path;
use std::time::Instant;

use credential::{RegistryScope, SecretString};
use ids::WorkspaceId;
use serde_json::{Value, json};
use vault::measuring::Cipher;
use vault::{NewSecret, Vault};

use crate::Outcome;
use crate::clocked::{Callers, pace};
use crate::stage::place;

/// A credential with room: a service account's key has twice as much, a password a fiftieth.
const VALUE_BYTES: usize = 1024;
/// Enough that a clock can tell, and that caches are as warm as they get.
const ROUNDS: u32 = 20_000;

const ONE_SEALS: Callers = Callers::new(1, 200);
const MANY_SEAL: Callers = Callers::new(64, 16);
const ONE_OPENS: Callers = Callers::new(1, 400);
const MANY_OPEN: Callers = Callers::new(64, 64);

/// Microseconds of one sealing and one opening.
pub(crate) fn cipher() -> Outcome<Value> {
    let (cipher, value) = (Cipher::new(), value());
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let length = cipher.seal_and_open(std::hint::black_box(value.as_bytes()));
        if length.map_err(|damage| damage.to_string())? != VALUE_BYTES {
            return Err("what was opened is not as long as what was sealed".into());
        }
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    Ok(json!({ "micros": micros }))
}

pub(crate) async fn vault(folder: &Path) -> Outcome<Value> {
    let vault = Vault::open(place(folder)?).await?;
    let workspace = WorkspaceId::new();
    let seal = |base: usize| {
        let vault = vault.clone();
        move |number: usize| seal(vault.clone(), workspace, base + number)
    };
    let open = || {
        let vault = vault.clone();
        move |number: usize| open(vault.clone(), workspace, number % MANY_SEAL.count)
    };
    let measured = json!({
        "seal_1": pace(ONE_SEALS, seal(0)).await?,
        "seal_64": pace(MANY_SEAL, seal(ONE_SEALS.questions_of_each)).await?,
        "open_1": pace(ONE_OPENS, open()).await?,
        "open_64": pace(MANY_OPEN, open()).await?,
    });
    vault.close().await;
    Ok(measured)
}

/// Each of a name of its own.
async fn seal(vault: Vault, workspace: WorkspaceId, number: usize) -> Outcome<()> {
    let scope = scope(number)?;
    let new = NewSecret {
        name: &scope.secret_name(),
        kind: "basic",
        scope: &scope.to_string(),
        plaintext: &SecretString::from(value()),
        in_clear: None,
    };
    vault.put(workspace, new, "bench").await?;
    Ok(())
}

async fn open(vault: Vault, workspace: WorkspaceId, number: usize) -> Outcome<()> {
    let name = scope(number)?.secret_name();
    let opened = vault.open_secret(workspace, &name, None, "bench").await?;
    drop(opened);
    Ok(())
}

fn scope(number: usize) -> Outcome<RegistryScope> {
    Ok(RegistryScope::parse(&format!(
        "registry.test/team-{number}"
    ))?)
}

fn value() -> String {
    "v".repeat(VALUE_BYTES)
}
