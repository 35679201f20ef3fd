//! The warm containers of one function, and the calls that wait for a place in one.
//!
//! A place is a call's turn in a container: it goes back to the pool when it is dropped, and on to
//! the call that waits longest. Whoever started a container says here that it is open or that it
//! never will be. Decides when another one is wanted; does not start it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use control_store::{Stub, TaskEnd};
use ids::ContainerId;
use tokio::sync::{oneshot, watch};

use super::census::Census;
use super::container::{Container, SecretVersions};
use crate::lock::lock;

/// The containers of a function and those who wait for them.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) stub: Stub,
    state: Mutex<State>,
    /// Why no container has come yet, while one is tried to be had again.
    trouble: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Open>,
    /// Containers that are being started.
    starting: u32,
    /// The versions of the function's secrets that were current when a call came last.
    secrets: SecretVersions,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

#[derive(Debug)]
struct Open {
    container: Arc<Container>,
    /// Calls that it takes beyond those it has.
    free: u32,
    idle_since: Instant,
    /// Gets no more calls: its secrets are no longer those of the function, or its room is wanted.
    is_outdated: bool,
}

/// What a waiting call gets: a place, or how it ends without one.
type Turn = Result<Place, TaskEnd>;

/// How a call comes to its place.
#[derive(Debug)]
pub(crate) enum Admission {
    Place(Place),
    Ticket(Ticket),
}

/// A call's number in the line.
#[derive(Debug)]
pub(crate) struct Ticket(oneshot::Receiver<Turn>);

/// A call's turn in a container.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Arc<Pool>,
    pub(crate) container: Arc<Container>,
}

/// As many calls wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// What there is to do with a container that may be idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// It gets no more calls.
    Retired,
    /// Look again then.
    Not(Duration),
}

impl Pool {
    pub(super) fn new(stub: Stub) -> Self {
        Self {
            stub,
            state: Mutex::default(),
            trouble: watch::Sender::new(None),
        }
    }

    /// Says to those who wait why they wait for longer.
    pub(super) fn is_troubled(&self, reason: &str) {
        self.trouble.send_replace(Some(reason.to_owned()));
    }

    /// What they were told is over.
    pub(super) fn is_well(&self) {
        self.trouble.send_replace(None);
    }

    /// Waits until there is something to say to those who wait.
    pub(super) async fn trouble(&self) -> String {
        let mut trouble = self.trouble.subscribe();
        let reason = trouble.wait_for(Option::is_some).await;
        let reason = reason.expect("the pool holds the other side");
        reason.clone().unwrap_or_default()
    }

    /// A place, or one in the line. Containers with other versions of the function's secrets get
    /// no more calls.
    pub(crate) fn admit(self: &Arc<Self>, secrets: &SecretVersions) -> Result<Admission, Full> {
        self.admit_within(self.stub.definition.max_pending as usize, Some(secrets))
    }

    /// The same for a call that was accepted before, and goes to the end of the line.
    /// Without versions nothing is said of containers.
    pub(super) fn admit_again(self: &Arc<Self>, secrets: Option<&SecretVersions>) -> Admission {
        let admitted = self.admit_within(usize::MAX, secrets);
        admitted.expect("a line without an end is never full")
    }

    fn admit_within(
        self: &Arc<Self>,
        limit: usize,
        secrets: Option<&SecretVersions>,
    ) -> Result<Admission, Full> {
        let mut state = self.state();
        if let Some(secrets) = secrets {
            state.secrets.clone_from(secrets);
            for open in &mut state.open {
                open.is_outdated |= open.container.given.secrets != *secrets;
            }
        }
        if state.waiting.is_empty()
            && let Some(container) = state.take_free()
        {
            return Ok(Admission::Place(self.place(container)));
        }
        if state.waiting.len() >= limit {
            state.waiting.retain(|turn| !turn.is_closed());
        }
        if state.waiting.len() >= limit {
            return Err(Full);
        }
        let (turn, ticket) = oneshot::channel();
        state.waiting.push_back(turn);
        Ok(Admission::Ticket(Ticket(ticket)))
    }

