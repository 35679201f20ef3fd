//! Whoever was refused, in the audit log: callers, workers, and machines that are none.
//!
//! A row is there before the other end is told, and is written to its end when that hangs up
//! meanwhile. It says who asked, by the id of their token, the id of a worker or the fingerprint of
//! a key; what, by the operation's name; and why not. What else was sent, a token's text above all,
//! is in no row. Of a flood, rows say how many they stand for: each workspace has an allowance,
//! however many tokens it makes, and so has each worker; callers who show no token that is known
//! have one together, and so have machines that are no workers.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use broker::{BrokerError, Denial, WorkerEvent};
use ids::{WorkerId, WorkspaceId};
use peer_identity::Fingerprint;

use crate::allowance::{Allowance, with_unwritten};
use crate::caller::Actor;
use crate::foreign;
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::metrics::Refused;
use crate::problem::Refusal;
use crate::token;
use crate::watch::Operation;

/// What may still be written.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    allowances: Mutex<Allowances>,
}

/// Of those who were refused something lately.
#[derive(Debug, Default)]
struct Allowances(HashMap<Source, Allowance>);

/// Those who share an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Nobody,
    Operator,
    Workspace(WorkspaceId),
    /// One worker, however often it comes back.
    Worker(WorkerId),
    /// Machines that are no workers.
    Strangers,
}

/// One refusal.
#[derive(Debug)]
pub(crate) enum Denied {
    Caller {
        who: Actor,
        refusal: Refusal,
        question: Operation,
        reason: String,
    },
    /// A worker that asked about another's container, or for what its own does not read.
    Worker {
        worker: WorkerId,
        question: String,
        reason: &'static str,
    },
    /// Whoever holds this key may not join.
    Join { key: Fingerprint, reason: String },
    /// Whoever holds this key asked as a worker, and is none.
    NotKnown { key: Fingerprint, reason: String },
}

impl Denials {
    /// The next worker of this id, if there is one, has an allowance that is whole.
    pub(crate) fn forget_worker(&self, worker: WorkerId) {
        lock(&self.allowances).0.remove(&Source::Worker(worker));
    }

    /// Whether a refusal is to be written, and how many were not before it.
    fn count(&self, source: Source, now: Instant) -> Option<u64> {
        lock(&self.allowances).of(source, now).take(now)
    }

    /// A row that stood for so many could not be written: the next one stands for them.
    fn count_again(&self, source: Source, refusals: u64, now: Instant) {
        lock(&self.allowances).of(source, now).not_written(refusals);
    }
}

impl Allowances {
    fn of(&mut self, source: Source, now: Instant) -> &mut Allowance {
        if !self.0.contains_key(&source) {
            // Those that are as good as new need no place.
            self.0.retain(|_, allowance| !allowance.is_whole(now));
        }
        self.0.entry(source).or_default()
    }
}

impl From<Actor> for Source {
    fn from(who: Actor) -> Self {
        match who {
            Actor::Nobody => Self::Nobody,
            Actor::Operator(_) => Self::Operator,
            Actor::Token(_, workspace) => Self::Workspace(workspace),
        }
    }
}

impl Denied {
    fn source(&self) -> Source {
        match self {
            Self::Caller { who, .. } => Source::from(*who),
            Self::Worker { worker, .. } => Source::Worker(*worker),
            Self::Join { .. } | Self::NotKnown { .. } => Source::Strangers,
        }
    }

    fn refused(&self) -> Refused {
        match self {
            Self::Caller { refusal, .. } => Refused::Caller(*refusal),
            Self::Worker { .. } => Refused::Worker,
            Self::Join { .. } | Self::NotKnown { .. } => Refused::Stranger,
        }
    }

    /// Why, without what nobody may read there.
    fn reason(&self) -> String {
        match self {
            // A caller's own words may be in it.
            Self::Caller { reason, .. } => token::hidden_in(&foreign::shown(reason)),
            Self::Worker { reason, .. } => (*reason).to_owned(),
            Self::Join { reason, .. } | Self::NotKnown { reason, .. } => reason.clone(),
        }
    }
}

impl Gateway {
    /// Has a refusal in the audit log before this returns, and also when this is given up.
    pub(crate) async fn deny(&self, denied: Denied) {
        self.metrics().refused(denied.refused());
        let Some(unwritten) = self.denials().count(denied.source(), Instant::now()) else {
            self.metrics().row_unwritten();
            return;
        };
        let gateway = self.clone();
        let writing = tokio::spawn(async move { gateway.write(denied, unwritten).await });
        if let Err(error) = writing.await {
            tracing::error!(%error, "a refusal is not in the audit log");
        }
    }

    async fn write(&self, denied: Denied, unwritten: u64) {
        let source = denied.source();
        let reason = with_unwritten(&denied.reason(), unwritten);
        if let Err(error) = self.write_row(denied, &reason).await {
            tracing::error!(%error, "a refusal could not be written into the audit log");
            self.denials()
                .count_again(source, unwritten + 1, Instant::now());
        }
    }

