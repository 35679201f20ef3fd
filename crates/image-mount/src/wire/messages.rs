//! The messages as they are written. Other types of this crate are converted at this edge.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::secret::{HexBytes, WireSecret};

/// From the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ToChild {
    Mount(Box<WireMount>),
    /// All of the image into the cache, and no mount.
    Fill(Box<WireMount>),
    Verify {
        layer: WireLayer,
    },
    Auth(WireAuth),
    AuthDenied(WireDenied),
    Location(WireLocation),
    /// The registry sends the blob itself.
    NoLocation {
        id: u64,
    },
    /// The parent reads the blob.
    ReadHere {
        id: u64,
    },
    Shared(WireShared),
    /// The layer does not lie in the shared cache.
    NotShared {
        id: u64,
    },
    BytesDenied(WireDenied),
    /// The registry has no such blob.
    BytesNotFound {
        id: u64,
    },
    /// The registry has other bytes.
    BytesCorrupt {
        id: u64,
        message: String,
    },
    Stats {
        id: u64,
    },
    Trace {
        id: u64,
    },
    Room {
        id: u64,
        granted: bool,
    },
    Stop {},
}

/// From the mount process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ToParent {
    Mounted {},
    Refused(WireRefused),
    WantAuth {
        id: u64,
        rejected: Option<WireRejection>,
    },
    WantLocation {
        id: u64,
        digest: String,
        refused: Option<u64>,
    },
    WantShared {
        id: u64,
        digest: String,
    },
    WantBytes(WireRead),
    /// Nobody waits for them any more.
    NoMoreBytes {
        id: u64,
    },
    Stats {
        id: u64,
        stats: WireStats,
    },
    Trace {
        id: u64,
        /// Layer, span, milliseconds.
        entries: Vec<(u32, u32, u32)>,
    },
    WantRoom {
        id: u64,
        /// For a write of so many bytes that found the disk full; nothing where the question is
        /// whether the cache is within its limit.
        disk_full: Option<u64>,
    },
    /// Whether so many bytes fit beside everything that is there; answered like `want-room`.
    WantSpare {
        id: u64,
        bytes: u64,
    },
    Log(WireLog),
    Stopped {
        stats: WireStats,
    },
    Filled {
        filled: WireFilled,
        stats: WireStats,
    },
    Verified(WireVerdict),
}

/// Two numbers, as they are written, with what is around them.
const FORETOLD_BYTES: usize = 24;

/// How much of a message is secret, or beside it, so that its buffer need not grow.
pub(crate) trait Answer {
    fn secret_bytes(&self) -> usize;
}

impl Answer for ToChild {
    fn secret_bytes(&self) -> usize {
        match self {
            // Proxies may have passwords.
            Self::Mount(mount) | Self::Fill(mount) => {
                let proxies = mount.proxies.iter().map(WireSecret::wire_length);
                let program = mount.program.as_ref().map_or(0, WireProgram::wire_length);
                proxies.sum::<usize>() + mount.foretold.len() * FORETOLD_BYTES + program
            }
            Self::Auth(auth) => match &auth.scheme {
                WireScheme::Anonymous {} => 0,
                WireScheme::Basic { username, password } => {
                    username.len() * 2 + password.wire_length()
                }
                WireScheme::Bearer { token } => token.wire_length(),
            },
            Self::Location(location) => location.url.wire_length(),
            Self::Shared(shared) => {
                let ca = shared.ca_pem.as_ref().map_or(0, |pem| pem.0.len() * 2);
                shared.url.wire_length() + shared.key.wire_length() + ca
            }
            _ => 0,
        }
    }
}

