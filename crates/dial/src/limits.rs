//! The limits of a connection: how long, how much.

use std::time::Duration;

/// Times that a dialer waits. The defaults are for people; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Resolving, connecting and the TLS handshake.
    pub connect: Duration,
    /// From sending a request to the end of the reply's head.
    pub head: Duration,
    /// How long the machine at the other end may leave unanswered what a connection asks of it,
    /// before the connection is given up with all that is under way over it.
    pub silence: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// The whole of a body that is read into memory.
    pub bounded_body: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            head: HEAD_TIMEOUT,
            silence: SILENCE_TIMEOUT,
            idle: IDLE_TIMEOUT,
            bounded_body: BOUNDED_BODY_TIMEOUT,
        }
    }
}

/// A lost SYN is sent again after 1, 3 and 7 seconds; beyond that the host is as good as gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Token services that ask a slow directory have been seen to take over 15 seconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(40);

/// A link that loses everything for half a minute leaves connections on which what was lost is
/// sent again after ever longer pauses: 25 s after it was sent first, and then not before 51 s. A
/// machine that does not say in this time that it has got something is as good as gone, and what
/// was asked is asked over a new connection, which does not wait for that. One that says so and
/// thinks has `HEAD_TIMEOUT`.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);

/// A link that brings nothing for this long is broken, and asking again is quicker.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// A small body that drips is an attack or a dead link, though each piece comes in time.
const BOUNDED_BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// Head lines of a reply over HTTP/1.1. Registries behind several proxies send about 40.
pub(crate) const MAX_HEADER_COUNT: usize = 128;

/// Bytes of a reply's head, the same for both protocols. Challenges of some registries reach 8 KiB.
pub(crate) const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// HTTP/2 credit for one body: 200 ms of a 160 Mbit/s path, so that one stream is never starved.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// HTTP/2 credit for a connection, which several bodies share.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Idle connections kept for one host: as many as a mount reads over at once.
pub(crate) const IDLE_CONNECTIONS_PER_HOST: usize = 16;

/// Load balancers drop idle connections after 60 s (some 30 s); reusing one that is just being
/// dropped costs a retry.
pub(crate) const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(25);

/// A connection on which all is acknowledged is asked for a sign of life after one part in so many
/// of the time in which there has to be one, and then as often as fits.
pub(crate) const PROBE_SHARE: u32 = 4;

/// Clients kept by one dialer, one for each distinct profile.
pub(crate) const MAX_CLIENTS: usize = 256;
