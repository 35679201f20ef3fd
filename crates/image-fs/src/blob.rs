//! Where compressed layers come from: the one seam between this crate and a network.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

/// A future that can be stored and sent.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes the bytes of a range as they come, in their order.
pub type PieceSink<'a> = &'a mut (dyn FnMut(Bytes) + Send);

/// Something that has the compressed layers of an image.
pub trait BlobSource: fmt::Debug + Send + Sync {
    /// Gives the bytes of `range` of the layer with this digest, which is `size` bytes long. They
    /// need not be right: what is decoded from them is verified. What came before a failure counts;
    /// the rest is asked for again.
    fn read<'a>(
        &'a self,
        layer: &'a str,
        size: u64,
        range: Range<u64>,
        pieces: PieceSink<'a>,
    ) -> BoxFuture<'a, Result<(), BlobError>>;

    /// What was read from this layer did not match its index: do not read it from the same place
    /// again, if there is another.
    fn distrust(&self, _layer: &str) {}
}

/// Why a source gave no bytes, by what waiting would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No answer, or one that says "later".
    #[error("{message}")]
    Transient {
        message: String,
        /// The earliest time at which the source wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Refused, but a credential that comes may be taken.
    #[error("{message}")]
    Denied { message: String },
    /// The source answers and does not give this layer: it is not there, or it is not itself. May
    /// change, and says nothing about other layers.
    #[error("{message}")]
    Missing { message: String },
    /// Waiting does not help: revoked, against policy.
    #[error("{message}")]
    Final { message: String },
}
