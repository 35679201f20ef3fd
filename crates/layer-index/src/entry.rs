//! What one tar member means to a filesystem: path, kind, attributes, and where its bytes lie in
//! the uncompressed layer. Names are bytes, never text. Values are as the archive gave them after
//! cleaning; what they do to a tree of several layers is decided in `tree`.

/// A point in time as archives give it; seconds may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    pub seconds: i64,
    /// Always below 1 000 000 000.
    pub nanoseconds: u32,
}

/// One run of a file's bytes: `length` bytes at `file_offset` of the file are the bytes at
/// `layer_offset` of the uncompressed layer. What no extent covers reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    pub file_offset: u64,
    pub layer_offset: u64,
    pub length: u64,
}

/// An extended attribute: name and value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

/// One member of a layer, in archive order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Clean relative path without a leading or trailing slash; empty for the root itself.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    /// The twelve permission bits, set-id and sticky bits included.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Mtime,
    /// Sorted by name, names unique.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File {
        size: u64,
        /// Sorted by `file_offset`, not overlapping, inside `size`.
        extents: Vec<Extent>,
    },
    /// Another name of an entry at `target`, a clean path like `Entry::path`.
    HardLink {
        target: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Directory,
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Hides `path` of the layers below.
    Whiteout,
    /// Hides everything that the layers below have inside directory `path`.
    Opaque,
}