    /// How many containers to start now; they count as being started.
    pub(super) fn take_wanted(&self) -> u32 {
        let mut state = self.state();
        let limits = &self.stub.definition;
        let most = limits.concurrency as usize * limits.max_containers as usize;
        let waits = state.waiting.iter().filter(|turn| !turn.is_closed());
        let needed = waits
            .take(most)
            .count()
            .div_ceil(limits.concurrency as usize);
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        let current = state.open.iter().filter(|open| !open.is_outdated).count();
        let current = u32::try_from(current).unwrap_or(u32::MAX);
        let room = limits
            .max_containers
            .saturating_sub(current)
            .saturating_sub(state.starting);
        let wanted = needed.saturating_sub(state.starting).min(room);
        state.starting += wanted;
        wanted
    }

    /// A container that was being started takes calls.
    pub(super) fn opened(self: &Arc<Self>, container: Arc<Container>) {
        self.is_well();
        let mut state = self.state();
        state.starting -= 1;
        // It may have been given what was replaced while it started.
        let is_outdated = container.given.secrets != state.secrets || container.is_draining();
        state.open.push(Open {
            container,
            free: self.stub.definition.concurrency,
            idle_since: Instant::now(),
            is_outdated,
        });
        drop(state);
        self.hand_out();
    }

