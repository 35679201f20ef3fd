//! The keys of workspaces that this process has asked for.
//!
//! A keeper is a process of this machine, and what it gave stays. What came from a key service is
//! used for a stated time and wiped after it, so that a workspace that was shredded elsewhere, or a
//! root key that was taken back, opens nothing for longer than that; meanwhile no opening waits for
//! a network. Of many that need the same key at once, one asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ids::WorkspaceId;
use tokio::sync::Mutex as TurnMutex;
use tokio::time::Instant as TimerInstant;

use crate::clock::Clock;
use crate::error::VaultError;
use crate::keys::Key;
use crate::root_key::KeyServiceError;

/// Keys that are remembered of a service: some hundred bytes each. With more workspaces in use
/// within the time of a key, the oldest are asked for again.
const KEYS_MAX: usize = 16 * 1024;
/// How much longer a key may be used by what began while it was good, so that no transaction waits
/// for a network. As long as a writer waits for others.
const GRACE: Duration = Duration::from_secs(30);
/// How many workspaces are asked about at once. Two that share a turn wait for each other.
const TURNS: usize = 64;

#[derive(Debug)]
pub(crate) struct KnownKeys {
    clock: Clock,
    /// How long a key is good; for ever where there is none.
    key_time: Option<Duration>,
    known: Mutex<HashMap<WorkspaceId, Known>>,
    turns: Vec<TurnMutex<Turn>>,
}

#[derive(Debug)]
struct Known {
    key: Arc<Key>,
    asked_ms: i64,
    /// By a clock that nobody sets, for the wiping.
    asked: TimerInstant,
}

/// The right to ask about some workspaces, with what came of it last if that was a failure.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    failed: Option<(Instant, WorkspaceId, String, KeyServiceError)>,
}

impl KnownKeys {
    pub(crate) fn new(clock: Clock, key_time: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            key_time,
            known: Mutex::default(),
            turns: (0..TURNS).map(|_| TurnMutex::default()).collect(),
        })
    }

    /// Whether whoever needs a key should ask for it before it takes what others wait for.
    pub(crate) fn are_far(&self) -> bool {
        self.key_time.is_some()
    }

    /// Whether a key is good for something that begins now.
    pub(crate) fn is_good(&self, workspace: WorkspaceId) -> bool {
        let now_ms = self.clock.now_ms();
        let known = self.known();
        let known = known.get(&workspace);
        known.is_some_and(|known| self.is_within(known, now_ms, Duration::ZERO))
    }

    pub(crate) fn get(&self, workspace: WorkspaceId) -> Option<Arc<Key>> {
        let now_ms = self.clock.now_ms();
        let known = self.known();
        let known = known.get(&workspace)?;
        self.is_within(known, now_ms, GRACE)
            .then(|| Arc::clone(&known.key))
    }

    pub(crate) fn remember(self: &Arc<Self>, workspace: WorkspaceId, key: Key) -> Arc<Key> {
        let key = Arc::new(key);
        let asked_ms = self.clock.now_ms();
        let remembered = Arc::clone(&key);
        let mut known = self.known();
        if self.are_far() && known.len() >= KEYS_MAX {
            let oldest = known.iter().min_by_key(|(_, known)| known.asked_ms);
            if let Some(oldest) = oldest.map(|(workspace, _)| *workspace) {
                known.remove(&oldest);
            }
        }
        let asked = TimerInstant::now();
        let new = Known {
            key,
            asked_ms,
            asked,
        };
        known.insert(workspace, new);
        drop(known);
        self.wipe_in_time();
        remembered
    }

    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.known().remove(&workspace);
    }

    /// The turn of this workspace. Whoever has it asks, and others wait for what it learns.
    pub(crate) fn turn(&self, workspace: WorkspaceId) -> &TurnMutex<Turn> {
        // The last byte of an id is random.
        let [.., last] = *workspace.uuid().as_bytes();
        &self.turns[usize::from(last) % TURNS]
    }

    /// Wipes a key when its time is over, also in a process that does nothing more.
    fn wipe_in_time(self: &Arc<Self>) {
        let Some(key_time) = self.key_time else {
            return;
        };
        let keys = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(key_time + GRACE).await;
            if let Some(keys) = keys.upgrade() {
                keys.wipe_old(key_time + GRACE);
            }
        });
    }

    fn wipe_old(&self, limit: Duration) {
        self.known()
            .retain(|_, known| known.asked.elapsed() < limit);
    }

    /// A clock that shows less than when the key was asked for was set back: how old it is is not
    /// known.
    fn is_within(&self, known: &Known, now_ms: i64, grace: Duration) -> bool {
        let Some(key_time) = self.key_time else {
            return true;
        };
        let limit_ms = i64::try_from((key_time + grace).as_millis()).unwrap_or(i64::MAX);
        let age_ms = now_ms.saturating_sub(known.asked_ms);
        (0..limit_ms).contains(&age_ms)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// What came of asking about this workspace, where that was after `since`.
    pub(crate) fn failed_since(
        &self,
        workspace: WorkspaceId,
        since: Instant,
    ) -> Option<VaultError> {
        let (at, about, key, source) = self.failed.as_ref()?;
        (*at >= since && *about == workspace).then(|| VaultError::KeyService {
            key: key.clone(),
            source: source.clone(),
        })
    }

    pub(crate) fn note(&mut self, workspace: WorkspaceId, error: &VaultError) {
        if let VaultError::KeyService { key, source } = error {
            let (key, source) = (key.clone(), source.clone());
            self.failed = Some((Instant::now(), workspace, key, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// The clock stands still, as one does that is set back while a key grows old.
    #[tokio::test]
    async fn a_key_is_wiped_whatever_the_clock_shows() {
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let keys = KnownKeys::new(clock, Some(Duration::from_hours(1)));
        keys.remember(WorkspaceId::new(), Key::random());
        keys.wipe_old(Duration::from_hours(1));
        assert_eq!(keys.known().len(), 1);
        keys.wipe_old(Duration::ZERO);
        assert!(keys.known().is_empty());
    }
}
