//! The life of a function's container, from the wish for one until nothing of it is left.
//!
//! ```text
//!   reserve a part of a worker ─▶ request (durable) ─▶ hand-off: lease, secrets ─▶ place
//!     ─▶ Start ─▶ taken ─▶ ready ─▶ calls … idle ─▶ Stop ─▶ ended
//! ```
//!
//! What is given to a container is made at hand-off and is in no queue. A worker that does not take
//! a container in time has it taken away, and the next try is another container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::Lease;
use control_store::{Delivery, TaskOutcome};
use ids::ContainerId;
use tokio::sync::mpsc;
use worker_protocol::ended::Cause;
use worker_protocol::{Ready, to_worker};

use super::container::{Container, Event, Gone, GoneCause, NewContainer, REASON_LIMIT_BYTES};
use super::failure::{Failure, cut, end_with_failure};
use super::hand_off::HandOff;
use super::persist::persist;
use super::placement::Needs;
use super::pool::{Idle, Pool};
use super::worker::{Reservation, TooLarge, WorkerGone, WorkerLink};
use crate::gateway::Gateway;
use crate::metrics::StartPhase;
use crate::problem::{Kind, Problem};

/// How long a worker may take to say that it has a container.
const TAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a container may take until it takes calls: reading a large program over a slow link,
/// through a registry that is waited for.
pub(super) const START_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a container that is stopped may take to end what it does.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);
/// Beyond the grace, for clearing away.
const CLEAR_AWAY: Duration = Duration::from_secs(30);
/// Times that a container is tried to start before those who wait are told: they outlast a worker
/// that dies and is started again.
const START_TRIES: u32 = 5;
/// Pause before the second try, doubled before each further one.
const START_PAUSE: Duration = Duration::from_millis(500);
/// The exit code of a program that somebody killed.
const KILLED: i32 = 128 + 9;
/// How long to wait for room before some is made, or the wish is given up.
const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// How often a container is looked at whether it is of use.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause of a pool that has other containers, before it tries to get one more again.
const FAILED_PAUSE: Duration = Duration::from_secs(5);

/// A container that takes calls, and what it holds.
struct Opened {
    container: Arc<Container>,
    delivery: Delivery,
    lease: Arc<Lease>,
    /// Held until nothing is left on the worker.
    reservation: Reservation,
}

/// Why a container did not come to take calls.
struct StartFailure {
    failure: Failure,
    /// Another try would go the same way.
    is_final: bool,
}

impl Gateway {
    /// Starts the containers that the pool wants.
    pub(super) fn start_wanted(&self, pool: &Arc<Pool>) {
        for _ in 0..pool.take_wanted() {
            tokio::spawn(keep(self.clone(), Arc::clone(pool)));
        }
    }
}

/// Keeps one container for the pool, as long as it is of use.
async fn keep(gateway: Gateway, pool: Arc<Pool>) {
    match open(&gateway, &pool).await {
        Ok(opened) => {
            pool.opened(Arc::clone(&opened.container));
            let reason = serve(&pool, &opened.container).await;
            close(&gateway, opened, &reason).await;
        }
        Err(failure) => {
            pool.failed(&end_with_failure(TaskOutcome::NotStarted, &failure));
            tokio::time::sleep(FAILED_PAUSE).await;
        }
    }
    gateway.start_wanted(&pool);
}

async fn open(gateway: &Gateway, pool: &Arc<Pool>) -> Result<Opened, Failure> {
    let mut pause = START_PAUSE;
    for _ in 1..START_TRIES {
        match open_once(gateway, pool).await {
            Ok(opened) => return Ok(opened),
            Err(failure) if failure.is_final => return Err(failure.failure),
            Err(failure) => {
                pool.is_troubled(&failure.failure.message);
                tokio::time::sleep(pause).await;
            }
        }
        pause *= 2;
    }
    let last = open_once(gateway, pool).await;
    last.map_err(|failure| failure.failure)
}

async fn open_once(gateway: &Gateway, pool: &Arc<Pool>) -> Result<Opened, StartFailure> {
    let (stub, store, metrics) = (&pool.stub, gateway.store(), gateway.metrics());
    let begun = Instant::now();
    let reservation = reserve(gateway, pool).await?;
    metrics.start_phase(StartPhase::Room, begun.elapsed());
    let id = ContainerId::new();
    let requested = store.request_container(stub.workspace, id, stub.id).await;
    requested.map_err(Problem::from)?;
    match start(gateway, pool, id, reservation).await {
        Ok(opened) => {
            metrics.container_started(begun.elapsed());
            Ok(opened)
        }
        Err(failure) => {
            metrics.container_failed();
            let reason = failure.failure.message.as_str();
            note_end(gateway, id, None, reason).await;
            Err(failure)
        }
    }
}

