//! The archive's members as entries of an index.
//!
//! Fed with the uncompressed stream in pieces; knows at every byte whether it is a header or a
//! file's content, and where in the stream the content lies. Names are cleaned as containerd
//! cleans them, except that a name which climbs out of the root is refused instead of moved.

use layer_index::{Entry, EntryKind, Extent, Mtime, limits};
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, SparseEntry};

use crate::error::IndexerError;
use crate::pax;

const BLOCK: u64 = 512;

/// Extended headers of one member: long names, attributes, a sparse map. Go's reader stops at
/// 1 MiB too.
const METADATA_MAX_BYTES: u32 = 1 << 20;

/// Header bytes are read again at each block of a header that has many. Honest archives read each
/// byte about twice; a sparse map that never ends would be read for days.
const REREAD_MAX_TIMES: u64 = 8;

/// Below this much reading again nothing is refused: a second of work, enough for one sparse
/// file of 20 000 parts.
const REREAD_FLOOR_BYTES: u64 = 256 << 20;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Reads an archive that arrives in pieces.
#[derive(Debug)]
pub(crate) struct Scanner {
    parser: Parser,
    /// Header bytes that are not complete yet.
    header: Vec<u8>,
    /// How many bytes `header` needs before parsing can go on.
    wanted: usize,
    /// Content and padding that is still to come.
    skip: u64,
    /// How much of that is padding, which some writers leave out at the end.
    padding: u64,
    /// Where in the stream the next byte is.
    offset: u64,
    /// Header bytes that were parsed and did not suffice.
    reread: u64,
    done: bool,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        let mut parser = Parser::new(Limits {
            max_metadata_size: METADATA_MAX_BYTES,
            max_path_len: None,
            max_pending_entries: 16,
            max_sparse_entries: limits::MAX_EXTENTS_PER_FILE,
        });
        parser.set_allow_empty_path(true);
        // Numbers of extended headers are read again in `pax`, signed, and refused there.
        parser.set_ignore_pax_errors(true);
        Self {
            parser,
            header: Vec::new(),
            wanted: 0,
            skip: 0,
            padding: 0,
            offset: 0,
            reread: 0,
            done: false,
        }
    }

    /// Takes the next bytes of the stream and hands out the entries that are complete.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        entry: &mut dyn FnMut(&Entry) -> Result<(), IndexerError>,
    ) -> Result<(), IndexerError> {
        while !input.is_empty() && !self.done {
            if self.skip > 0 {
                let length = input.len() as u64;
                let skipped = self.skip.min(length);
                self.skip -= skipped;
                self.offset += skipped;
                let skipped = usize::try_from(skipped).expect("no longer than the input");
                input = &input[skipped..];
                continue;
            }
            let taken = self
                .wanted
                .saturating_sub(self.header.len())
                .clamp(1, input.len());
            let taken = if self.wanted == 0 {
                input.len().min(512)
            } else {
                taken
            };
            self.header.extend_from_slice(&input[..taken]);
            input = &input[taken..];
            if self.header.len() >= self.wanted {
                self.parse(entry)?;
            }
        }
        Ok(())
    }

    /// Says whether the archive may end here.
    pub(crate) fn finish(&self) -> Result<(), IndexerError> {
        let trailing_zeros = self.header.iter().all(|byte| *byte == 0);
        if self.skip <= self.padding && trailing_zeros {
            Ok(())
        } else {
            Err(IndexerError::Archive("it ends inside a member".to_owned()))
        }
    }

    fn parse(
        &mut self,
        entry: &mut dyn FnMut(&Entry) -> Result<(), IndexerError>,
    ) -> Result<(), IndexerError> {
        let header = std::mem::take(&mut self.header);
        let event = self.parser.parse(&header);
        let event = event.map_err(|error| IndexerError::Archive(error.to_string()))?;
        match event {
            ParseEvent::NeedData { min_bytes } => {
                return self.wait_for_more(min_bytes, header);
            }
            ParseEvent::End { .. } => self.done = true,
            ParseEvent::GlobalExtensions { consumed, .. } => self.advance(consumed, &header)?,
            ParseEvent::Entry {
                consumed,
                entry: parsed,
            } => {
                self.advance(consumed, &header)?;
                self.member(&parsed, None, entry)?;
            }
            ParseEvent::SparseEntry {
                consumed,
                entry: parsed,
                sparse_map,
                real_size,
            } => {
                self.advance(consumed, &header)?;
                self.member(&parsed, Some((&sparse_map, real_size)), entry)?;
            }
        }
        self.wanted = 0;
        Ok(())
    }

    /// Headers are whole blocks. A parser that cannot tell how many is asked again at each.
    fn wait_for_more(&mut self, min_bytes: usize, header: Vec<u8>) -> Result<(), IndexerError> {
        let block = usize::try_from(BLOCK).expect("a block is short");
        self.reread += header.len() as u64;
        if self.reread > REREAD_FLOOR_BYTES && self.reread / REREAD_MAX_TIMES > self.offset {
            return Err(IndexerError::Limit("a header that does not end".to_owned()));
        }
        self.wanted = min_bytes.max(header.len() + 1).next_multiple_of(block);
        self.header = header;
        Ok(())
    }

    /// Headers are fed to the byte, so that nothing of a content is taken for one.
    fn advance(&mut self, consumed: usize, header: &[u8]) -> Result<(), IndexerError> {
        if consumed != header.len() {
            let problem = format!("header of {} bytes used {consumed}", header.len());
            return Err(IndexerError::Archive(problem));
        }
        self.offset += consumed as u64;
        Ok(())
    }

    fn member(
        &mut self,
        parsed: &ParsedEntry<'_>,
        sparse: Option<(&[SparseEntry], u64)>,
        entry: &mut dyn FnMut(&Entry) -> Result<(), IndexerError>,
    ) -> Result<(), IndexerError> {
        let records = pax::Records::read(parsed)?;
        let has_content = has_content(parsed.entry_type);
        let size = if has_content {
            records.size.unwrap_or(parsed.size)
        } else {
            0
        };
        if has_content && size != parsed.size {
            let problem = format!("two sizes for {:?}", parsed.path_lossy());
            return Err(IndexerError::Archive(problem));
        }
        let content = self.offset;
        self.skip = size
            .div_ceil(BLOCK)
            .checked_mul(BLOCK)
            .ok_or_else(too_large)?;
        self.padding = self.skip - size;
        self.offset.checked_add(self.skip).ok_or_else(too_large)?;
        match converted(parsed, &records, sparse, content, size)? {
            Some(converted) => entry(&converted),
            None => Ok(()),
        }
    }
}

