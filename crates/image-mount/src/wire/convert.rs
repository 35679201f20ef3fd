//! Between the types of this crate and what is written. Everything that comes in is checked here.

use std::time::Duration;

use credential::auth::{AuthError, AuthScheme, BlobLocation, RegistryAuth, Rejection, SharedLayer};
use credential::{ExposeSecret, SecretString};
use dial::{AllowRule, DialPolicy, Limits, ProxySettings};
use image_fs::{CacheLimits, FsStats, MAX_TRACE_ENTRIES, NoticeKind, Program, TraceEntry};
use layer_index::IndexSummary;
use reference::Registry;

use super::messages::{
    DenialKind, LogKind, WireAuth, WireDenied, WireLayer, WireLocation, WireLog, WireMount,
    WireProgram, WireRejection, WireScheme, WireShared, WireStats,
};
use super::secret::{HexBytes, WireSecret};
use crate::request::{ExpectedLayer, IdShift, MountLog, MountRequest, MountStats, ServerRequest};

/// Longest text of an error or a log line. Registries' answers are bounded before; this bounds
/// everything else.
const MAX_TEXT: usize = 4 * 1024;

/// Challenges of one refusal that are passed on, and their length. Registries send one or two.
const MAX_CHALLENGES: usize = 8;

/// The text, cut where a character ends.
pub(crate) fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

impl From<&MountRequest> for WireMount {
    fn from(request: &MountRequest) -> Self {
        let dial = &request.dial;
        let proxies = [
            &dial.proxies.http,
            &dial.proxies.https,
            &dial.proxies.all,
            &dial.proxies.no,
        ];
        let limits = &dial.limits;
        let limits = [
            limits.connect,
            limits.head,
            limits.silence,
            limits.idle,
            limits.bounded_body,
        ];
        Self {
            proxies: proxies.map(|proxy| WireSecret(SecretString::from(proxy.as_str()))),
            registry: request.registry.as_str().to_owned(),
            repository: request.repository.clone(),
            plain_http: request.plain_http,
            ca_pem: request.ca_pem.clone().map(HexBytes),
            allow: dial.allow.iter().map(ToString::to_string).collect(),
            users_may_name_private: dial.users_may_name_private,
            limits_ms: limits.map(milliseconds),
            layers: request
                .layers
                .iter()
                .map(|layer| (&layer.index).into())
                .collect(),
            cache_limit_bytes: request.cache.limits().max_bytes,
            has_shared_cache: request.has_shared_cache,
            id_shift: request.id_shift.map(|shift| (shift.base, shift.count)),
            read_deadline_ms: milliseconds(request.read_deadline),
            foretold: request
                .foretold
                .iter()
                .take(MAX_TRACE_ENTRIES)
                .map(|entry| (entry.layer, entry.span))
                .collect(),
            program: request.program.as_ref().and_then(program_to_wire),
            start_lasts_ms: milliseconds(request.start_lasts),
            fill_when_idle: request.fill_when_idle,
        }
    }
}

impl From<&IndexSummary> for WireLayer {
    fn from(index: &IndexSummary) -> Self {
        Self {
            digest: index.header.layer_digest.clone(),
            root: HexBytes(index.root.to_vec()),
        }
    }
}

impl TryFrom<WireMount> for ServerRequest {
    type Error = &'static str;

    fn try_from(wire: WireMount) -> Result<Self, Self::Error> {
        let registry = Registry::parse(&wire.registry).map_err(|_| "registry is no registry")?;
        let layers = wire.layers.into_iter().map(ExpectedLayer::try_from);
        Ok(Self {
            dial: dial_policy(
                &wire.proxies,
                wire.allow,
                wire.limits_ms,
                wire.users_may_name_private,
            )
            .ok_or("allow rule is no rule")?,
            registry,
            repository: wire.repository,
            plain_http: wire.plain_http,
            ca_pem: wire.ca_pem.map(|pem| pem.0),
            layers: layers.collect::<Result<_, _>>()?,
            cache_limits: CacheLimits {
                max_bytes: wire.cache_limit_bytes,
            },
            has_shared_cache: wire.has_shared_cache,
            id_shift: wire.id_shift.map(|(base, count)| IdShift { base, count }),
            read_deadline: Duration::from_millis(wire.read_deadline_ms),
            foretold: wire.foretold.into_iter().map(foretold).collect(),
            program: wire.program.map(Program::from),
            start_lasts: Duration::from_millis(wire.start_lasts_ms),
            fill_when_idle: wire.fill_when_idle,
        })
    }
}

/// A guess is not worth a message that does not arrive.
fn program_to_wire(program: &Program) -> Option<WireProgram> {
    let wire = WireProgram {
        name: program.name.clone(),
        working_dir: program.working_dir.clone(),
        path: program.path.clone(),
        library_path: program.library_path.clone(),
    };
    let texts = [
        &wire.name,
        &wire.working_dir,
        &wire.path,
        &wire.library_path,
    ];
    let is_short = texts.iter().all(|text| text.len() <= MAX_TEXT);
    is_short.then_some(wire)
}