impl Answer for ToParent {
    fn secret_bytes(&self) -> usize {
        0
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireMount {
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    pub(crate) proxies: [WireSecret; 4],
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) plain_http: bool,
    pub(crate) ca_pem: Option<HexBytes>,
    pub(crate) allow: Vec<String>,
    pub(crate) users_may_name_private: bool,
    /// `connect`, `head`, `silence`, `idle`, `bounded_body` of the dial limits.
    pub(crate) limits_ms: [u64; 5],
    pub(crate) layers: Vec<WireLayer>,
    pub(crate) cache_limit_bytes: u64,
    pub(crate) has_shared_cache: bool,
    pub(crate) id_shift: Option<(u32, u32)>,
    pub(crate) read_deadline_ms: u64,
    /// Layer and span.
    pub(crate) foretold: Vec<(u32, u32)>,
    pub(crate) program: Option<WireProgram>,
    pub(crate) start_lasts_ms: u64,
    pub(crate) fill_when_idle: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireProgram {
    pub(crate) name: String,
    pub(crate) working_dir: String,
    pub(crate) path: String,
    pub(crate) library_path: String,
}

impl WireProgram {
    /// What it takes at most: each byte may be written as an escape.
    fn wire_length(&self) -> usize {
        let texts = [
            &self.name,
            &self.working_dir,
            &self.path,
            &self.library_path,
        ];
        texts.iter().map(|text| text.len() * 6).sum()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireLayer {
    pub(crate) digest: String,
    pub(crate) root: HexBytes,
}

/// What became of filling.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum WireFilled {
    Whole,
    NoRoom,
    Unread { message: String },
    Damaged { message: String },
}

/// What was found of a layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireVerdict {
    /// Why the index cannot be used, if it cannot.
    pub(crate) index_problem: Option<String>,
    pub(crate) spans_sound: u64,
    pub(crate) spans_damaged: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireAuth {
    pub(crate) id: u64,
    pub(crate) serial: u64,
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) scheme: WireScheme,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum WireScheme {
    Anonymous {},
    Basic {
        username: String,
        password: WireSecret,
    },
    Bearer {
        token: WireSecret,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireLocation {
    pub(crate) id: u64,
    pub(crate) serial: u64,
    pub(crate) not_after: Timestamp,
    pub(crate) url: WireSecret,
}

/// Where a layer lies in the shared cache.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireShared {
    pub(crate) id: u64,
    pub(crate) url: WireSecret,
    pub(crate) key: WireSecret,
    pub(crate) not_after: Timestamp,
    pub(crate) plain_http: bool,
    pub(crate) ca_pem: Option<HexBytes>,
}

/// A stretch of a layer, from `start` to before `end`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireRead {
    pub(crate) id: u64,
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireDenied {
    pub(crate) id: u64,
    pub(crate) kind: DenialKind,
    pub(crate) message: String,
    pub(crate) retry_after_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DenialKind {
    BadCredential,
    NoPermission,
    RateLimited,
    Unreachable,
    Tls,
    Revoked,
    Refused,
    Internal,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireRejection {
    pub(crate) serial: u64,
    pub(crate) status: u16,
    pub(crate) challenges: Vec<String>,
    pub(crate) says_expired: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireRefused {
    pub(crate) kind: RefusalKind,
    pub(crate) message: String,
}

/// Why an image was not mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefusalKind {
    NoFuse,
    NotPermitted,
    Mountpoint,
    /// Its layers make no tree.
    Image,
    Index,
    Cache,
    Registry,
    Request,
    Internal,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireLog {
    pub(crate) kind: LogKind,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogKind {
    Waiting,
    Denied,
    Recovered,
    Failed,
    Corrupt,
    CacheFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireStats {
    pub(crate) bytes_fetched: u64,
    pub(crate) bytes_total: u64,
    pub(crate) bytes_served: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    pub(crate) reads: u64,
    pub(crate) cache_hits: u64,
    pub(crate) spans_decoded: u64,
    pub(crate) spans_corrupt: u64,
    pub(crate) bytes_prefetched: u64,
    pub(crate) spans_prefetched: u64,
    pub(crate) prefetch_hits: u64,
    pub(crate) bytes_filled: u64,
    pub(crate) spans_filled: u64,
    pub(crate) stall_p99_us: u64,
    pub(crate) spans: u64,
    pub(crate) spans_present: u64,
    pub(crate) auth_requests: u64,
    pub(crate) files_backed: u64,
    pub(crate) bytes_shared: u64,
}
