//! Callers that were refused, in the audit log.
//!
//! A row is there before the caller is told, and is written to its end when the caller hangs up
//! meanwhile. It says who asked, by the id of their token; what, by the operation's name; and why
//! not. What else was sent, the token's text above all, is in no row. Of a flood, rows say how many
//! they stand for: each workspace has an allowance, however many tokens it makes, and whoever shows
//! none that is known has one together with all others.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use broker::Denial;
use ids::WorkspaceId;

use crate::allowance::{Allowance, with_unwritten};
use crate::caller::OPERATOR;
use crate::foreign;
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::metrics::Refused;
use crate::problem::Refusal;
use crate::token;
use crate::watch::{Operation, Who};

/// How whoever shows no token stands in the audit log.
const NOBODY: &str = "nobody";

/// What callers may still have written.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    allowances: Mutex<Allowances>,
}

#[derive(Debug, Default)]
struct Allowances {
    nobody: Allowance,
    operator: Allowance,
    /// Of those whose tokens were refused something lately.
    workspaces: HashMap<WorkspaceId, Allowance>,
}

/// One refusal of a caller.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) who: Who,
    pub(crate) refusal: Refusal,
    pub(crate) question: Operation,
    pub(crate) reason: String,
}

impl Denials {
    /// Whether a refusal is to be written, and how many were not before it.
    fn count(&self, who: Who, now: Instant) -> Option<u64> {
        lock(&self.allowances).of(who, now).take(now)
    }

    /// A row that stood for so many could not be written: the next one stands for them.
    fn count_again(&self, who: Who, refusals: u64, now: Instant) {
        lock(&self.allowances).of(who, now).not_written(refusals);
    }
}

impl Allowances {
    fn of(&mut self, who: Who, now: Instant) -> &mut Allowance {
        let workspace = match who {
            Who::Nobody => return &mut self.nobody,
            Who::Operator(_) => return &mut self.operator,
            Who::Token(_, workspace) => workspace,
        };
        if !self.workspaces.contains_key(&workspace) {
            // Those that are as good as new need no place.
            self.workspaces
                .retain(|_, allowance| !allowance.is_whole(now));
        }
        self.workspaces.entry(workspace).or_default()
    }
}

impl Gateway {
    /// Has a refusal in the audit log before this returns, and also when this is given up.
    pub(crate) async fn deny(&self, denied: Denied) {
        self.metrics().refused(Refused::Caller(denied.refusal));
        let Some(unwritten) = self.denials().count(denied.who, Instant::now()) else {
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
        let (actor, workspace) = match denied.who {
            Who::Nobody => (NOBODY.to_owned(), None),
            Who::Token(token, workspace) => (token.to_string(), Some(workspace)),
            Who::Operator(workspace) => (OPERATOR.to_owned(), workspace),
        };
        let (refusal, question) = (denied.refusal, &*denied.question);
        let reason = token::hidden_in(&foreign::shown(&denied.reason));
        let reason = with_unwritten(&reason, unwritten);
        tracing::info!(actor, ?refusal, question, reason, "a caller is refused");
        let denial = Denial {
            actor: &actor,
            workspace,
            question,
            reason: &reason,
        };
        if let Err(error) = self.broker().note_denial(denial).await {
            tracing::error!(%error, "a refusal could not be written into the audit log");
            let refusals = unwritten + 1;
            self.denials()
                .count_again(denied.who, refusals, Instant::now());
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
    use vault::{RootKey, VaultPlace};

    use super::*;
    use crate::gateway::Parts;

    /// Far more than a commit takes.
    const PATIENCE: Duration = Duration::from_mins(1);

    #[test]
    fn each_workspace_has_an_allowance_and_all_others_share_one() {
        let (denials, start) = (Denials::default(), Instant::now());
        let flood = |who| while denials.count(who, start).is_some() {};
        // Each time another token.
        let of = |workspace| Who::Token(TokenId::new(), workspace);
        let (first, second) = (WorkspaceId::new(), WorkspaceId::new());
        flood(Who::Nobody);
        flood(of(first));
        assert_eq!(denials.count(of(first), start), None);
        assert_eq!(denials.count(of(second), start), Some(0));
        assert_eq!(denials.count(Who::Operator(None), start), Some(0));
        let known = || lock(&denials.allowances).workspaces.len();
        assert_eq!(known(), 2);

        let later = start + Duration::from_hours(1);
        assert_eq!(denials.count(of(WorkspaceId::new()), later), Some(0));
        assert_eq!(
            known(),
            2,
            "the second is as good as new, the first has untold ones"
        );
        assert_eq!(denials.count(of(first), later), Some(2));
        denials.count_again(of(first), 3, later);
        assert_eq!(denials.count(of(first), later), Some(3));
    }

    /// A gateway that nobody has asked anything.
    async fn gateway(directory: &Path) -> Gateway {
        let paths = BrokerPaths {
            vault: VaultPlace {
                database: directory.join("data/vault.db"),
                root_key: root_key(&directory.join("root.key")),
            },
            state: directory.join("data/state.db"),
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
        let denied = Denied {
            who: Who::Nobody,
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
            (NOBODY, "GET /v1/whoami")
        );
    }
}
