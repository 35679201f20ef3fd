//! A host that writes whatever bytes it is told: replies that no HTTP library would send.
//!
//! Answers one request on each connection by a script, then closes it. A connection that begins
//! with a TLS handshake gets bytes of its own. What comes of a reader that should stop reading is
//! told by how much went out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Heads of requests are read up to this.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The first byte of a TLS record that begins a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What endless bytes are written in.
const PIECE_BYTES: usize = 64 * 1024;

/// What a [`RawHost`] does next on a connection.
#[derive(Debug, Clone)]
pub enum Step {
    Write(Vec<u8>),
    /// Writes this again and again until the reader is gone.
    Endless(Vec<u8>),
}

/// One request, as far as it matters: its line and header lines.
#[derive(Debug, Clone)]
pub struct RawRequest {
    pub head: String,
}

impl RawRequest {
    /// The path with its query.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

type Answer = dyn Fn(&RawRequest) -> Vec<Step> + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    tls_answer: Vec<u8>,
    requests: Mutex<Vec<RawRequest>>,
    written: AtomicU64,
    stopped: AtomicBool,
}

/// The running host. Dropping it ends it.
pub struct RawHost {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl RawHost {
    /// A host that speaks no TLS.
    pub fn start(answer: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::with_tls_answer(b"HTTP/1.0 400 Bad Request\r\n\r\n", answer)
    }

    /// A host that answers a TLS handshake with these bytes.
    pub fn with_tls_answer(
        tls_answer: &[u8],
        answer: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            tls_answer: tls_answer.to_vec(),
            requests: Mutex::default(),
            written: AtomicU64::default(),
            stopped: AtomicBool::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serve(&listener, &serving));
        Self { address, shared }
    }

    /// `host:port`, as it stands in an image name.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<RawRequest> {
        let requests = self.shared.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that went out so far, into the kernel's buffers at least.
    pub fn bytes_written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }
}

impl Drop for RawHost {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Whoever waits for a connection gets one, and looks.
        let _ = TcpStream::connect(self.address);
    }
}

impl std::fmt::Debug for RawHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RawHost({})", self.address)
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || converse(stream, &shared));
    }
}

/// A reader that has gone away ends the conversation, as it should.
fn converse(mut stream: TcpStream, shared: &Shared) {
    let Some(head) = read_head(&mut stream) else {
        return;
    };
    if head.first() == Some(&TLS_HANDSHAKE) {
        let _ = stream.write_all(&shared.tls_answer);
        return;
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let request = RawRequest { head };
    let steps = (shared.answer)(&request);
    let requests = shared.requests.lock();
    requests
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    for step in steps {
        if write_step(&mut stream, step, shared).is_err() {
            return;
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
        let is_whole = head.windows(4).any(|window| window == b"\r\n\r\n");
        if is_whole || head[0] == TLS_HANDSHAKE {
            return Some(head);
        }
        if head.len() > MAX_HEAD_BYTES {
            return None;
        }
    }
}

fn write_step(stream: &mut TcpStream, step: Step, shared: &Shared) -> std::io::Result<()> {
    match step {
        Step::Write(bytes) => write(stream, &bytes, shared),
        Step::Endless(bytes) => {
            let piece = bytes.repeat(PIECE_BYTES.div_ceil(bytes.len()));
            loop {
                write(stream, &piece, shared)?;
            }
        }
    }
}

fn write(stream: &mut TcpStream, bytes: &[u8], shared: &Shared) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    shared
        .written
        .fetch_add(bytes.len() as u64, Ordering::SeqCst);
    Ok(())
}
