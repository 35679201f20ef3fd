//! What one member means: its header, its extended header and its name become an entry.
//!
//! Names are cleaned as containerd cleans them, except that a name which climbs out of the root is
//! refused instead of moved. Values that no extraction could give a file are refused here too.

use layer_index::{Entry, EntryKind, Extent, Mtime};
use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, SparseEntry};

use crate::attributes;
use crate::error::IndexerError;
use crate::header::Fields;
use crate::pax::Records;

const BLOCK: u64 = 512;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// What Linux has room for in a device number.
const MAX_MAJOR: u64 = 0xfff;
const MAX_MINOR: u64 = 0xf_ffff;

/// The last second of which containerd's clock, in nanoseconds, can speak.
const LAST: Mtime = Mtime {
    seconds: i64::MAX / 1_000_000_000,
    nanoseconds: 854_775_807,
};

/// One member with all that was said of it.
pub(crate) struct Member<'a> {
    pub(crate) parsed: &'a ParsedEntry<'a>,
    pub(crate) fields: Fields,
    pub(crate) records: Records,
}

impl Member<'_> {
    /// `size` bytes of content are at `content` in the stream.
    pub(crate) fn entry(
        &self,
        sparse: Option<(&[SparseEntry], u64)>,
        content: u64,
        size: u64,
    ) -> Result<Entry, IndexerError> {
        let path = clean(&self.parsed.path)?;
        let (path, kind) = match marker(&path)? {
            Marker::None => (path, self.kind(sparse, content, size)?),
            Marker::Whiteout(path) => (path, EntryKind::Whiteout),
            Marker::Opaque(path) => (path, EntryKind::Opaque),
        };
        // Linux has no mode of its own for symbolic links.
        let is_symlink = matches!(kind, EntryKind::Symlink { .. });
        let mode = if is_symlink { 0o777 } else { self.fields.mode };
        let header_time = Mtime {
            seconds: self.fields.mtime,
            nanoseconds: 0,
        };
        Ok(Entry {
            mode,
            uid: id(self.records.uid.unwrap_or(self.fields.uid), "user")?,
            gid: id(self.records.gid.unwrap_or(self.fields.gid), "group")?,
            mtime: bounded(self.records.mtime.unwrap_or(header_time)),
            xattrs: attributes::kept(&kind, mode, &self.records.xattrs)?,
            path,
            kind,
        })
    }

    fn kind(
        &self,
        sparse: Option<(&[SparseEntry], u64)>,
        content: u64,
        size: u64,
    ) -> Result<EntryKind, IndexerError> {
        let target = || self.parsed.link_target.as_deref().unwrap_or_default();
        let is_marked_directory = self.parsed.path.ends_with(b"/");
        Ok(match self.parsed.entry_type {
            EntryType::Regular if is_marked_directory => return self.marked_directory(size),
            EntryType::Regular | EntryType::GnuSparse => match sparse {
                Some((map, real_size)) => sparse_file(map, real_size, content, size)?,
                None => whole_file(content, size),
            },
            EntryType::Link => EntryKind::HardLink {
                target: clean(target())?,
            },
            EntryType::Symlink => EntryKind::Symlink {
                target: target().to_vec(),
            },
            EntryType::Directory => EntryKind::Directory,
            EntryType::Char => {
                let (major, minor) = self.device()?;
                EntryKind::CharDevice { major, minor }
            }
            EntryType::Block => {
                let (major, minor) = self.device()?;
                EntryKind::BlockDevice { major, minor }
            }
            EntryType::Fifo => EntryKind::Fifo,
            other => {
                let byte = other.to_byte();
                return Err(self.refused(&format!("is of unknown type {byte:?}")));
            }
        })
    }

    /// In the oldest format a directory is a file whose name ends in a slash. With a type of the
    /// later formats, GNU tar takes it for a directory and Go for a file.
    fn marked_directory(&self, size: u64) -> Result<EntryKind, IndexerError> {
        let is_old = self.parsed.header.as_bytes()[156] == 0;
        if is_old && size == 0 {
            Ok(EntryKind::Directory)
        } else {
            Err(self.refused("is a file with the name of a directory"))
        }
    }

    fn device(&self) -> Result<(u32, u32), IndexerError> {
        let (major, minor) = self.fields.device;
        if major > MAX_MAJOR || minor > MAX_MINOR {
            return Err(self.refused("is a device that Linux cannot number"));
        }
        let narrow = |number| u32::try_from(number).expect("at most twenty bits");
        Ok((narrow(major), narrow(minor)))
    }

    fn refused(&self, problem: &str) -> IndexerError {
        let name = self.parsed.path_lossy();
        IndexerError::Archive(format!("member {name:?} {problem}"))
    }
}

