//! The file of a layer index, written from its documented format and not by its own encoder, so
//! that sections that no encoder would write can be put into a file whose digests are right.

use layer_index::FORMAT_VERSION;

const MAGIC: &[u8; 8] = b"hfindex\0";
const HEADER_BYTES: u32 = 201;

/// What a file is made of; the sections are not compressed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sections<'a> {
    pub(crate) codec: u8,
    pub(crate) compressed_bytes: u64,
    pub(crate) uncompressed_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) spans: u64,
    pub(crate) metadata: &'a [u8],
    pub(crate) span_table: &'a [u8],
    pub(crate) windows: &'a [u8],
}

/// The file.
pub(crate) fn write(sections: &Sections<'_>) -> Vec<u8> {
    let metadata = compress(sections.metadata);
    let span_table = compress(sections.span_table);
    let mut file = MAGIC.to_vec();
    file.extend(FORMAT_VERSION.to_le_bytes());
    file.extend(HEADER_BYTES.to_le_bytes());
    file.extend([1; 32]);
    file.extend([2; 32]);
    file.push(sections.codec);
    file.extend(sections.compressed_bytes.to_le_bytes());
    file.extend(sections.uncompressed_bytes.to_le_bytes());
    file.extend(sections.entries.to_le_bytes());
    file.extend(sections.spans.to_le_bytes());
    for (stored, raw) in [
        (&metadata, sections.metadata),
        (&span_table, sections.span_table),
    ] {
        file.extend((stored.len() as u64).to_le_bytes());
        file.extend((raw.len() as u64).to_le_bytes());
        file.extend(blake3::hash(stored).as_bytes());
    }
    file.extend((sections.windows.len() as u64).to_le_bytes());
    file.extend(metadata);
    file.extend(span_table);
    file.extend(sections.windows);
    file
}

fn compress(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).expect("memory takes everything")
}

/// Reads the next numbers and sections off an input; what is missing is empty.
#[derive(Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Little-endian, of so many bytes.
    pub(crate) fn number(&mut self, bytes: usize) -> u64 {
        let digits = self.take(bytes).iter().rev();
        digits.fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }

    /// Its length in two bytes, and a section.
    pub(crate) fn section(&mut self) -> &'a [u8] {
        let length = self.number(2);
        self.take(usize::try_from(length).expect("two bytes"))
    }
}
