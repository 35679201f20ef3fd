//! Why a service of AWS gave nothing.

use std::time::Duration;

use dial::DialError;

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// On the way.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The keys are wrong, or their session has ended.
    #[error("{message}")]
    BadKeys { message: String },
    /// The keys are good, and not for this.
    #[error("{message}")]
    NotAllowed { message: String },
    #[error("{message}")]
    RateLimited {
        retry_after: Option<Duration>,
        message: String,
    },
    /// Another time it may work.
    #[error("{message}")]
    Unavailable { message: String },
    /// There is no such object.
    #[error("{message}")]
    NotFound { message: String },
    /// It will not work like this.
    #[error("{message}")]
    Refused {
        /// As the service calls it.
        name: String,
        message: String,
    },
    /// The keys make no request: no header can carry one of them.
    #[error("the AWS keys make no request")]
    NoRequest,
}
