//! Workers on other machines, for whoever runs this installation.

use std::time::Duration;

use broker::{Blast, BlastOf, WorkerEvent};
use ids::WorkerId;
use jiff::{SignedDuration, Timestamp};
use peer_identity::{Fingerprint, JoinToken};

use crate::gateway::Gateway;
use crate::problem::Problem;

/// A token that is found later is found too late.
const LONGEST_LIFE: Duration = Duration::from_hours(7 * 24);

impl Gateway {
    /// Makes a token by which one worker may join, once, the gateway that has this key. Nobody has
    /// its text of whose making the audit log does not say.
    pub async fn make_join_token(
        &self,
        gateway: Fingerprint,
        life: Duration,
        actor: &str,
    ) -> Result<JoinToken, Problem> {
        if life.is_zero() || life > LONGEST_LIFE {
            return Err(Problem::invalid("a join token lives up to a week"));
        }
        let life = SignedDuration::try_from(life).map_err(|error| Problem::internal(&error))?;
        let token = JoinToken::make(gateway).map_err(|error| Problem::internal(&error))?;
        let until = Timestamp::now() + life;
        self.store().add_join_token(&token.hash(), until).await?;
        let event = WorkerEvent::Invited { actor, until };
        self.broker().note_worker_event(event).await?;
        Ok(token)
    }

    /// Removes a worker: its leases end at once, it is cut off within seconds, and its key counts
    /// no more. Answers what it was given, to be rotated.
    pub async fn remove_worker(&self, worker: WorkerId, actor: &str) -> Result<Blast, Problem> {
        if !self.store().remove_worker(worker).await? {
            return Err(Problem::not_found(format!("no worker {worker}")));
        }
        self.broker().evict(worker, actor).await?;
        let event = WorkerEvent::Removed { worker, actor };
        self.broker().note_worker_event(event).await?;
        Ok(self.broker().blast(BlastOf::Worker(worker), None).await?)
    }
}
