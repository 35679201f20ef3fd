//! What goes wrong, and how often.

use std::time::Duration;

/// What a simulated registry does wrong. All off by default; numbers count down as they are used.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The next so many requests to the registry are answered 429.
    pub too_many_requests: u32,
    /// The `Retry-After` that goes with a 429.
    pub retry_after: Option<String>,
    /// The next so many requests to the registry are answered 503.
    pub unavailable: u32,
    /// The next so many token requests are answered 429, with `retry_after`.
    pub token_too_many_requests: u32,
    /// The next so many token requests are answered 503.
    pub token_unavailable: u32,
    /// The token service answers all with this status and body.
    pub token_says: Option<(u16, String)>,
    /// How many replies `token_says` is; `None` is all.
    pub token_says_times: Option<u32>,
    /// The token service redirects everybody to this.
    pub token_redirects_to: Option<String>,
    /// The token service answers 403 to whoever asks for this repository.
    pub token_forbidden: Option<String>,
    /// The token service answers 401 to whoever asks for this repository.
    pub token_unauthorized: Option<String>,
    /// The token service answers this status to whoever asks for nothing.
    pub token_for_nothing_says: Option<u16>,
    /// The token service answers a `POST` with this status.
    pub token_post_says: Option<u16>,
    /// So many pulls are left of a hundred: each manifest says so and each `GET` of one takes one.
    /// There is a 429 after the last.
    pub pulls_left: Option<u32>,
    /// Replies with a blob end early, as by a closed connection, after so many bytes.
    pub truncate_after: Option<u64>,
    /// The same with a reset of the connection.
    pub reset_after: Option<u64>,
    /// How many replies `truncate_after` and `reset_after` spoil; `None` is all.
    pub break_times: Option<u32>,
    /// Blobs have their bytes inverted, under the right headers.
    pub wrong_bytes: bool,
    /// Manifests have a byte changed, under the right headers.
    pub wrong_manifest: bool,
    /// Added to the `Content-Length` of a blob.
    pub length_lie: i64,
    /// `Range` is ignored and the whole blob sent.
    pub ignore_range: bool,
    /// A partial reply is for a range that begins so many bytes later.
    pub shift_range: u64,
    /// Bytes of a blob's body per second.
    pub bytes_per_second: Option<u64>,
    /// Connections are accepted and reset.
    pub outage: bool,
    /// Blob requests get this as the target of a redirect.
    pub redirect_to: Option<String>,
    /// The host that has nothing to do with the registry redirects to this.
    pub stranger_redirects_to: Option<String>,
    /// Each reply to `/v2/` and each refusal carries this instead of the right challenge.
    pub challenge: Option<String>,
    /// Refusals carry a challenge at the registry's door alone, as some of Google's do.
    pub challenge_at_door_only: bool,
    /// Error texts repeat the `Authorization` they came with.
    pub echo_authorization: bool,
}

impl Faults {
    /// Takes one from a count.
    pub(crate) fn take(count: &mut u32) -> bool {
        let some = *count > 0;
        *count = count.saturating_sub(1);
        some
    }

    /// After how many bytes this body breaks, and whether by a reset.
    pub(crate) fn take_break(&mut self) -> Option<(u64, bool)> {
        let found = match (self.reset_after, self.truncate_after) {
            (Some(bytes), _) => (bytes, true),
            (None, Some(bytes)) => (bytes, false),
            (None, None) => return None,
        };
        Self::take_of(&mut self.break_times).then_some(found)
    }

    /// What the token service says instead of a token.
    pub(crate) fn take_token_says(&mut self) -> Option<(u16, String)> {
        let says = self.token_says.clone()?;
        Self::take_of(&mut self.token_says_times).then_some(says)
    }

    /// Takes one from a count that may have no end.
    fn take_of(count: &mut Option<u32>) -> bool {
        count.as_mut().is_none_or(Self::take)
    }

    /// The pause after this many bytes, to keep to the rate.
    pub(crate) fn pause_for(&self, bytes: usize) -> Option<Duration> {
        let rate = self.bytes_per_second?;
        Some(Duration::from_micros(bytes as u64 * 1_000_000 / rate))
    }
}