fn too_large() -> IndexerError {
    IndexerError::Limit("a member's size".to_owned())
}

/// Go's reader takes links, devices and directories to have no content, whatever their size says.
fn has_content(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse
    ) || !is_known(kind)
}

fn is_known(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Regular
            | EntryType::Continuous
            | EntryType::GnuSparse
            | EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

/// The entry of a member; nothing for what is no file, such as another overlay's own records.
fn converted(
    parsed: &ParsedEntry<'_>,
    records: &pax::Records,
    sparse: Option<(&[SparseEntry], u64)>,
    content: u64,
    size: u64,
) -> Result<Option<Entry>, IndexerError> {
    let path = clean(&parsed.path)?;
    let (path, marker) = match marker(&path)? {
        Marker::Ignored => return Ok(None),
        Marker::None => (path, None),
        Marker::Whiteout(path) => (path, Some(EntryKind::Whiteout)),
        Marker::Opaque(path) => (path, Some(EntryKind::Opaque)),
    };
    let kind = match marker {
        Some(kind) => kind,
        None => kind(parsed, sparse, content, size)?,
    };
    Ok(Some(Entry {
        path,
        kind,
        mode: parsed.mode & 0o7777,
        uid: narrow(records.uid.unwrap_or(parsed.uid), "user")?,
        gid: narrow(records.gid.unwrap_or(parsed.gid), "group")?,
        mtime: records.mtime.unwrap_or_else(|| header_mtime(parsed)),
        xattrs: records.xattrs.clone(),
    }))
}

fn narrow(value: u64, what: &str) -> Result<u32, IndexerError> {
    u32::try_from(value).map_err(|_| IndexerError::Archive(format!("{what} id {value}")))
}

/// The header's time: octal, or a two's complement number when it is before 1970 or far ahead.
fn header_mtime(parsed: &ParsedEntry<'_>) -> Mtime {
    let field = &parsed.header.as_bytes()[136..148];
    let seconds = if field[0] & 0x80 == 0 {
        parsed.mtime.cast_signed()
    } else {
        i64::from_be_bytes(field[4..].try_into().expect("eight bytes"))
    };
    Mtime {
        seconds,
        nanoseconds: 0,
    }
}

fn kind(
    parsed: &ParsedEntry<'_>,
    sparse: Option<(&[SparseEntry], u64)>,
    content: u64,
    size: u64,
) -> Result<EntryKind, IndexerError> {
    let target = || parsed.link_target.as_deref().unwrap_or_default();
    let device = || (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0));
    Ok(match parsed.entry_type {
        // A member of the oldest format is a directory when its name ends so.
        EntryType::Regular if parsed.path.ends_with(b"/") => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse => match sparse {
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
            let (major, minor) = device();
            EntryKind::CharDevice { major, minor }
        }
        EntryType::Block => {
            let (major, minor) = device();
            EntryKind::BlockDevice { major, minor }
        }
        EntryType::Fifo => EntryKind::Fifo,
        other => {
            let name = parsed.path_lossy();
            let problem = format!("member {name:?} is of unknown type {:?}", other.as_byte());
            return Err(IndexerError::Archive(problem));
        }
    })
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

fn sparse_file(
    map: &[SparseEntry],
    real_size: u64,
    content: u64,
    size: u64,
) -> Result<EntryKind, IndexerError> {
    let mut extents = Vec::new();
    let mut used = 0_u64;
    for part in map {
        let end = used.checked_add(part.length).filter(|end| *end <= size);
        let end = end.ok_or_else(|| {
            IndexerError::Archive("a sparse file with more parts than bytes".to_owned())
        })?;
        if part.length > 0 {
            extents.push(Extent {
                file_offset: part.offset,
                layer_offset: content + used,
                length: part.length,
            });
        }
        used = end;
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
    Ignored,
}

fn marker(path: &[u8]) -> Result<Marker, IndexerError> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = slash.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
    if name == OPAQUE_MARKER {
        return Ok(Marker::Opaque(parent.to_vec()));
    }
    if name.starts_with(WHITEOUT_META_PREFIX) {
        return Ok(Marker::Ignored);
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
