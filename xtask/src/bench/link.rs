//! A long, narrow link in user space: a TCP relay that delays and paces what passes, and counts it.
//!
//! ```text
//!  client --> accept, one round trip for the handshake --> upstream
//!     <-- [ window ] <-- [ shared pacing, bytes per second ] <-- [ one-way delay ] <--
//! ```
//!
//! Modelled: the round trip (half of it each way, and one for connecting), a rate that all
//! connections share in each direction, and slow start (a window of ten segments that grows by
//! what is acknowledged). Not modelled: loss, and the window shrinking when a connection idles.
//! Standard library only, two threads per direction of a connection; everything ends with [`Link`].

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What one write carries: ten segments, the initial window of today's kernels.
const CHUNK_BYTES: usize = 10 * 1448;
/// A receiver's default limit; enough for 200 Mbit/s at 20 ms several times over.
const MAX_WINDOW_BYTES: usize = 4 << 20;
/// Chunks in flight in one direction of one connection before reading stops.
const QUEUE_CHUNKS: usize = 512;

/// How long and how narrow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) bytes_per_second: u64,
    pub(crate) round_trip: Duration,
}

/// A running relay to one address.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shape: Shape,
    upstream: SocketAddr,
    stopped: AtomicBool,
    up: Direction,
    down: Direction,
}

/// What all connections share in one direction.
#[derive(Debug)]
struct Direction {
    busy_until: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Direction {
    fn new() -> Self {
        Self {
            busy_until: Mutex::new(Instant::now()),
            bytes: AtomicU64::new(0),
        }
    }

    /// Takes the link for `count` bytes; returns when the last of them has been put on it.
    fn occupy(&self, count: usize, rate: u64) -> Instant {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let mut busy_until = self
            .busy_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_nanos(count as u64 * 1_000_000_000 / rate);
        *busy_until = Instant::now().max(*busy_until) + takes;
        *busy_until
    }
}

impl Link {
    /// Listens on a free loopback port and relays to `upstream`.
    pub(crate) fn start(upstream: SocketAddr, shape: Shape) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free loopback port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            shape,
            upstream,
            stopped: AtomicBool::new(false),
            up: Direction::new(),
            down: Direction::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that came down to clients since the start.
    pub(crate) fn bytes_down(&self) -> u64 {
        self.shared.down.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees the flag.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            thread::sleep(shared.shape.round_trip);
            // A connection that cannot be relayed is closed: the client sees it and reports it.
            let _ = relay(&client, &shared);
        });
    }
}

fn relay(client: &TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let upstream = TcpStream::connect(shared.upstream)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from, to, up) = (
        client.try_clone()?,
        upstream.try_clone()?,
        Arc::clone(shared),
    );
    let upwards = thread::spawn(move || pump(&from, to, &up.up, up.shape));
    pump(&upstream, client.try_clone()?, &shared.down, shared.shape);
    let _ = upwards.join();
    Ok(())
}

struct Chunk {
    arrives: Instant,
    bytes: Vec<u8>,
}

/// Carries one direction of one connection until it ends, then half-closes the other side.
fn pump(mut from: &TcpStream, to: TcpStream, direction: &Direction, shape: Shape) {
    let (sender, receiver) = mpsc::sync_channel(QUEUE_CHUNKS);
    let deliverer = thread::spawn(move || deliver(to, &receiver));
    let mut window = Window::new(shape.round_trip / 2);
    let mut buffer = [0_u8; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        window.wait_for(count);
        let arrives = direction.occupy(count, shape.bytes_per_second) + shape.round_trip / 2;
        window.sent(arrives, count);
        if !forward(&sender, arrives, &buffer[..count]) {
            break;
        }
    }
    drop(sender);
    let _ = deliverer.join();
    let _ = from.shutdown(Shutdown::Read);
}

fn forward(sender: &SyncSender<Chunk>, arrives: Instant, bytes: &[u8]) -> bool {
    sender
        .send(Chunk {
            arrives,
            bytes: bytes.to_vec(),
        })
        .is_ok()
}

fn deliver(mut to: TcpStream, receiver: &Receiver<Chunk>) {
    for chunk in receiver {
        sleep_until(chunk.arrives);
        if to.write_all(&chunk.bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn sleep_until(instant: Instant) {
    thread::sleep(instant.saturating_duration_since(Instant::now()));
}

/// How much of one connection may be on its way: grows by what is acknowledged, as in slow start.
struct Window {
    one_way: Duration,
    size: usize,
    in_flight: usize,
    unacknowledged: VecDeque<(Instant, usize)>,
}

impl Window {
    fn new(one_way: Duration) -> Self {
        Self {
            one_way,
            size: CHUNK_BYTES,
            in_flight: 0,
            unacknowledged: VecDeque::new(),
        }
    }

    fn wait_for(&mut self, count: usize) {
        while let Some(&(acknowledged, bytes)) = self.unacknowledged.front() {
            let fits = self.in_flight + count <= self.size;
            if fits && acknowledged > Instant::now() {
                return;
            }
            sleep_until(acknowledged);
            self.unacknowledged.pop_front();
            self.in_flight -= bytes;
            self.size = (self.size + bytes).min(MAX_WINDOW_BYTES);
        }
    }

    fn sent(&mut self, arrives: Instant, count: usize) {
        self.in_flight += count;
        self.unacknowledged
            .push_back((arrives + self.one_way, count));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::{Link, Shape};

    /// An upstream that sends back what it got, once the client has closed its side.
    fn echo() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        address
    }

    #[test]
    fn what_passes_is_whole_and_counted() {
        let shape = Shape {
            bytes_per_second: 1 << 40,
            round_trip: Duration::from_micros(200),
        };
        let link = Link::start(echo(), shape).unwrap();
        let sent: Vec<u8> = (0..300_000_u32)
            .map(|number| number.to_le_bytes()[1])
            .collect();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(
            received == sent,
            "{} of {} bytes came back",
            received.len(),
            sent.len()
        );
        assert_eq!(link.bytes_down(), sent.len() as u64);
    }
}