async fn reserve(gateway: &Gateway, pool: &Pool) -> Result<Reservation, StartFailure> {
    let definition = &pool.stub.definition;
    let needs = Needs {
        cpu_millicores: definition.cpu_millicores,
        memory_bytes: definition.memory_bytes,
    };
    let (dispatch, image) = (gateway.dispatch(), &definition.image);
    let mut had_no_room = false;
    loop {
        let reserving = dispatch.workers.reserve(needs, image);
        match tokio::time::timeout(ROOM_PAUSE, reserving).await {
            Ok(Ok(reservation)) => {
                if had_no_room {
                    pool.is_well();
                }
                return Ok(reservation);
            }
            Ok(Err(TooLarge)) => return Err(too_large(needs)),
            Err(_) if !pool.is_wanted() => return Err(StartFailure::last("nobody waits for it")),
            Err(_) => {
                had_no_room = true;
                pool.is_troubled("no worker has room for it yet");
                dispatch.let_idle_go();
            }
        }
    }
}

fn too_large(needs: Needs) -> StartFailure {
    StartFailure::last(&format!(
        "the function wants {} millicores and {} bytes of memory, more than any worker has",
        needs.cpu_millicores, needs.memory_bytes
    ))
}

/// Gives a requested container to the worker that was reserved, and waits until it takes calls.
async fn start(
    gateway: &Gateway,
    pool: &Pool,
    id: ContainerId,
    reservation: Reservation,
) -> Result<Opened, StartFailure> {
    let (begun, metrics) = (Instant::now(), gateway.metrics());
    let HandOff {
        mut start,
        lease,
        given,
    } = gateway
        .hand_off(&pool.stub, id, reservation.link.id)
        .await?;
    metrics.start_phase(StartPhase::HandOff, begun.elapsed());
    let link = Arc::clone(&reservation.link);
    let delivery = match place(gateway, id, &link).await {
        Ok(delivery) => delivery,
        Err(failure) => {
            end_lease(&lease).await;
            return Err(failure);
        }
    };
    let (container, mut events) = Container::new(NewContainer {
        id,
        number: delivery.number,
        link,
        given,
    });
    start.delivery = Some(container.delivery.clone());
    let opened = Opened {
        container,
        delivery,
        lease,
        reservation,
    };
    gateway.dispatch().add(&opened.container);
    let told = Instant::now();
    let begun = begin(gateway, &opened, start, &mut events).await;
    match begun {
        Ok(ready) => {
            metrics.start_phase(StartPhase::Worker, told.elapsed());
            for phase in &ready.phases {
                let took = Duration::from_micros(phase.took_us);
                metrics.worker_phase(&phase.name, took);
            }
            tracing::info!(container = %id, phases = ?ready.phases, "a container takes calls");
            Ok(opened)
        }
        Err(failure) => {
            end(&opened.container, Duration::ZERO).await;
            close(gateway, opened, &failure.failure.message).await;
            Err(failure)
        }
    }
}

async fn place(
    gateway: &Gateway,
    id: ContainerId,
    link: &WorkerLink,
) -> Result<Delivery, StartFailure> {
    let placed = gateway.store().place_container(id, link.id).await;
    let delivery = placed.map_err(Problem::from)?;
    delivery.ok_or_else(|| StartFailure::again("the container was not waiting"))
}

/// From Start to ready.
async fn begin(
    gateway: &Gateway,
    opened: &Opened,
    start: worker_protocol::Start,
    events: &mut mpsc::Receiver<Event>,
) -> Result<Ready, StartFailure> {
    let (container, delivery) = (&opened.container, opened.delivery);
    let sent = container.link.send(to_worker::Message::Start(start)).await;
    sent.map_err(|_| StartFailure::of(&Gone::worker_lost()))?;
    let Event::Taken = next(container, events, TAKE_TIMEOUT).await? else {
        return Err(StartFailure::again("the worker is out of order"));
    };
    let store = gateway.store();
    let is_ours = store.acknowledge_container(container.id, delivery).await;
    if !is_ours.map_err(Problem::from)? {
        return Err(StartFailure::again(
            "the worker took the container too late",
        ));
    }
    let Event::Ready(ready) = next(container, events, START_TIMEOUT).await? else {
        return Err(StartFailure::again("the worker is out of order"));
    };
    let is_ours = store.note_container_ready(container.id, delivery).await;
    if !is_ours.map_err(Problem::from)? {
        return Err(StartFailure::again("the container has ended meanwhile"));
    }
    Ok(ready)
}

