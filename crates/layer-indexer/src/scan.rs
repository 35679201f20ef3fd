//! The archive's members as entries of an index.
//!
//! Fed with the uncompressed stream in pieces; knows at every byte whether it is a header or a
//! file's content, and where in the stream the content lies. What readers understand differently
//! is refused: `header` and `pax` say what of a member's headers, this file what of the rest.

use layer_index::{Entry, limits};
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, SparseEntry};

use crate::error::IndexerError;
use crate::header::Fields;
use crate::member::Member;
use crate::pax;

const BLOCK: u64 = 512;
const ZERO_BLOCK: [u8; 512] = [0; 512];

/// Extended headers of one member: long names, attributes, a sparse map. Go's reader stops at
/// 1 MiB too.
const METADATA_MAX_BYTES: u32 = 1 << 20;

/// Header bytes are read again at each block of a header that has many. Honest archives read each
/// byte about twice; a sparse map that never ends would be read for days.
const REREAD_MAX_TIMES: u64 = 8;

/// Below this much reading again nothing is refused: a second of work, enough for one sparse
/// file of 20 000 parts.
const REREAD_FLOOR_BYTES: u64 = 256 << 20;

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
        let length = self.header.len() as u64;
        let zeros = self.header.iter().all(|byte| *byte == 0);
        // The first of the two zero blocks at the end is enough, but not a part of it.
        let is_at_end = length.is_multiple_of(BLOCK) && zeros;
        if self.skip <= self.padding && is_at_end {
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
        let may_begin_with_zeros =
            matches!(event, ParseEvent::End { .. } | ParseEvent::NeedData { .. });
        if !may_begin_with_zeros && header.starts_with(&ZERO_BLOCK) {
            return Err(IndexerError::Archive(
                "a zero block between members".to_owned(),
            ));
        }
        match event {
            ParseEvent::NeedData { min_bytes } => {
                return self.wait_for_more(min_bytes, header);
            }
            ParseEvent::End { .. } => self.done = true,
            ParseEvent::GlobalExtensions { .. } => {
                let problem = "a header for all members that follow";
                return Err(IndexerError::Archive(problem.to_owned()));
            }
            ParseEvent::Entry {
                consumed,
                entry: parsed,
            } => {
                self.advance(consumed, &header)?;
                self.member(&header, &parsed, None, entry)?;
            }
            ParseEvent::SparseEntry {
                consumed,
                entry: parsed,
                sparse_map,
                real_size,
            } => {
                self.advance(consumed, &header)?;
                self.member(&header, &parsed, Some((&sparse_map, real_size)), entry)?;
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
        headers: &[u8],
        parsed: &ParsedEntry<'_>,
        sparse: Option<(&[SparseEntry], u64)>,
        entry: &mut dyn FnMut(&Entry) -> Result<(), IndexerError>,
    ) -> Result<(), IndexerError> {
        let records = pax::Records::read(parsed)?;
        records.check_sparse(sparse.map(|(map, _)| map.len()), parsed.entry_type)?;
        let fields = Fields::read(headers, &records)?;
        let size = if has_content(parsed.entry_type) {
            let size = records.size.unwrap_or(fields.size);
            size.checked_sub(fields.map_bytes).ok_or_else(too_large)?
        } else {
            0
        };
        let content = self.offset;
        self.skip = size
            .div_ceil(BLOCK)
            .checked_mul(BLOCK)
            .ok_or_else(too_large)?;
        self.padding = self.skip - size;
        self.offset.checked_add(self.skip).ok_or_else(too_large)?;
        let member = Member {
            parsed,
            fields,
            records,
        };
        entry(&member.entry(sparse, content, size)?)
    }
}

fn too_large() -> IndexerError {
    IndexerError::Limit("a member's size".to_owned())
}

/// Go's reader takes links, devices and directories to have no content, whatever their size says.
fn has_content(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}
