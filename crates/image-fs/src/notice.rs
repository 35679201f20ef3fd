//! What a person should hear about while an image is in use. Text only; who hears it and how often
//! is the listener's business.

use std::sync::Arc;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub message: String,
}

/// What sort of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// The source does not answer; reads wait.
    Waiting,
    /// The source refuses; reads wait for a credential that it takes.
    Denied,
    /// The source answers again.
    Recovered,
    /// A read failed for good.
    Failed,
    /// Bytes did not match the index; they were not used.
    Corrupt,
    /// Decoded bytes cannot be kept; they are served and fetched again later.
    CacheFull,
}

impl NoticeKind {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Denied => "denied",
            Self::Recovered => "recovered",
            Self::Failed => "failed",
            Self::Corrupt => "corrupt",
            Self::CacheFull => "cache full",
        }
    }
}

/// Who hears notices. Called from any thread; must not block.
pub type NoticeSink = Arc<dyn Fn(Notice) + Send + Sync>;
