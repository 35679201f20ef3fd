//! What was given out to a worker, or of a credential: what others may still use when one of them
//! fell into wrong hands, and what is to be rotated.
//!
//! Of the audit log, so that it is known after leases, containers and workers are gone.

use std::collections::BTreeMap;

use credential::RegistryScope;
use ids::{WorkerId, WorkspaceId};
use jiff::Timestamp;
use token_exchange::Rung;
use vault::{EXPOSURES_LIMIT, Exposure, ExposureOf};

use crate::broker::Broker;
use crate::error::BrokerError;

/// What is given that opens more than one repository for some minutes: it ends when it is changed
/// where it is from.
const ROTATED: [&str; 4] = [
    Rung::GivenToken.as_str(),
    Rung::MintedPassword.as_str(),
    Rung::Basic.as_str(),
    NAMED_SECRET,
];
/// What stands for a rung where a container was given a named secret.
const NAMED_SECRET: &str = "secret";

/// Who, or what, fell into wrong hands.
#[derive(Debug, Clone, Copy)]
pub enum BlastOf<'a> {
    Worker(WorkerId),
    Credential(WorkspaceId, &'a RegistryScope),
}

/// What was given to one container or program of others, as far as it is of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    pub workspace: String,
    /// The name of the secret that it is, or is made of.
    pub secret: String,
    /// Of a registry credential.
    pub scope: Option<String>,
    pub version: u32,
    pub worker: Option<String>,
    pub container: String,
    /// The program of others that it was handed out to, where it was no container.
    pub recipient: Option<String>,
    /// Registry and repository.
    pub repository: Option<String>,
    pub rung: String,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// When the last of it ends; unknown where it lasts until it is changed where it is from.
    pub not_after: Option<Timestamp>,
    /// Whether it may be used still.
    pub is_alive: bool,
}

/// All of it, the last given first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blast {
    pub exposed: Vec<Exposed>,
    /// Scopes and named secrets whose values others may have: they end by being changed where they
    /// are from, and then here.
    pub rotate: Vec<String>,
    /// When all that ends by itself has ended.
    pub tokens_end: Option<Timestamp>,
}

impl Broker {
    /// What was given out since then, and what of it can still be used.
    pub async fn blast(
        &self,
        of: BlastOf<'_>,
        since: Option<Timestamp>,
    ) -> Result<Blast, BrokerError> {
        let name;
        let of = match of {
            BlastOf::Worker(worker) => ExposureOf::Worker(worker),
            BlastOf::Credential(workspace, scope) => {
                name = scope.secret_name();
                ExposureOf::Secret(workspace, &name)
            }
        };
        let rows = self.inner.vault.exposures(of, since).await?;
        if rows.len() >= EXPOSURES_LIMIT as usize {
            tracing::warn!("only the last {EXPOSURES_LIMIT} times that something was given count");
        }
        Ok(Blast::of(rows, self.inner.clock.now()))
    }

    /// The worker of this name or id that has ever joined.
    pub async fn worker_that_was(&self, named: &str) -> Result<Option<WorkerId>, BrokerError> {
        if let Ok(id) = named.parse() {
            return Ok(Some(id));
        }
        Ok(self.inner.vault.joined_worker(named).await?)
    }
}

impl Blast {
    fn of(rows: Vec<Exposure>, now: Timestamp) -> Self {
        let mut together: BTreeMap<_, Exposed> = BTreeMap::new();
        for row in rows {
            let key = (
                row.worker.clone(),
                row.container.clone(),
                row.recipient.clone(),
                row.secret_id.clone(),
                row.version,
                row.repository.clone(),
                row.rung.clone(),
            );
            let row = exposed(row);
            together
                .entry(key)
                .and_modify(|known| known.add(&row))
                .or_insert(row);
        }
        let mut exposed: Vec<_> = together.into_values().collect();
        for row in &mut exposed {
            row.is_alive = row.not_after.is_none_or(|end| now < end);
        }
        exposed.sort_by_key(|row| std::cmp::Reverse(row.last_at));
        let alive = || exposed.iter().filter(|row| row.is_alive);
        let is_rotated = |row: &&Exposed| ROTATED.contains(&row.rung.as_str());
        let named = |row: &Exposed| row.scope.clone().unwrap_or_else(|| row.secret.clone());
        let mut rotate: Vec<String> = alive().filter(is_rotated).map(named).collect();
        rotate.sort();
        rotate.dedup();
        let tokens_end = alive().filter_map(|row| row.not_after).max();
        Self {
            exposed,
            rotate,
            tokens_end,
        }
    }
}

fn exposed(row: Exposure) -> Exposed {
    Exposed {
        workspace: row.workspace,
        secret: row.secret,
        scope: row.scope,
        version: row.version,
        worker: row.worker,
        container: row.container,
        recipient: row.recipient,
        repository: row.repository,
        rung: row.rung,
        first_at: row.at,
        last_at: row.at,
        not_after: row.not_after,
        is_alive: true,
    }
}

impl Exposed {
    /// The same was given again: what has no end lasts longest.
    fn add(&mut self, other: &Self) {
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.not_after = self
            .not_after
            .zip(other.not_after)
            .map(|(one, two)| one.max(two));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn row(rung: &str, given: i64, end: Option<i64>) -> Exposure {
        let scope = (rung != NAMED_SECRET).then(|| "ghcr.io".to_owned());
        Exposure {
            at: at(given),
            workspace: "wsp".to_owned(),
            secret_id: rung.to_owned(),
            secret: "NAME".to_owned(),
            scope,
            version: 1,
            worker: None,
            container: "ctr".to_owned(),
            recipient: None,
            repository: None,
            rung: rung.to_owned(),
            not_after: end.map(at),
        }
    }

    #[test]
    fn what_is_alive_and_what_is_to_be_rotated() {
        let bearer = Rung::RepositoryBearer.as_str();
        let basic = Rung::Basic.as_str();
        for (what, rows, alive, rotate, tokens_end) in [
            ("nothing", vec![], vec![], vec![], None),
            (
                "a dead token",
                vec![row(bearer, 0, Some(60))],
                vec![false],
                vec![],
                None,
            ),
            (
                "two of one container",
                vec![row(bearer, 50, Some(160)), row(bearer, 0, Some(60))],
                vec![true],
                vec![],
                Some(160),
            ),
            (
                "a password",
                vec![row(basic, 0, None)],
                vec![true],
                vec!["ghcr.io"],
                None,
            ),
            (
                "a password that was minted and is over",
                vec![row(Rung::MintedPassword.as_str(), 0, Some(99))],
                vec![false],
                vec![],
                None,
            ),
            (
                "a named secret beside a token",
                vec![row(NAMED_SECRET, 2, None), row(bearer, 1, Some(101))],
                vec![true, true],
                vec!["NAME"],
                Some(101),
            ),
        ] {
            let blast = Blast::of(rows, at(100));
            let found: Vec<_> = blast.exposed.iter().map(|row| row.is_alive).collect();
            assert_eq!(
                (found, blast.tokens_end),
                (alive, tokens_end.map(at)),
                "{what}"
            );
            assert_eq!(blast.rotate, rotate, "{what}");
        }
    }
}
