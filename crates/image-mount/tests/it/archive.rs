//! Archives written field by field, so that a test can say what no packer would write.
//!
//! A member gets an extended header for what its header has no room for. Numbers that do not fit
//! as digits are written in base 256.

const BLOCK: usize = 512;
const NAME: usize = 100;

/// One member, described before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    seconds: i64,
    link: Vec<u8>,
    device: (u32, u32),
    content: Vec<u8>,
    size: Option<u64>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    magic: &'static [u8],
    patches: Vec<(usize, Vec<u8>)>,
}

impl Member {
    pub(crate) fn of(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            owner: (0, 0),
            seconds: 1_700_000_000,
            link: Vec::new(),
            device: (0, 0),
            content: Vec::new(),
            size: None,
            records: Vec::new(),
            magic: b"ustar\x0000",
            patches: Vec::new(),
        }
    }

    pub(crate) fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref().to_vec();
        Self {
            content,
            ..Self::of(b'0', name)
        }
    }

    pub(crate) fn directory(name: impl AsRef<[u8]>) -> Self {
        Self::of(b'5', name)
    }

    pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::of(b'2', name).link(target)
    }

    pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::of(b'1', name).link(target)
    }

    pub(crate) fn device(kind: u8, name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self {
            device: (major, minor),
            ..Self::of(kind, name)
        }
    }

    /// A long name (`L`) or link target (`K`) in GNU's format, for the member that follows.
    pub(crate) fn long(kind: u8, text: impl AsRef<[u8]>) -> Self {
        let content = text.as_ref().to_vec();
        Self {
            content,
            ..Self::of(kind, "././@LongLink").gnu()
        }
    }

    /// A sparse file with its map in front of the content, and its end in the map, as GNU tar
    /// writes it.
    pub(crate) fn sparse(name: &str, parts: &[(u64, &[u8])], size: u64) -> Self {
        let parts = &[parts, &[(size, &[])]].concat();
        let numbers = parts.iter().flat_map(|(at, part)| [*at, part.len() as u64]);
        let numbers = std::iter::once(parts.len() as u64).chain(numbers);
        let mut content: Vec<u8> = numbers
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        content.extend(parts.iter().flat_map(|(_, part)| part.iter()));
        Self::file(format!("GNUSparseFile.0/{name}"), content)
            .record("GNU.sparse.major", "1")
            .record("GNU.sparse.minor", "0")
            .record("GNU.sparse.name", name)
            .record("GNU.sparse.realsize", size.to_string())
    }

    /// The same with the map in a record.
    pub(crate) fn sparse_by_record(name: &str, parts: &[(u64, &[u8])], size: u64) -> Self {
        let parts = &[parts, &[(size, &[])]].concat();
        let map: Vec<String> = parts
            .iter()
            .map(|(at, part)| format!("{at},{}", part.len()))
            .collect();
        let content: Vec<u8> = parts
            .iter()
            .flat_map(|(_, part)| part.iter().copied())
            .collect();
        Self::file(format!("GNUSparseFile.0/{name}"), content)
            .record("GNU.sparse.size", size.to_string())
            .record("GNU.sparse.numblocks", parts.len().to_string())
            .record("GNU.sparse.name", name)
            .record("GNU.sparse.map", map.join(","))
    }

    pub(crate) fn link(mut self, target: impl AsRef<[u8]>) -> Self {
        self.link = target.as_ref().to_vec();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn owner(mut self, user: u32, group: u32) -> Self {
        self.owner = (user, group);
        self
    }

    pub(crate) fn seconds(mut self, seconds: i64) -> Self {
        self.seconds = seconds;
        self
    }

    pub(crate) fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    pub(crate) fn record(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.into(), value.as_ref().to_vec()));
        self
    }

    /// What the header says of the size, whatever the content is.
    pub(crate) fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    pub(crate) fn gnu(mut self) -> Self {
        self.magic = b"ustar  \0";
        self
    }

    /// The oldest format, which has no magic.
    pub(crate) fn old(mut self) -> Self {
        self.magic = b"";
        self
    }

    /// Writes these bytes over the header's; the checksum is made to fit.
    pub(crate) fn patch(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        self.patches.push((at, bytes.as_ref().to_vec()));
        self
    }

    /// The same attributes for another name of the file.
    pub(crate) fn linked_as(&self, name: impl AsRef<[u8]>) -> Self {
        let (kind, link) = (b'1', self.name.clone());
        let records = self.records.iter().filter(|(key, _)| key == b"mtime");
        let records = records.cloned().collect();
        let (name, content) = (name.as_ref().to_vec(), Vec::new());
        Self {
            name,
            kind,
            link,
            content,
            records,
            ..self.clone()
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut records = self.records.clone();
        for (key, value) in [("path", &self.name), ("linkpath", &self.link)] {
            if value.len() > NAME {
                records.push((key.into(), value.clone()));
            }
        }
        let mut bytes = Vec::new();
        if !records.is_empty() {
            let content: Vec<u8> = records.iter().flat_map(record_bytes).collect();
            let mut header = Self::of(b'x', "PaxHeaders/member");
            header.content = content;
            bytes.extend(header.bytes());
        }
        bytes.extend(self.header());
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn header(&self) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(NAME)]);
        put(100, &number(i64::from(self.mode), 8));
        put(108, &number(i64::from(self.owner.0), 8));
        put(116, &number(i64::from(self.owner.1), 8));
        let size = self.size.unwrap_or(self.content.len() as u64);
        put(124, &number(size.cast_signed(), 12));
        put(136, &number(self.seconds, 12));
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(NAME)]);
        put(257, self.magic);
        if !self.magic.is_empty() {
            put(329, &number(i64::from(self.device.0), 8));
            put(337, &number(i64::from(self.device.1), 8));
        }
        for (at, bytes) in &self.patches {
            put(*at, bytes);
        }
        put(148, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

/// The members, and the two blocks that end an archive.
pub(crate) fn archive_of(members: &[Member]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(Member::bytes).collect();
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn number(value: i64, length: usize) -> Vec<u8> {
    let digits = format!("{value:0width$o}", width = length - 1);
    if value >= 0 && digits.len() < length {
        return [digits.as_bytes(), b"\0"].concat();
    }
    let fill = if value < 0 { 0xff } else { 0 };
    let mut bytes = vec![fill; length];
    let low = value.to_be_bytes();
    let used = low.len().min(length - 1);
    bytes[length - used..].copy_from_slice(&low[low.len() - used..]);
    bytes[0] = 0x80 | fill;
    bytes
}

/// A record says its own length, the digits of it included.
fn record_bytes((key, value): &(Vec<u8>, Vec<u8>)) -> Vec<u8> {
    let rest = [b" ", &key[..], b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}
