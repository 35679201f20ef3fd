//! The fixed part of the file: magic, version, header. Everything before section A, and the root
//! over it.

use crate::column::Reader;
use crate::error::IndexError;
use crate::index::{Codec, Header};
use crate::limits::{
    MAX_COMPRESSED, MAX_ENTRIES, MAX_METADATA, MAX_SPAN_TABLE, MAX_SPANS, MAX_UNCOMPRESSED,
    MAX_WINDOW_FRAME,
};

/// Part of the name under which an index is stored: another version is another file.
pub const FORMAT_VERSION: u32 = 3;

const MAGIC: &[u8; 8] = b"hfindex\0";
const HEADER_BYTES: u32 = 32 + 32 + 1 + 4 * 8 + 2 * (8 + 8 + 32) + 8;

/// Where section A begins.
pub(crate) const PREFIX_BYTES: usize = 16 + HEADER_BYTES as usize;

/// A compressed section: its place follows from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) stored: u64,
    pub(crate) raw: u64,
    pub(crate) digest: [u8; 32],
}

/// Everything before section A.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) header: Header,
    pub(crate) metadata: Section,
    pub(crate) span_table: Section,
    pub(crate) windows_stored: u64,
}

impl Prefix {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, IndexError> {
        let header = &self.header;
        let mut bytes = Vec::with_capacity(PREFIX_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&HEADER_BYTES.to_le_bytes());
        bytes.extend_from_slice(&parse_sha256(&header.layer_digest)?);
        bytes.extend_from_slice(&parse_sha256(&header.diff_id)?);
        bytes.push(codec_number(header.codec));
        for size in [
            header.compressed_size,
            header.uncompressed_size,
            header.entry_count,
            header.span_count,
        ] {
            bytes.extend_from_slice(&size.to_le_bytes());
        }
        for section in [&self.metadata, &self.span_table] {
            bytes.extend_from_slice(&section.stored.to_le_bytes());
            bytes.extend_from_slice(&section.raw.to_le_bytes());
            bytes.extend_from_slice(&section.digest);
        }
        bytes.extend_from_slice(&self.windows_stored.to_le_bytes());
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut reader = Reader::new(bytes);
        if reader.raw(MAGIC.len())? != MAGIC {
            return Err(IndexError::Format("no layer index"));
        }
        if reader.u32_le()? != FORMAT_VERSION || reader.u32_le()? != HEADER_BYTES {
            return Err(IndexError::Format("another version of the format"));
        }
        let header = Header {
            layer_digest: format_sha256(reader.array()?),
            diff_id: format_sha256(reader.array()?),
            codec: codec(reader.raw(1)?[0])?,
            compressed_size: reader.u64_le()?,
            uncompressed_size: reader.u64_le()?,
            entry_count: reader.u64_le()?,
            span_count: reader.u64_le()?,
        };
        let metadata = section(&mut reader)?;
        let span_table = section(&mut reader)?;
        let windows_stored = reader.u64_le()?;
        let prefix = Self {
            header,
            metadata,
            span_table,
            windows_stored,
        };
        prefix.check()?;
        Ok(prefix)
    }

    fn check(&self) -> Result<(), IndexError> {
        let header = &self.header;
        let within = [
            (header.compressed_size, MAX_COMPRESSED),
            (header.uncompressed_size, MAX_UNCOMPRESSED),
            (header.entry_count, MAX_ENTRIES),
            (header.span_count, MAX_SPANS),
            (self.metadata.stored, MAX_METADATA),
            (self.metadata.raw, MAX_METADATA),
            (self.span_table.stored, MAX_SPAN_TABLE),
            (self.span_table.raw, MAX_SPAN_TABLE),
            (self.windows_stored, MAX_SPANS * u64::from(MAX_WINDOW_FRAME)),
        ];
        if within.iter().all(|(value, limit)| value <= limit) {
            Ok(())
        } else {
            Err(IndexError::Limit("a size in the header"))
        }
    }

    /// The digest of the whole index.
    pub(crate) fn root(bytes: &[u8]) -> [u8; 32] {
        *blake3::hash(bytes).as_bytes()
    }

    /// How long the whole file is.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.windows_offset() + self.windows_stored
    }

    /// Where section C begins.
    pub(crate) fn windows_offset(&self) -> u64 {
        PREFIX_BYTES as u64 + self.metadata.stored + self.span_table.stored
    }
}

fn section(reader: &mut Reader<'_>) -> Result<Section, IndexError> {
    Ok(Section {
        stored: reader.u64_le()?,
        raw: reader.u64_le()?,
        digest: reader.array()?,
    })
}

fn codec_number(codec: Codec) -> u8 {
    match codec {
        Codec::Tar => 0,
        Codec::Gzip => 1,
        Codec::Zstd => 2,
    }
}

fn codec(number: u8) -> Result<Codec, IndexError> {
    match number {
        0 => Ok(Codec::Tar),
        1 => Ok(Codec::Gzip),
        2 => Ok(Codec::Zstd),
        _ => Err(IndexError::Format("an unknown codec")),
    }
}

fn parse_sha256(text: &str) -> Result<[u8; 32], IndexError> {
    const ERROR: IndexError = IndexError::Format("a digest that is not SHA-256");
    let hex = text
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.is_ascii());
    let hex = hex.ok_or(ERROR)?;
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| ERROR)?;
    }
    Ok(bytes)
}

fn format_sha256(bytes: [u8; 32]) -> String {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}
