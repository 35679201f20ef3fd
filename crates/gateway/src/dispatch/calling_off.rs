//! What becomes of containers whose credential was removed, as whoever removed it said: they go on
//! with what they have, finish what they do, or are stopped and their callers told why.
//!
//! Another process removes credentials, so that they are looked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use broker::AfterRemoval;
use ids::SecretId;

use super::container::Container;
use super::{Dispatch, start};
use crate::gateway::Gateway;
use crate::lock::lock;

impl Gateway {
    /// Looks for credentials that were removed, and ends what is not to run on without them.
    pub async fn call_off(&self) {
        if lock(&self.dispatch().containers).is_empty() {
            return;
        }
        match self.broker().called_off().await {
            Ok(removed) => self.dispatch().call_off(&removed.into_iter().collect()),
            Err(error) => tracing::warn!(%error, "removed credentials cannot be looked for"),
        }
    }
}

impl Dispatch {
    fn call_off(&self, removed: &HashMap<SecretId, AfterRemoval>) {
        let containers: Vec<_> = lock(&self.containers).values().cloned().collect();
        let mut drains = false;
        for container in containers {
            let lease = container.given.reading.lease.as_ref();
            let secret = lease.and_then(|lease| lease.secret_id());
            match secret.and_then(|secret| removed.get(&secret)) {
                Some(AfterRemoval::Drain) => {
                    container.drain();
                    drains = true;
                }
                Some(AfterRemoval::Kill) => kill(container),
                Some(AfterRemoval::Continue) | None => {}
            }
        }
        if drains {
            let pools: Vec<_> = lock(&self.pools).values().cloned().collect();
            pools.iter().for_each(|pool| pool.drain());
        }
    }
}

fn kill(container: Arc<Container>) {
    let lease = container.given.reading.lease.as_ref();
    let scope = lease
        .and_then(|lease| lease.scope())
        .map(ToString::to_string);
    let scope = scope.unwrap_or_default();
    let reason = format!("it was stopped, since the credential for {scope} was removed");
    if container.call_off(&reason) {
        tracing::warn!(container = %container.id, reason, "a container is called off");
        tokio::spawn(async move { start::end(&container, Duration::ZERO).await });
    }
}
