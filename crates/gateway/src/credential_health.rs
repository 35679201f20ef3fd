//! Looking after the stored registry credentials, for as long as a gateway runs: what changes is
//! logged once and counted.

use std::time::Duration;

use broker::{Health, HealthChange};

use crate::gateway::Gateway;

/// How often it is looked whether there is one to be asked about. Each has a time of its own.
const ROUND: Duration = Duration::from_mins(5);

/// Until the first round, in which a gateway that has just started has better to do.
const FIRST_ROUND: Duration = Duration::from_secs(20);

/// Ends with its task alone.
pub(crate) async fn look_after_credentials(gateway: Gateway) {
    let mut health = Health::default();
    tokio::time::sleep(FIRST_ROUND).await;
    loop {
        match gateway.broker().look_after(&mut health).await {
            Ok(changes) => {
                changes.iter().for_each(tell);
                gateway.metrics().credentials(&health, &changes);
            }
            Err(error) => tracing::warn!(%error, "the credentials could not be looked after"),
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn tell(change: &HealthChange) {
    let HealthChange {
        workspace,
        scope,
        version,
        was,
        is,
        message,
    } = change;
    let message = message.as_deref().unwrap_or_default();
    tracing::warn!(
        %workspace, %scope, version, was, is, message,
        "a credential's state has changed"
    );
}