/// The highest number means "no change" to Linux, so that no file can have it.
fn id(value: u64, what: &str) -> Result<u32, IndexerError> {
    let narrow = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    narrow.ok_or_else(|| IndexerError::Archive(format!("{what} id {value}")))
}

/// Times outside of what containerd can set become the beginning of time, as it has them.
fn bounded(time: Mtime) -> Mtime {
    if time.seconds < 0 || time > LAST {
        return Mtime::default();
    }
    time
}

fn whole_file(content: u64, size: u64) -> EntryKind {
    let extent = Extent {
        file_offset: 0,
        layer_offset: content,
        length: size,
    };
    EntryKind::File {
        size,
        extents: if size == 0 { Vec::new() } else { vec![extent] },
    }
}

/// The map must use up the content, and nothing may lie before its predecessor or past the end.
/// GNU tar begins every part with a block of its own and Go does not, so all but the last must
/// fill their blocks.
fn sparse_file(
    map: &[SparseEntry],
    real_size: u64,
    content: u64,
    size: u64,
) -> Result<EntryKind, IndexerError> {
    let wrong = |what: &str| IndexerError::Archive(format!("a sparse file with {what}"));
    let (mut extents, mut used, mut end) = (Vec::new(), 0_u64, 0_u64);
    for part in map {
        let next = part.offset.checked_add(part.length);
        let next = next.filter(|next| part.offset >= end && *next <= real_size);
        end = next.ok_or_else(|| wrong("parts out of order or past its end"))?;
        if part.length > 0 && !used.is_multiple_of(BLOCK) {
            return Err(wrong("parts that do not fill their blocks"));
        }
        if part.length > 0 {
            extents.push(Extent {
                file_offset: part.offset,
                layer_offset: content + used,
                length: part.length,
            });
        }
        let more = used.checked_add(part.length).filter(|more| *more <= size);
        used = more.ok_or_else(|| wrong("more parts than bytes"))?;
    }
    if used != size {
        return Err(wrong("bytes that belong to no part"));
    }
    Ok(EntryKind::File {
        size: real_size,
        extents,
    })
}

/// What a name says beyond itself.
enum Marker {
    None,
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
}

fn marker(path: &[u8]) -> Result<Marker, IndexerError> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = slash.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
    if name == OPAQUE_MARKER {
        return Ok(Marker::Opaque(parent.to_vec()));
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) else {
        return Ok(Marker::None);
    };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(IndexerError::Archive("a whiteout of nothing".to_owned()));
    }
    let path = if parent.is_empty() {
        hidden.to_vec()
    } else {
        [parent, b"/", hidden].concat()
    };
    Ok(Marker::Whiteout(path))
}

/// A relative path without `.`, `..` and double slashes.
fn clean(path: &[u8]) -> Result<Vec<u8>, IndexerError> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let climbed = parts.pop();
                climbed.ok_or_else(|| {
                    let name = String::from_utf8_lossy(path);
                    IndexerError::Archive(format!("member {name:?} climbs out of the root"))
                })?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}