    /// A container that was being started never will take calls. Those who wait hear why, unless
    /// another container may come to them.
    pub(super) fn failed(&self, end: &TaskEnd) {
        self.is_well();
        let mut state = self.state();
        state.starting -= 1;
        let may_be_served = state.open.iter().any(|open| !open.is_outdated);
        if may_be_served || state.starting > 0 {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for turn in waiting {
            // Who has stopped waiting needs no reason.
            let _ = turn.send(Err(end.clone()));
        }
    }

    /// A container has ended.
    pub(super) fn closed(&self, id: ContainerId) {
        self.state().open.retain(|open| open.container.id != id);
    }

    /// Takes a container out when it has been idle for this long, or has no use.
    pub(super) fn retire_if_idle(&self, id: ContainerId, keep: Duration) -> Idle {
        let mut state = self.state();
        let Some(at) = state.open.iter().position(|open| open.container.id == id) else {
            return Idle::Retired;
        };
        let open = &state.open[at];
        if open.free < self.stub.definition.concurrency {
            return Idle::Not(keep);
        }
        let idle = open.idle_since.elapsed();
        if !open.is_outdated && idle < keep {
            return Idle::Not(keep.saturating_sub(idle));
        }
        state.open.swap_remove(at);
        Idle::Retired
    }

    /// Whether any call waits for a place.
    pub(super) fn is_wanted(&self) -> bool {
        self.state().waiting.iter().any(|turn| !turn.is_closed())
    }

    /// Gives no more calls to containers that are to finish what they do.
    pub(super) fn drain(&self) {
        for open in &mut self.state().open {
            open.is_outdated |= open.container.is_draining();
        }
    }

    /// How long the container has been idle that is so for longest.
    pub(super) fn longest_idle(&self) -> Option<Duration> {
        let state = self.state();
        let idle = state.open.iter().filter(|open| self.is_idle(open));
        idle.map(|open| open.idle_since.elapsed()).max()
    }

    /// Lets the container go that has been idle for longest.
    pub(super) fn let_longest_idle_go(&self) {
        let mut state = self.state();
        let idle = state.open.iter_mut().filter(|open| self.is_idle(open));
        if let Some(open) = idle.min_by_key(|open| open.idle_since) {
            open.is_outdated = true;
        }
    }

    fn is_idle(&self, open: &Open) -> bool {
        open.free == self.stub.definition.concurrency && !open.is_outdated
    }

    /// Adds the pool's containers that take calls, or are to.
    pub(super) fn count(&self, census: &mut Census) {
        let state = self.state();
        census.containers_starting += state.starting as usize;
        for open in state
            .open
            .iter()
            .filter(|open| open.container.takes_calls())
        {
            if open.free == self.stub.definition.concurrency {
                census.containers_idle += 1;
            } else {
                census.containers_busy += 1;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        let waits = state.waiting.iter().any(|turn| !turn.is_closed());
        state.open.is_empty() && state.starting == 0 && !waits
    }

    fn place(self: &Arc<Self>, container: Arc<Container>) -> Place {
        Place {
            pool: Arc::clone(self),
            container,
        }
    }

    fn give_back(self: &Arc<Self>, id: ContainerId) {
        let mut state = self.state();
        if let Some(open) = state.open.iter_mut().find(|open| open.container.id == id) {
            open.free += 1;
            open.idle_since = Instant::now();
        }
        drop(state);
        self.hand_out();
    }

    /// Gives free places to those who wait, the longest first.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let next = self.state().next_turn();
            let Some((turn, container)) = next else {
                return;
            };
            // A turn that nobody takes drops its place, which comes back here.
            let _ = turn.send(Ok(self.place(container)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn next_turn(&mut self) -> Option<(oneshot::Sender<Turn>, Arc<Container>)> {
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            return None;
        }
        let container = self.take_free()?;
        Some((self.waiting.pop_front()?, container))
    }

    /// The container that was used last among those with a place, so that others become idle.
    fn take_free(&mut self) -> Option<Arc<Container>> {
        let free = self
            .open
            .iter_mut()
            .filter(|open| open.free > 0 && !open.is_outdated && open.container.takes_calls());
        let open = free.max_by_key(|open| open.idle_since)?;
        open.free -= 1;
        Some(Arc::clone(&open.container))
    }
}

impl Ticket {
    /// The place, when it is this call's turn.
    pub(super) async fn turn(&mut self) -> Turn {
        (&mut self.0)
            .await
            .expect("a pool answers all who wait, and lives as long as they do")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.give_back(self.container.id);
    }
}

#[cfg(test)]
mod tests {
    use control_store::{Definition, TaskOutcome};
    use ids::{StubId, WorkerId, WorkspaceId};
    use jiff::Timestamp;
    use reference::{Digest, Registry};
    use tokio::sync::mpsc;
    use worker_protocol::Hello;

    use super::super::container::{Given, Gone, NewContainer, Reading};
    use super::super::failure::end_without_result;
    use super::super::traces::Traced;
    use super::super::worker::{Newcomer, ToWorkerSender, WorkerLink, Workers};
    use super::*;

    fn pool(concurrency: u32, max_containers: u32) -> Arc<Pool> {
        let definition = Definition {
            image: Digest::sha256([1; 32]),
            code: None,
            handler: "app:function".to_owned(),
            python: "python3".to_owned(),
            cpu_millicores: 0,
            memory_bytes: 0,
            timeout_ms: 1000,
            retries: 0,
            concurrency,
            keep_warm_ms: 1000,
            max_containers,
            max_pending: 3,
            environment: Vec::new(),
            secrets: Vec::new(),
        };
        Arc::new(Pool::new(Stub {
            id: StubId::new(),
            workspace: WorkspaceId::new(),
            name: "f".to_owned(),
            definition,
            created_at: Timestamp::now(),
        }))
    }

    fn container(secrets: SecretVersions) -> Arc<Container> {
        let (sender, _) = mpsc::channel(1);
        let reading = Reading {
            registry: Registry::parse("registry.example").unwrap(),
            repository: "a".to_owned(),
            origin: "registry.example/a".to_owned(),
            layers: Vec::new(),
            sizes_bytes: Vec::new(),
            lease: None,
        };
        let given = Given {
            reading,
            code: None,
            secrets,
            traced: Traced::default(),
        };
        let (container, _events) = Container::new(NewContainer {
            id: ContainerId::new(),
            number: 1,
            link: link(sender),
            given,
        });
        container
    }

    fn link(sender: ToWorkerSender) -> Arc<WorkerLink> {
        let child = Newcomer {
            id: WorkerId::new(),
            is_joined: false,
            is_draining: false,
        };
        Workers::default()
            .attach(child, &Hello::default(), sender)
            .0
    }

    fn admit(pool: &Arc<Pool>) -> Admission {
        pool.admit(&SecretVersions::new()).unwrap()
    }

    fn placed(admission: Admission) -> Place {
        match admission {
            Admission::Place(place) => place,
            Admission::Ticket(_) => panic!("there is no place"),
        }
    }

    fn ticket(admission: Admission) -> Ticket {
        match admission {
            Admission::Ticket(ticket) => ticket,
            Admission::Place(_) => panic!("there is a place"),
        }
    }

    #[tokio::test]
    async fn calls_wait_in_line_and_places_go_round() {
        let pool = pool(1, 1);
        let mut first = ticket(admit(&pool));
        let left = ticket(admit(&pool));
        let mut third = ticket(admit(&pool));
        assert_eq!(pool.admit(&SecretVersions::new()).err(), Some(Full));
        drop(left);
        assert_eq!(pool.take_wanted(), 1, "no more than may be");
        assert_eq!(pool.take_wanted(), 0, "one is being started");
        let container = container(SecretVersions::new());
        pool.opened(Arc::clone(&container));
        let place = first.turn().await.unwrap();
        assert_eq!(place.container.id, container.id);
        drop(place);
        let place = third.turn().await.unwrap();
        drop(place);
        let place = placed(admit(&pool));
        let waiting = ticket(admit(&pool));
        assert_eq!(pool.take_wanted(), 0, "there may be one only");
        drop(waiting);
        container.has_ended(Gone::worker_lost());
        pool.closed(container.id);
        drop(place);
        ticket(admit(&pool));
    }

    #[tokio::test]
    async fn who_waits_hears_that_nothing_comes() {
        let pool = pool(2, 5);
        let mut tickets: Vec<_> = (0..3).map(|_| ticket(admit(&pool))).collect();
        assert_eq!(pool.take_wanted(), 2);
        let end = end_without_result(TaskOutcome::NotStarted, "no");
        pool.failed(&end);
        let waits = tokio::time::timeout(Duration::from_millis(1), tickets[0].turn());
        assert!(waits.await.is_err(), "another one is being started");
        pool.failed(&end);
        for mut ticket in tickets {
            assert_eq!(ticket.turn().await.err(), Some(end.clone()));
        }
        assert!(pool.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_told_of_trouble_while_it_lasts() {
        let pool = pool(1, 1);
        let silence = || tokio::time::timeout(Duration::from_millis(1), pool.trouble());
        assert!(silence().await.is_err());
        pool.is_troubled("away");
        assert_eq!(pool.trouble().await, "away", "also who comes later");
        pool.is_well();
        assert!(silence().await.is_err(), "it is over");
        pool.is_troubled("away");
        let _ticket = ticket(admit(&pool));
        assert_eq!(pool.take_wanted(), 1);
        pool.opened(container(SecretVersions::new()));
        assert!(silence().await.is_err(), "it is over");
    }

    #[test]
    fn containers_are_kept_while_they_are_of_use() {
        let keep = Duration::from_mins(1);
        let pool = pool(1, 2);
        let held = ticket(admit(&pool));
        assert_eq!(pool.take_wanted(), 1);
        drop(held);
        let container = container(SecretVersions::new());
        pool.opened(Arc::clone(&container));
        assert!(matches!(
            pool.retire_if_idle(container.id, keep),
            Idle::Not(_)
        ));
        let place = placed(admit(&pool));
        let busy = pool.retire_if_idle(container.id, Duration::ZERO);
        assert_eq!(busy, Idle::Not(Duration::ZERO));
        // Its secret has another version now: it ends its call and gets no other.
        let rotated = vec![("TOKEN".to_owned(), 2)];
        ticket(pool.admit(&rotated).unwrap());
        drop(place);
        ticket(admit(&pool));
        assert_eq!(pool.retire_if_idle(container.id, keep), Idle::Retired);
    }
}
