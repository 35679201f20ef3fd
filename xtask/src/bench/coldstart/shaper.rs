//! A long, narrow link in user space between two TUN devices: real TCP on both sides.
//!
//! ```text
//!  device --> reader: when does it arrive? --> [ under way ] --> writer: waits --> other device
//! ```
//!
//! Two threads for each direction, scheduled before everything else, since a shaper that waits for
//! a processor would be what is measured. How late they were is counted, and judged elsewhere.
//! Packets pass as they are, with the kernel's offload, so that a gigabit is some thousands of
//! packets in a second. The threads end when the devices go, with their namespaces.

mod pacing;
mod packet;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use self::pacing::{Pacing, UnderWay};
use self::packet::{MAX_BYTES, Packet};
use crate::process;

/// Above every ordinary process, below the kernel's own threads.
const PRIORITY: &str = "10";

/// How long and how narrow a link is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) bytes_per_second: u64,
    pub(super) round_trip: Duration,
    /// What one connection gets of it at most.
    pub(super) flow_bytes_per_second: Option<u64>,
}

/// Both directions of a running link.
#[derive(Debug)]
pub(super) struct Shaper {
    down: Arc<Direction>,
    up: Arc<Direction>,
}

/// What passed since the link began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    pub(super) bytes_down: u64,
    pub(super) bytes_up: u64,
    pub(super) connections: u64,
    pub(super) dropped: u64,
}

impl Passed {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            bytes_down: self.bytes_down - before.bytes_down,
            bytes_up: self.bytes_up - before.bytes_up,
            connections: self.connections - before.connections,
            dropped: self.dropped - before.dropped,
        }
    }
}

impl Shaper {
    /// Carries what comes out of one device to the other. `up` is from the client to the server.
    pub(super) fn start(client: SyncDevice, server: SyncDevice, shape: Shape) -> Result<Self> {
        let (client, server) = (Arc::new(client), Arc::new(server));
        let up = Direction::start(Arc::clone(&client), Arc::clone(&server), shape)?;
        let down = Direction::start(server, client, shape)?;
        Ok(Self { down, up })
    }

    pub(super) fn passed(&self) -> Passed {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Passed {
            bytes_down: count(&self.down.bytes),
            bytes_up: count(&self.up.bytes),
            connections: count(&self.up.connections),
            dropped: count(&self.down.dropped) + count(&self.up.dropped),
        }
    }

    /// How late each packet was delivered, since this was asked last.
    pub(super) fn take_lateness(&self) -> Vec<Duration> {
        let take = |direction: &Direction| std::mem::take(&mut *locked(&direction.late));
        let mut late = take(&self.down);
        late.extend(take(&self.up));
        late
    }
}

/// A device of its own that asks for no packet to be cut up.
pub(super) fn device(name: &str) -> Result<SyncDevice> {
    let builder = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L3)
        .offload(true);
    let device = builder.enable(false).build_sync();
    device.with_context(|| format!("cannot make the TUN device {name} (is there /dev/net/tun?)"))
}

#[derive(Debug)]
struct Direction {
    waiting: Mutex<UnderWay>,
    changed: Condvar,
    bytes: AtomicU64,
    connections: AtomicU64,
    dropped: AtomicU64,
    late: Mutex<Vec<Duration>>,
}

impl Direction {
    fn start(from: Arc<SyncDevice>, to: Arc<SyncDevice>, shape: Shape) -> Result<Arc<Self>> {
        let direction = Arc::new(Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            late: Mutex::default(),
        });
        let reading = Arc::clone(&direction);
        spawn("shaper-reads", move || reading.read(&from, shape))?;
        let writing = Arc::clone(&direction);
        spawn("shaper-writes", move || writing.write(&to))?;
        Ok(direction)
    }

    fn read(&self, from: &SyncDevice, shape: Shape) {
        let mut pacing = Pacing::new(shape, Instant::now());
        let mut buffer = vec![0; MAX_BYTES];
        // The device is gone when reading fails: so is the link.
        while let Ok(count) = from.recv(&mut buffer) {
            let bytes = &buffer[..count];
            let packet = Packet::parse(bytes);
            let admitted = pacing.admit(Instant::now(), packet.flow, packet.wire_bytes);
            let Some(arrives) = admitted else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.bytes.fetch_add(packet.wire_bytes, Ordering::Relaxed);
            let opened = u64::from(packet.opens);
            self.connections.fetch_add(opened, Ordering::Relaxed);
            if locked(&self.waiting).push(arrives, bytes.to_vec()) {
                self.changed.notify_one();
            }
        }
    }

    fn write(&self, to: &SyncDevice) {
        loop {
            let (arrives, bytes) = self.next();
            locked(&self.late).push(arrives.elapsed());
            match to.send(&bytes) {
                // A full receive queue loses a packet, as a network card would.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Waits until a packet has arrived.
    fn next(&self) -> (Instant, Vec<u8>) {
        let mut waiting = locked(&self.waiting);
        loop {
            let now = Instant::now();
            if let Some(arrived) = waiting.pop(now) {
                return arrived;
            }
            waiting = if let Some(at) = waiting.next_arrival() {
                let woken = self.changed.wait_timeout(waiting, at - now);
                woken.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let woken = self.changed.wait(waiting);
                woken.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    let thread = move || {
        if let Err(error) = come_first() {
            eprintln!("warning: the shaper runs like any other program: {error:#}");
        }
        work();
    };
    builder.spawn(thread).context("no thread for the shaper")?;
    Ok(())
}

/// Gives this thread a real-time priority.
pub(super) fn come_first() -> Result<()> {
    let own = std::fs::read_link("/proc/thread-self").context("no /proc/thread-self")?;
    let id = own.file_name().context("no thread id")?;
    let mut command = process::command("chrt", &["--fifo", "--pid", PRIORITY]);
    process::capture(command.arg(id)).map(drop)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
