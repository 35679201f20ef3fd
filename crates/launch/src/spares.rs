//! Sandboxes that are ready before anybody asks, for a process that starts one container after the
//! other.
//!
//! One is made for the ids of a start, after that, and kept for a while: as many as start at once
//! are there for the next ones. Invariants: a spare is what [`Sandbox`] says and nothing more, so
//! that it tells of no container before; it is given to those alone whose ids it has; none is left
//! when [`Spares::end`] returns.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use container::{IdRange, NetworkMode};
use ids::ContainerId;
use tokio::time::Instant;

use crate::sandbox::{Preparing, SandboxRequest};
use crate::waterfall::Waterfall;

/// Each is a process of some megabytes, an address and two interfaces. More starts at once than
/// this wait for the processors anyway.
const MAX_SPARES: usize = 8;

/// A program that calls again does so within moments. Afterwards what a spare holds is better free.
const IDLE: Duration = Duration::from_mins(1);

/// How often those that nobody wanted are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Those of one process. Clones share them.
#[derive(Clone, Debug)]
pub struct Spares(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: PathBuf,
    containers_dir: PathBuf,
    network: NetworkMode,
    pool: Mutex<Pool>,
    /// Held while some are taken away.
    clearing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Pool {
    /// The oldest first.
    spares: Vec<Spare>,
    is_over: bool,
}

#[derive(Debug)]
struct Spare {
    ids: Option<IdRange>,
    since: Instant,
    sandbox: Preparing,
}

impl Spares {
    /// None yet. The program and the directory are those of [`SandboxRequest`].
    pub fn new(program: PathBuf, containers_dir: PathBuf, network: NetworkMode) -> Self {
        let shared = Arc::new(Shared {
            program,
            containers_dir,
            network,
            pool: Mutex::default(),
            clearing: tokio::sync::Mutex::default(),
        });
        let owner = Arc::downgrade(&shared);
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                let Some(shared) = owner.upgrade() else {
                    return;
                };
                shared.clear(IDLE).await;
            }
        });
        Self(shared)
    }

    /// A spare with these ids, or one that is being made.
    pub async fn take(&self, ids: Option<IdRange>, waterfall: &Arc<Waterfall>) -> Preparing {
        while let Some(mut spare) = self.0.oldest(ids) {
            match spare.ready().await {
                Ok(mut sandbox) => {
                    if sandbox.is_sound() {
                        return Preparing::of(sandbox);
                    }
                    sandbox.undo().await;
                }
                Err(error) => tracing::warn!(%error, "a spare sandbox was not made"),
            }
        }
        Preparing::begin(self.0.request(ids), waterfall)
    }

    /// Has one made for who comes next, where there is room.
    pub fn refill(&self, ids: Option<IdRange>) {
        let mut pool = self.0.pool();
        if pool.is_over || pool.spares.len() >= MAX_SPARES {
            return;
        }
        let unseen = Arc::new(Waterfall::begin());
        pool.spares.push(Spare {
            ids,
            since: Instant::now(),
            sandbox: Preparing::begin(self.0.request(ids), &unseen),
        });
    }

    /// Takes all away, and has no more made.
    pub async fn end(&self) {
        self.0.pool().is_over = true;
        self.0.clear(Duration::ZERO).await;
    }
}

impl Shared {
    fn request(&self, ids: Option<IdRange>) -> SandboxRequest {
        SandboxRequest {
            id: ContainerId::new(),
            program: self.program.clone(),
            containers_dir: self.containers_dir.clone(),
            ids,
            network: self.network,
        }
    }

    fn oldest(&self, ids: Option<IdRange>) -> Option<Preparing> {
        let mut pool = self.pool();
        let place = pool.spares.iter().position(|spare| spare.ids == ids)?;
        Some(pool.spares.remove(place).sandbox)
    }

    /// Takes away those that are as old as this.
    async fn clear(&self, age: Duration) {
        let _alone = self.clearing.lock().await;
        let is_old = |spare: &mut Spare| spare.since.elapsed() >= age;
        let old: Vec<Spare> = self.pool().spares.extract_if(.., is_old).collect();
        for spare in old {
            spare.sandbox.undo().await;
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use image_mount::MountServer;
    use tempfile::TempDir;

    use super::*;

    /// A program that waits for its files, as a mount process does.
    fn spares(top: &TempDir) -> Spares {
        let program = top.path().join("waits");
        fs::write(&program, "#!/bin/sh\nexec cat > /dev/null\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        Spares::new(program, top.path().join("run"), NetworkMode::None)
    }

    fn directories(top: &TempDir) -> usize {
        let entries = fs::read_dir(top.path().join("run")).unwrap().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    }

    const TEAM: Option<IdRange> = Some(IdRange::starting_at(0x7190_0000));
    const OTHERS: Option<IdRange> = Some(IdRange::starting_at(0x7191_0000));

    #[tokio::test]
    async fn a_spare_is_given_once_and_to_those_whose_ids_it_has() {
        let (top, waterfall) = (TempDir::new().unwrap(), Arc::new(Waterfall::begin()));
        let spares = spares(&top);
        spares.refill(TEAM);
        let spare = spares.0.pool().spares[0].sandbox.id();
        let theirs = spares.take(OTHERS, &waterfall).await;
        assert_ne!(theirs.id(), spare);
        let own_waterfall = Arc::new(Waterfall::begin());
        let own = spares.take(TEAM, &own_waterfall).await;
        assert_eq!(own.id(), spare);
        assert_eq!(own_waterfall.phases(), [], "it was there");
        let next = spares.take(TEAM, &waterfall).await;
        assert_ne!(next.id(), spare);
        for sandbox in [theirs, own, next] {
            sandbox.undo().await;
        }
        assert_eq!(directories(&top), 0);
    }

    #[tokio::test]
    async fn there_are_few_and_none_is_left_at_the_end() {
        let top = TempDir::new().unwrap();
        let spares = spares(&top);
        for _ in 0..2 * MAX_SPARES {
            spares.refill(None);
        }
        assert_eq!(spares.0.pool().spares.len(), MAX_SPARES);
        spares.0.clear(IDLE).await;
        assert_eq!(spares.0.pool().spares.len(), MAX_SPARES, "none is old");
        spares.end().await;
        spares.refill(None);
        assert_eq!(spares.0.pool().spares.len(), 0);
        assert_eq!(directories(&top), 0);
    }

    #[tokio::test]
    async fn one_whose_process_has_ended_is_not_given() {
        let (top, waterfall) = (TempDir::new().unwrap(), Arc::new(Waterfall::begin()));
        let spares = spares(&top);
        let mut ended = MountServer::start(Path::new("/bin/true")).unwrap();
        while ended.is_there() {
            tokio::task::yield_now().await;
        }
        spares.refill(None);
        let spare = &mut spares.0.pool().spares.remove(0).sandbox;
        let mut sandbox = spare.ready().await.unwrap();
        let unsound = sandbox.request.id;
        std::mem::replace(&mut sandbox.server, ended).end().await;
        spares.0.pool().spares.push(Spare {
            ids: None,
            since: Instant::now(),
            sandbox: Preparing::of(sandbox),
        });
        let sound = spares.take(None, &waterfall).await;
        assert_ne!(sound.id(), unsound);
        sound.undo().await;
        assert_eq!(directories(&top), 0);
    }
}
