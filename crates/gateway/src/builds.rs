//! Builds that are under way: how many, one at a time for each image, and who is told of them.
//!
//! A build never waits for whoever listens: a listener that is slow misses lines, and one that is
//! gone is forgotten. Those who build the same image wait for each other and hear the same.

mod progress;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use ids::WorkspaceId;
use reference::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};

use crate::lock::lock;
use crate::problem::{Kind, Problem};

pub(crate) use progress::{LayerLines, Unwatched};

/// Builds at once: each holds a connection to a registry, and few do more than look that all is
/// there already.
const BUILDS_LIMIT: usize = 64;
/// Images whose layers are read at once. Each has up to three in processes of their own, which
/// take a core each; more only divide the link.
const READING_LIMIT: usize = 2;
/// Lines that wait for a listener.
const LINES_LIMIT: usize = 64;

/// Who hears of a build.
pub(crate) type Listener = mpsc::Sender<String>;

/// What is built, and for whom.
type SiteKey = (WorkspaceId, Digest);

#[derive(Debug)]
pub(crate) struct Builds {
    running: Arc<Semaphore>,
    reading: Semaphore,
    sites: Mutex<HashMap<SiteKey, Weak<Site>>>,
}

impl Default for Builds {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(BUILDS_LIMIT)),
            reading: Semaphore::new(READING_LIMIT),
            sites: Mutex::default(),
        }
    }
}

impl Builds {
    /// A place for one more build.
    pub(crate) fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.running).try_acquire_owned();
        place.map_err(|_| {
            let message = format!("{BUILDS_LIMIT} images are being built");
            Problem::new(Kind::Busy, message)
        })
    }

    /// A turn at reading layers, after those who came before.
    pub(crate) async fn reading(&self) -> SemaphorePermit<'_> {
        let turn = self.reading.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// Where this image is built for this workspace.
    pub(crate) fn site(&self, workspace: WorkspaceId, image: &Digest) -> Arc<Site> {
        let mut sites = lock(&self.sites);
        sites.retain(|_, site| site.strong_count() > 0);
        let key = (workspace, image.clone());
        if let Some(site) = sites.get(&key).and_then(Weak::upgrade) {
            return site;
        }
        let site = Arc::new(Site::default());
        sites.insert(key, Arc::downgrade(&site));
        site
    }
}

/// The place where one image is built.
#[derive(Debug, Default)]
pub(crate) struct Site {
    turn: tokio::sync::Mutex<()>,
    listeners: Mutex<Vec<Listener>>,
}

impl Site {
    /// Waits until nobody else builds here, hearing meanwhile what they do.
    pub(crate) async fn turn(&self, listener: &Listener) -> tokio::sync::MutexGuard<'_, ()> {
        self.listeners().push(listener.clone());
        if let Ok(turn) = self.turn.try_lock() {
            return turn;
        }
        say(listener, "waiting for another build of the same image");
        self.turn.lock().await
    }

    /// Tells all who listen.
    pub(crate) fn say(&self, line: &str) {
        let mut listeners = self.listeners();
        listeners.retain(|listener| !listener.is_closed());
        for listener in listeners.iter() {
            say(listener, line);
        }
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        lock(&self.listeners)
    }
}

/// Both ends of what is said of a build.
pub(crate) fn listener() -> (Listener, mpsc::Receiver<String>) {
    mpsc::channel(LINES_LIMIT)
}

pub(crate) fn say(listener: &Listener, line: impl Into<String>) {
    // Nobody is there, or nobody keeps up: the build does not care.
    let _ = listener.try_send(line.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_build_the_same_wait_for_each_other_and_hear_the_same() {
        let (builds, workspace) = (Builds::default(), WorkspaceId::new());
        let digest = |byte| Digest::sha256([byte; 32]);
        let site = builds.site(workspace, &digest(1));
        assert!(Arc::ptr_eq(&site, &builds.site(workspace, &digest(1))));
        for other in [
            builds.site(workspace, &digest(2)),
            builds.site(WorkspaceId::new(), &digest(1)),
        ] {
            assert!(!Arc::ptr_eq(&site, &other));
        }
        let (first, mut first_lines) = listener();
        let (second, mut second_lines) = listener();
        let turn = site.turn(&first).await;
        let waiting = Arc::clone(&site);
        let waiting = tokio::spawn(async move {
            let _turn = waiting.turn(&second).await;
        });
        let waits = second_lines.recv().await.unwrap();
        assert_eq!(waits, "waiting for another build of the same image");
        site.say("layer");
        for lines in [&mut first_lines, &mut second_lines] {
            assert_eq!(lines.recv().await.as_deref(), Some("layer"));
        }
        drop(turn);
        waiting.await.unwrap();
    }

    #[test]
    fn a_listener_that_is_slow_or_gone_holds_nothing_up() {
        let site = Site::default();
        let ((slow, mut lines), (gone, _)) = (listener(), listener());
        site.listeners().extend([slow, gone]);
        for _ in 0..=LINES_LIMIT {
            site.say("line");
        }
        let heard = std::iter::from_fn(|| lines.try_recv().ok()).count();
        assert_eq!((heard, site.listeners().len()), (LINES_LIMIT, 1));
    }

    #[test]
    fn builds_are_bounded() {
        let builds = Builds::default();
        let places: Vec<_> = (0..BUILDS_LIMIT).map(|_| builds.begin().unwrap()).collect();
        assert_eq!(builds.begin().unwrap_err().kind, Kind::Busy);
        drop(places);
        assert!(builds.begin().is_ok());
    }
}