    async fn write_row(&self, denied: Denied, reason: &str) -> Result<(), BrokerError> {
        let broker = self.broker();
        match denied {
            Denied::Caller {
                who,
                refusal,
                question,
                ..
            } => {
                let (actor, question) = (&*who.name(), &*question);
                tracing::info!(actor, ?refusal, question, reason, "a caller is refused");
                let workspace = who.workspace();
                let denial = Denial {
                    actor,
                    workspace,
                    question,
                    reason,
                };
                broker.note_denial(denial).await
            }
            Denied::Worker {
                worker, question, ..
            } => {
                tracing::warn!(%worker, question, reason, "a worker is denied");
                let event = WorkerEvent::Denied {
                    worker,
                    question: &question,
                    reason,
                };
                broker.note_worker_event(event).await
            }
            Denied::Join { key, .. } => {
                let key = &*key.to_string();
                tracing::warn!(key, reason, "a machine may not join");
                let event = WorkerEvent::JoinRefused { key, reason };
                broker.note_worker_event(event).await
            }
            Denied::NotKnown { key, .. } => {
                let key = &*key.to_string();
                tracing::warn!(key, reason, "a machine is no worker");
                let event = WorkerEvent::NotKnown { key, reason };
                broker.note_worker_event(event).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use broker::{Broker, BrokerPaths};
    use dial::{DialPolicy, Dialer};
    use ids::TokenId;
    use image::Indexing;
    use image_store::ImageStore;
    use peer_identity::KeyPair;
    use vault::{RootKey, VaultPlace};

    use super::*;
    use crate::gateway::Parts;

    /// Far more than a commit takes.
    const PATIENCE: Duration = Duration::from_mins(1);

    #[test]
    fn each_workspace_has_an_allowance_and_all_others_share_one() {
        let (denials, start) = (Denials::default(), Instant::now());
        let flood = |source| while denials.count(source, start).is_some() {};
        // Each time another token.
        let of = |workspace| Source::from(Actor::Token(TokenId::new(), workspace));
        let (first, second) = (WorkspaceId::new(), WorkspaceId::new());
        flood(Source::Nobody);
        flood(of(first));
        assert_eq!(denials.count(of(first), start), None);
        assert_eq!(denials.count(of(second), start), Some(0));
        let operator = Source::from(Actor::Operator(None));
        assert_eq!(denials.count(operator, start), Some(0));
        let known = || lock(&denials.allowances).0.len();
        assert_eq!(known(), 4);

        let later = start + Duration::from_hours(1);
        assert_eq!(denials.count(of(WorkspaceId::new()), later), Some(0));
        assert_eq!(
            known(),
            3,
            "nobody and the first have untold ones, others are as good as new"
        );
        assert_eq!(denials.count(of(first), later), Some(2));
        denials.count_again(of(first), 3, later);
        assert_eq!(denials.count(of(first), later), Some(3));
    }

    #[test]
    fn each_worker_has_an_allowance_until_it_is_forgotten() {
        let (denials, now) = (Denials::default(), Instant::now());
        let (worker, other) = (WorkerId::new(), WorkerId::new());
        while denials.count(Source::Worker(worker), now).is_some() {}
        assert_eq!(denials.count(Source::Worker(other), now), Some(0));
        assert_eq!(denials.count(Source::Strangers, now), Some(0));
        denials.forget_worker(worker);
        assert_eq!(denials.count(Source::Worker(worker), now), Some(0));
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_counted_by_the_next_row() {
        let directory = tempfile::tempdir().unwrap();
        let gateway = gateway(directory.path()).await;
        gateway.broker().vault().close().await;
        let (worker, key) = (WorkerId::new(), KeyPair::make().unwrap().fingerprint());
        let reason = String::new;
        let table = [
            Denied::Caller {
                who: Actor::Nobody,
                refusal: Refusal::Token,
                question: Operation::Borrowed("GET /v1/whoami"),
                reason: reason(),
            },
            Denied::Worker {
                worker,
                question: "auth".to_owned(),
                reason: "it is another's",
            },
            Denied::Join {
                key,
                reason: reason(),
            },
        ];
        for denied in table {
            let (shown, source) = (format!("{denied:?}"), denied.source());
            gateway.deny(denied).await;
            let untold = gateway.denials().count(source, Instant::now());
            assert_eq!(untold, Some(1), "{shown}");
        }
    }

    /// A gateway that nobody has asked anything.
    async fn gateway(directory: &Path) -> Gateway {
        let paths = BrokerPaths {
            vault: VaultPlace {
                data: directory.join("data"),
                server: None,
                root_key: root_key(&directory.join("root.key")),
            },
            state: database::DatabaseAddress::File(directory.join("data/state.db")),
        };
        let dialer = Dialer::new(DialPolicy::default());
        Gateway::open(Parts {
            broker: Broker::open(paths, dialer.clone()).await.unwrap(),
            dialer,
            indexing: Indexing {
                store: ImageStore::open(directory.join("data")).unwrap(),
                cache: None,
                program: directory.join("no-indexer"),
            },
            shared_cache: None,
            probe: None,
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what keeps the key is not tested here"
    )]
    fn root_key(file: &Path) -> RootKey {
        RootKey::in_this_process(file)
    }

    #[tokio::test]
    async fn who_hangs_up_is_noted_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let gateway = gateway(directory.path()).await;
        let denied = Denied::Caller {
            who: Actor::Nobody,
            refusal: Refusal::Token,
            question: Operation::Borrowed("GET /v1/whoami"),
            reason: "request shows no token".to_owned(),
        };
        let mut denying = Box::pin(gateway.deny(denied));
        assert!(futures::poll!(&mut denying).is_pending());
        drop(denying);
        let vault = gateway.broker().vault();
        let written = async {
            loop {
                let last = vault.audit_tail(1).await.unwrap();
                if last.iter().any(|row| row.action == "deny") {
                    break last;
                }
                tokio::task::yield_now().await;
            }
        };
        let written = tokio::time::timeout(PATIENCE, written).await.unwrap();
        assert_eq!(
            (&*written[0].actor, &*written[0].subject),
            ("nobody", "GET /v1/whoami")
        );
    }
}