async fn next(
    container: &Container,
    events: &mut mpsc::Receiver<Event>,
    timeout: Duration,
) -> Result<Event, StartFailure> {
    tokio::select! {
        // What came before the end is heard before it.
        biased;
        event = events.recv() => event.ok_or_else(|| StartFailure::again("the worker is silent")),
        gone = container.gone() => Err(StartFailure::of(gone)),
        () = tokio::time::sleep(timeout) => {
            Err(StartFailure::again("the container was not started in time"))
        }
    }
}

/// As long as the container takes calls; answers why it ended.
async fn serve(pool: &Pool, container: &Container) -> String {
    let keep = Duration::from_millis(pool.stub.definition.keep_warm_ms).max(SHORTEST_KEEP);
    let mut look_again = keep.min(LOOK_EVERY);
    loop {
        tokio::select! {
            gone = container.gone() => {
                pool.closed(container.id);
                return gone.reason.clone();
            }
            () = tokio::time::sleep(look_again) => {}
        }
        match pool.retire_if_idle(container.id, keep) {
            Idle::Not(time) => look_again = time.min(LOOK_EVERY),
            Idle::Retired => break,
        }
    }
    end(container, STOP_GRACE).await;
    "it had nothing to do".to_owned()
}

/// A container that is not to be kept at all is looked at so often.
const SHORTEST_KEEP: Duration = Duration::from_millis(20);

/// A time as messages have it.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Stops a container, and takes it as ended when its worker says nothing more.
pub(super) async fn end(container: &Container, grace: Duration) {
    let stopping = async {
        container.stop(millis(grace)).await?;
        container.gone().await;
        Ok::<_, WorkerGone>(())
    };
    let stopped = tokio::time::timeout(grace + CLEAR_AWAY, stopping).await;
    if !matches!(stopped, Ok(Ok(()))) {
        container.has_ended(Gone::worker_lost());
    }
}

async fn close(gateway: &Gateway, opened: Opened, reason: &str) {
    gateway.dispatch().remove(opened.container.id);
    drop(opened.reservation);
    end_lease(&opened.lease).await;
    note_end(gateway, opened.container.id, Some(opened.delivery), reason).await;
}

pub(super) async fn end_lease(lease: &Lease) {
    if let Err(error) = lease.end().await {
        tracing::debug!(%error, "a lease lapses by itself");
    }
}

async fn note_end(gateway: &Gateway, id: ContainerId, by: Option<Delivery>, reason: &str) {
    let (store, reason) = (gateway.store(), cut(reason.to_owned(), REASON_LIMIT_BYTES));
    // What cannot be noted is in the log.
    let _ = persist(|| store.end_container(id, by, &reason)).await;
}

impl StartFailure {
    fn last(message: &str) -> Self {
        Self {
            failure: Failure::ours(TaskOutcome::NotStarted, message),
            is_final: true,
        }
    }

    fn again(message: &str) -> Self {
        Self {
            is_final: false,
            ..Self::last(message)
        }
    }

    /// A function that cannot be loaded raises its exception; no other try would go better.
    fn of(gone: &Gone) -> Self {
        if let (GoneCause::Said(Cause::SetupFailed), Some(exception)) =
            (gone.cause, &gone.exception)
        {
            return Self {
                failure: exception.clone().into(),
                is_final: true,
            };
        }
        let may_pass = match gone.cause {
            GoneCause::WorkerLost => true,
            GoneCause::CalledOff => false,
            // A program that ends by itself will do so again; one that was killed may not be.
            GoneCause::Said(Cause::Exited) => gone.exit_code == KILLED,
            GoneCause::Said(cause) => matches!(
                cause,
                Cause::Unknown | Cause::Stopped | Cause::Mount | Cause::Machine | Cause::Index
            ),
        };
        Self {
            is_final: !may_pass,
            ..Self::last(&format!("no container could be started: {}", gone.reason))
        }
    }
}

impl From<Problem> for StartFailure {
    fn from(problem: Problem) -> Self {
        let mut message = format!("no container could be started: {problem}");
        if let Some(hint) = &problem.hint {
            message.push_str(&format!(" ({hint})"));
        }
        Self {
            is_final: !matches!(
                problem.kind,
                Kind::Busy | Kind::Internal | Kind::Unavailable
            ),
            ..Self::last(&message)
        }
    }
}
