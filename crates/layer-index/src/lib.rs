//! The index of one image layer: what is in it, where each file's bytes are, and where decoding
//! of the compressed layer can start.

pub mod entry;
pub mod error;
pub mod index;
pub mod limits;
pub mod span;
pub mod tree;

pub use entry::{Entry, EntryKind, Extent, Mtime, Xattr};
pub use error::{BuildError, DecodeError, IndexError};
pub use index::{Codec, Header, LayerIndex, SpanDecoder};
pub use span::{Checkpoint, Span, Window};
pub use tree::{Child, Inode, InodeId, MergeError, NodeKind, Tree};