impl From<WireProgram> for Program {
    fn from(wire: WireProgram) -> Self {
        Self {
            name: wire.name,
            working_dir: wire.working_dir,
            path: wire.path,
            library_path: wire.library_path,
        }
    }
}

/// When it was read is of no use to who fetches it.
fn foretold((layer, span): (u32, u32)) -> TraceEntry {
    TraceEntry {
        layer,
        span,
        at_ms: 0,
    }
}

impl TryFrom<WireLayer> for ExpectedLayer {
    type Error = &'static str;

    fn try_from(wire: WireLayer) -> Result<Self, Self::Error> {
        Ok(Self {
            digest: wire.digest,
            root: wire
                .root
                .0
                .try_into()
                .map_err(|_| "root digest has the wrong length")?,
        })
    }
}

fn dial_policy(
    proxies: &[WireSecret; 4],
    allow: Vec<String>,
    limits_ms: [u64; 5],
    users_may_name_private: bool,
) -> Option<DialPolicy> {
    let [http, https, all, no] = proxies
        .each_ref()
        .map(|proxy| proxy.0.expose_secret().to_owned());
    let [connect, head, silence, idle, bounded_body] = limits_ms.map(Duration::from_millis);
    let allow: Option<Vec<AllowRule>> = allow.into_iter().map(|rule| rule.parse().ok()).collect();
    Some(DialPolicy {
        allow: allow?,
        users_may_name_private,
        proxies: ProxySettings {
            http,
            https,
            all,
            no,
        },
        limits: Limits {
            connect,
            head,
            silence,
            idle,
            bounded_body,
        },
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl WireAuth {
    pub(crate) fn new(id: u64, auth: RegistryAuth) -> Self {
        let scheme = match auth.scheme {
            AuthScheme::Anonymous => WireScheme::Anonymous {},
            AuthScheme::Basic { username, password } => WireScheme::Basic {
                username,
                password: WireSecret(password),
            },
            AuthScheme::Bearer(token) => WireScheme::Bearer {
                token: WireSecret(token),
            },
        };
        Self {
            id,
            serial: auth.serial,
            not_after: auth.not_after,
            scheme,
        }
    }
}

impl From<WireAuth> for RegistryAuth {
    fn from(wire: WireAuth) -> Self {
        let scheme = match wire.scheme {
            WireScheme::Anonymous {} => AuthScheme::Anonymous,
            WireScheme::Basic { username, password } => AuthScheme::Basic {
                username,
                password: password.0,
            },
            WireScheme::Bearer { token } => AuthScheme::Bearer(token.0),
        };
        Self {
            scheme,
            not_after: wire.not_after,
            serial: wire.serial,
        }
    }
}

impl WireLocation {
    pub(crate) fn new(id: u64, location: BlobLocation) -> Self {
        Self {
            id,
            serial: location.serial,
            not_after: location.not_after,
            url: WireSecret(location.url),
        }
    }
}

impl From<WireLocation> for BlobLocation {
    fn from(wire: WireLocation) -> Self {
        Self {
            url: wire.url.0,
            not_after: wire.not_after,
            serial: wire.serial,
        }
    }
}

impl WireShared {
    pub(crate) fn new(id: u64, shared: SharedLayer) -> Self {
        Self {
            id,
            url: WireSecret(shared.url),
            key: WireSecret(shared.key),
            not_after: shared.not_after,
            plain_http: shared.plain_http,
            ca_pem: shared.ca_pem.map(HexBytes),
        }
    }
}

impl From<WireShared> for SharedLayer {
    fn from(wire: WireShared) -> Self {
        Self {
            url: wire.url.0,
            key: wire.key.0,
            not_after: wire.not_after,
            plain_http: wire.plain_http,
            ca_pem: wire.ca_pem.map(|pem| pem.0),
        }
    }
}

pub(crate) fn denied_to_wire(id: u64, error: &AuthError) -> WireDenied {
    let kind = match error {
        AuthError::BadCredential { .. } => DenialKind::BadCredential,
        AuthError::NoPermission { .. } => DenialKind::NoPermission,
        AuthError::RateLimited { .. } => DenialKind::RateLimited,
        AuthError::Unreachable { .. } => DenialKind::Unreachable,
        AuthError::Tls { .. } => DenialKind::Tls,
        AuthError::Revoked { .. } => DenialKind::Revoked,
        AuthError::Refused { .. } => DenialKind::Refused,
        _ => DenialKind::Internal,
    };
    let retry_after_ms = match error {
        AuthError::RateLimited { retry_after, .. } => retry_after.map(milliseconds),
        _ => None,
    };
    WireDenied {
        id,
        kind,
        message: bounded(&error.to_string()),
        retry_after_ms,
    }
}

impl From<WireDenied> for AuthError {
    fn from(wire: WireDenied) -> Self {
        let message = wire.message;
        match wire.kind {
            DenialKind::BadCredential => Self::BadCredential { message },
            DenialKind::NoPermission => Self::NoPermission { message },
            DenialKind::RateLimited => {
                let retry_after = wire.retry_after_ms.map(Duration::from_millis);
                Self::RateLimited {
                    retry_after,
                    message,
                }
            }
            DenialKind::Unreachable => Self::Unreachable { message },
            DenialKind::Tls => Self::Tls { message },
            DenialKind::Revoked => Self::Revoked { message },
            DenialKind::Refused => Self::Refused { message },
            DenialKind::Internal => Self::Internal { message },
        }
    }
}

pub(crate) fn rejection_to_wire(rejection: &Rejection) -> WireRejection {
    let challenges = rejection.challenges.iter().take(MAX_CHALLENGES);
    WireRejection {
        serial: rejection.serial,
        status: rejection.status,
        challenges: challenges.map(|challenge| bounded(challenge)).collect(),
        says_expired: rejection.says_expired,
    }
}

impl From<WireRejection> for Rejection {
    fn from(wire: WireRejection) -> Self {
        Self {
            serial: wire.serial,
            status: wire.status,
            challenges: wire.challenges,
            says_expired: wire.says_expired,
            is_hearsay: true,
        }
    }
}

const LOG_KINDS: [(NoticeKind, LogKind); 6] = [
    (NoticeKind::Waiting, LogKind::Waiting),
    (NoticeKind::Denied, LogKind::Denied),
    (NoticeKind::Recovered, LogKind::Recovered),
    (NoticeKind::Failed, LogKind::Failed),
    (NoticeKind::Corrupt, LogKind::Corrupt),
    (NoticeKind::CacheFull, LogKind::CacheFull),
];

impl WireLog {
    pub(crate) fn new(kind: NoticeKind, message: &str) -> Self {
        let found = LOG_KINDS.iter().find(|(notice, _)| *notice == kind);
        let kind = found.map_or(LogKind::Failed, |(_, log)| *log);
        Self {
            kind,
            message: bounded(message),
        }
    }
}

impl From<WireLog> for MountLog {
    fn from(wire: WireLog) -> Self {
        let found = LOG_KINDS.iter().find(|(_, log)| *log == wire.kind);
        let kind = found.map_or(NoticeKind::Failed, |(notice, _)| *notice);
        Self {
            kind,
            message: bounded(&wire.message),
        }
    }
}

impl From<MountStats> for WireStats {
    fn from(stats: MountStats) -> Self {
        Self {
            bytes_fetched: stats.fs.bytes_fetched,
            bytes_total: stats.fs.bytes_total,
            bytes_served: stats.fs.bytes_served,
            requests: stats.fs.requests,
            retries: stats.fs.retries,
            reads: stats.fs.reads,
            cache_hits: stats.fs.cache_hits,
            spans_decoded: stats.fs.spans_decoded,
            spans_corrupt: stats.fs.spans_corrupt,
            bytes_prefetched: stats.fs.bytes_prefetched,
            spans_prefetched: stats.fs.spans_prefetched,
            prefetch_hits: stats.fs.prefetch_hits,
            bytes_filled: stats.fs.bytes_filled,
            spans_filled: stats.fs.spans_filled,
            stall_p99_us: stats.fs.stall_p99_us,
            spans: stats.spans,
            spans_present: stats.spans_present,
            auth_requests: stats.auth_requests,
            files_backed: stats.files_backed,
            bytes_shared: stats.bytes_shared,
        }
    }
}

impl From<WireStats> for MountStats {
    fn from(wire: WireStats) -> Self {
        let fs = FsStats {
            bytes_fetched: wire.bytes_fetched,
            requests: wire.requests,
            retries: wire.retries,
            reads: wire.reads,
            cache_hits: wire.cache_hits,
            bytes_served: wire.bytes_served,
            spans_decoded: wire.spans_decoded,
            spans_corrupt: wire.spans_corrupt,
            bytes_prefetched: wire.bytes_prefetched,
            spans_prefetched: wire.spans_prefetched,
            prefetch_hits: wire.prefetch_hits,
            bytes_filled: wire.bytes_filled,
            spans_filled: wire.spans_filled,
            stall_p99_us: wire.stall_p99_us,
            bytes_total: wire.bytes_total,
        };
        Self {
            fs,
            spans: wire.spans,
            spans_present: wire.spans_present,
            auth_requests: wire.auth_requests,
            files_backed: wire.files_backed,
            bytes_shared: wire.bytes_shared,
        }
    }
}
