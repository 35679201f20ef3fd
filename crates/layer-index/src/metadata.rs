//! Section A: entries as columns, so that like stands by like and zstd finds it.

use std::collections::HashMap;

use crate::column::{Column, Reader, split};
use crate::entry::{Entry, EntryKind, Extent, Mtime, Xattr};
use crate::error::{BuildError, IndexError};
use crate::limits::{
    MAX_EXTENTS_PER_FILE, MAX_NAME, MAX_PATH, MAX_SYMLINK_TARGET, MAX_XATTR_NAME, MAX_XATTR_SETS,
    MAX_XATTR_VALUE, MAX_XATTRS_PER_ENTRY,
};
use crate::long_column::LongColumn;
use crate::scratch::Scratch;

const COLUMNS: usize = 9;
const MODE_MASK: u32 = 0o7777;
const NANOSECONDS: u32 = 1_000_000_000;

/// How a file's extents are written: most files are one run, which needs one number.
const LAYOUT_HOLE: u64 = 0;
const LAYOUT_WHOLE: u64 = 1;
const LAYOUT_EXTENTS: u64 = 2;

/// Sets of attributes that are known again when they come again. What is forgotten is stored once
/// more; layers have a few dozen.
const SETS_KNOWN_MAX: usize = 16 * 1024;

/// Entries on their way into columns.
#[derive(Debug)]
pub(crate) struct Writer {
    paths: LongColumn,
    kinds: LongColumn,
    owners: LongColumn,
    times: LongColumn,
    xattr_numbers: LongColumn,
    data: LongColumn,
    targets: LongColumn,
    devices: LongColumn,
    xattr_sets: LongColumn,
    xattr_set_count: usize,
    /// Numbers of sets, by the BLAKE3 of what is stored of them.
    known_sets: HashMap<[u8; 32], u64>,
    previous: Previous,
    count: u64,
}

/// What deltas are against.
#[derive(Debug, Default, Clone)]
struct Previous {
    path: Vec<u8>,
    seconds: i64,
    layer_offset: u64,
}

impl Writer {
    pub(crate) fn new(scratch: &Scratch) -> Self {
        let column = || LongColumn::new(scratch);
        Self {
            paths: column(),
            kinds: column(),
            owners: column(),
            times: column(),
            xattr_numbers: column(),
            data: column(),
            targets: column(),
            devices: column(),
            xattr_sets: column(),
            xattr_set_count: 0,
            known_sets: HashMap::new(),
            previous: Previous::default(),
            count: 0,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn push(&mut self, entry: &Entry) -> Result<(), BuildError> {
        check(entry).map_err(BuildError::Invalid)?;
        self.path(&entry.path);
        self.kind(&entry.kind)?;
        let owners = self.owners.open();
        owners.number(u64::from(entry.mode & MODE_MASK));
        owners.number(u64::from(entry.uid));
        owners.number(u64::from(entry.gid));
        let times = self.times.open();
        times.signed(entry.mtime.seconds.wrapping_sub(self.previous.seconds));
        times.number(u64::from(entry.mtime.nanoseconds));
        self.previous.seconds = entry.mtime.seconds;
        self.xattrs(&entry.xattrs)?;
        self.count += 1;
        self.columns_mut()
            .into_iter()
            .try_for_each(LongColumn::settle)
    }

    fn path(&mut self, path: &[u8]) {
        let pairs = self.previous.path.iter().zip(path);
        let shared = pairs.take_while(|(before, now)| before == now).count();
        self.paths.open().number(shared as u64);
        self.paths.open().bytes(&path[shared..]);
        path.clone_into(&mut self.previous.path);
    }

    fn kind(&mut self, kind: &EntryKind) -> Result<(), BuildError> {
        self.kinds.open().number(kind_number(kind));
        match kind {
            EntryKind::File { size, extents } => self.file(*size, extents)?,
            EntryKind::HardLink { target } | EntryKind::Symlink { target } => {
                self.targets.open().bytes(target);
            }
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                self.devices.open().number(u64::from(*major));
                self.devices.open().number(u64::from(*minor));
            }
            EntryKind::Directory | EntryKind::Fifo | EntryKind::Whiteout | EntryKind::Opaque => {}
        }
        Ok(())
    }

    fn file(&mut self, size: u64, extents: &[Extent]) -> Result<(), BuildError> {
        self.data.open().number(size);
        match extents {
            [] => self.data.open().number(LAYOUT_HOLE),
            [only] if only.file_offset == 0 && only.length == size => {
                self.data.open().number(LAYOUT_WHOLE);
                self.layer_offset(only.layer_offset);
            }
            many => {
                let layout = LAYOUT_EXTENTS + many.len() as u64;
                self.data.open().number(layout);
                for extent in many {
                    self.data.open().number(extent.file_offset);
                    self.data.open().number(extent.length);
                    self.layer_offset(extent.layer_offset);
                    self.data.settle()?;
                }
            }
        }
        Ok(())
    }

    fn layer_offset(&mut self, offset: u64) {
        let delta = offset.wrapping_sub(self.previous.layer_offset);
        self.data.open().signed(delta.cast_signed());
        self.previous.layer_offset = offset;
    }

    /// Number 0 is no attributes; sets count from 1.
    fn xattrs(&mut self, xattrs: &[Xattr]) -> Result<(), BuildError> {
        let number = match xattrs {
            [] => 0,
            some => self.xattr_set(some)?,
        };
        self.xattr_numbers.open().number(number);
        Ok(())
    }

    fn xattr_set(&mut self, xattrs: &[Xattr]) -> Result<u64, BuildError> {
        let mut set = Column::default();
        set.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            set.bytes(name);
            set.bytes(value);
        }
        let digest = *blake3::hash(set.as_slice()).as_bytes();
        if let Some(number) = self.known_sets.get(&digest) {
            return Ok(*number);
        }
        if self.xattr_set_count >= MAX_XATTR_SETS {
            return Err(BuildError::Limit("too many sets of extended attributes"));
        }
        self.xattr_set_count += 1;
        self.xattr_sets.open().raw(set.as_slice());
        if self.known_sets.len() >= SETS_KNOWN_MAX {
            self.known_sets.clear();
        }
        let number = self.xattr_set_count as u64;
        self.known_sets.insert(digest, number);
        Ok(number)
    }

    /// Bytes so far, for the limit.
    pub(crate) fn bytes(&self) -> u64 {
        let columns = [
            &self.paths,
            &self.targets,
            &self.data,
            &self.owners,
            &self.times,
            &self.xattr_sets,
        ];
        columns.iter().map(|column| column.len()).sum()
    }

    fn columns_mut(&mut self) -> [&mut LongColumn; COLUMNS] {
        [
            &mut self.paths,
            &mut self.kinds,
            &mut self.owners,
            &mut self.times,
            &mut self.xattr_numbers,
            &mut self.data,
            &mut self.targets,
            &mut self.devices,
            &mut self.xattr_sets,
        ]
    }

    /// The columns of the section, in their order.
    pub(crate) fn finish(mut self) -> [LongColumn; COLUMNS] {
        let count = self.xattr_set_count as u64;
        self.xattr_sets.head().number(count);
        [
            self.paths,
            self.kinds,
            self.owners,
            self.times,
            self.xattr_numbers,
            self.data,
            self.targets,
            self.devices,
            self.xattr_sets,
        ]
    }
}

fn kind_number(kind: &EntryKind) -> u64 {
    match kind {
        EntryKind::File { .. } => 0,
        EntryKind::HardLink { .. } => 1,
        EntryKind::Symlink { .. } => 2,
        EntryKind::Directory => 3,
        EntryKind::CharDevice { .. } => 4,
        EntryKind::BlockDevice { .. } => 5,
        EntryKind::Fifo => 6,
        EntryKind::Whiteout => 7,
        EntryKind::Opaque => 8,
    }
}

/// What an entry must be, for the writer and the reader alike.
fn check(entry: &Entry) -> Result<(), &'static str> {
    check_path(&entry.path)?;
    if entry.mtime.nanoseconds >= NANOSECONDS {
        return Err("a time with too many nanoseconds");
    }
    if entry.xattrs.len() > MAX_XATTRS_PER_ENTRY {
        return Err("too many extended attributes");
    }
    if !entry.xattrs.is_sorted_by(|one, next| one.0 < next.0) {
        return Err("extended attributes out of order");
    }
    let fits = |(name, value): &Xattr| {
        (1..=MAX_XATTR_NAME).contains(&name.len()) && value.len() <= MAX_XATTR_VALUE
    };
    if !entry.xattrs.iter().all(fits) {
        return Err("an extended attribute of a bad length");
    }
    match &entry.kind {
        EntryKind::File { size, extents } => check_extents(*size, extents),
        EntryKind::HardLink { target } => check_path(target),
        EntryKind::Symlink { target } => match target.len() {
            1..=MAX_SYMLINK_TARGET if !target.contains(&0) => Ok(()),
            _ => Err("a symbolic link with a bad target"),
        },
        _ => Ok(()),
    }
}

fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.len() > MAX_PATH {
        return Err("a path is too long");
    }
    let good =
        |name: &[u8]| !name.is_empty() && name.len() <= MAX_NAME && name != b"." && name != b"..";
    if path.contains(&0) || !(path.is_empty() || path.split(|byte| *byte == b'/').all(good)) {
        return Err("a path has a bad component");
    }
    Ok(())
}

fn check_extents(size: u64, extents: &[Extent]) -> Result<(), &'static str> {
    if extents.len() > MAX_EXTENTS_PER_FILE {
        return Err("a file has too many extents");
    }
    let mut end = 0;
    for extent in extents {
        let next = extent.file_offset.checked_add(extent.length);
        let fits = extent.length > 0 && extent.file_offset >= end;
        match next {
            Some(next) if fits && next <= size => end = next,
            _ => return Err("the extents of a file overlap or exceed it"),
        }
    }
    Ok(())
}

/// Reads entries back, one by one.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    left: u64,
    paths: Reader<'a>,
    kinds: Reader<'a>,
    owners: Reader<'a>,
    times: Reader<'a>,
    xattr_numbers: Reader<'a>,
    data: Reader<'a>,
    targets: Reader<'a>,
    devices: Reader<'a>,
    xattr_sets: Vec<Vec<Xattr>>,
    previous: Previous,
    layer_bytes: u64,
}

impl<'a> Entries<'a> {
    /// `layer_bytes` is the uncompressed size, which no extent may exceed.
    pub(crate) fn new(section: &'a [u8], count: u64, layer_bytes: u64) -> Result<Self, IndexError> {
        let columns: [Reader<'a>; COLUMNS] = split(section)?;
        let [
            paths,
            kinds,
            owners,
            times,
            xattr_numbers,
            data,
            targets,
            devices,
            sets,
        ] = columns;
        Ok(Self {
            left: count,
            paths,
            kinds,
            owners,
            times,
            xattr_numbers,
            data,
            targets,
            devices,
            xattr_sets: xattr_sets(sets)?,
            previous: Previous::default(),
            layer_bytes,
        })
    }

    /// Reads them all, so that later reading cannot fail.
    pub(crate) fn verify(mut self) -> Result<(), IndexError> {
        while self.left > 0 {
            self.read()?;
        }
        let rest = [
            self.paths,
            self.kinds,
            self.owners,
            self.times,
            self.xattr_numbers,
        ];
        let more = [self.data, self.targets, self.devices];
        rest.into_iter().chain(more).try_for_each(Reader::end)
    }

    fn read(&mut self) -> Result<Entry, IndexError> {
        self.left -= 1;
        let path = self.path()?;
        let kind = self.kind()?;
        let mode = self.owners.narrow::<u32>()? & MODE_MASK;
        let (uid, gid) = (self.owners.narrow()?, self.owners.narrow()?);
        let seconds = self.previous.seconds.wrapping_add(self.times.signed()?);
        self.previous.seconds = seconds;
        let mtime = Mtime {
            seconds,
            nanoseconds: self.times.narrow()?,
        };
        let entry = Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs: self.xattrs()?,
        };
        check(&entry).map_err(IndexError::Corrupt)?;
        Ok(entry)
    }

    fn path(&mut self) -> Result<Vec<u8>, IndexError> {
        let shared: usize = self.paths.narrow()?;
        let suffix = self.paths.bytes(MAX_PATH)?;
        if shared > self.previous.path.len() {
            return Err(IndexError::Corrupt("a path shares more than there is"));
        }
        self.previous.path.truncate(shared);
        self.previous.path.extend_from_slice(suffix);
        Ok(self.previous.path.clone())
    }

    fn kind(&mut self) -> Result<EntryKind, IndexError> {
        Ok(match self.kinds.number()? {
            0 => self.file()?,
            1 => EntryKind::HardLink {
                target: self.targets.bytes(MAX_PATH)?.to_vec(),
            },
            2 => EntryKind::Symlink {
                target: self.targets.bytes(MAX_SYMLINK_TARGET)?.to_vec(),
            },
            3 => EntryKind::Directory,
            4 => EntryKind::CharDevice {
                major: self.devices.narrow()?,
                minor: self.devices.narrow()?,
            },
            5 => EntryKind::BlockDevice {
                major: self.devices.narrow()?,
                minor: self.devices.narrow()?,
            },
            6 => EntryKind::Fifo,
            7 => EntryKind::Whiteout,
            8 => EntryKind::Opaque,
            _ => return Err(IndexError::Corrupt("an unknown kind of entry")),
        })
    }

    fn file(&mut self) -> Result<EntryKind, IndexError> {
        let size = self.data.number()?;
        let extents = match self.data.number()? {
            LAYOUT_HOLE => Vec::new(),
            LAYOUT_WHOLE => {
                let layer_offset = self.layer_offset()?;
                vec![Extent {
                    file_offset: 0,
                    layer_offset,
                    length: size,
                }]
            }
            more => self.extents(more - LAYOUT_EXTENTS)?,
        };
        let inside = |extent: &Extent| {
            let end = extent.layer_offset.checked_add(extent.length);
            end.is_some_and(|end| end <= self.layer_bytes)
        };
        if !extents.iter().all(inside) {
            return Err(IndexError::Corrupt("a file lies outside its layer"));
        }
        Ok(EntryKind::File { size, extents })
    }

    fn extents(&mut self, count: u64) -> Result<Vec<Extent>, IndexError> {
        if count > MAX_EXTENTS_PER_FILE as u64 {
            return Err(IndexError::Limit("a file has too many extents"));
        }
        let mut extents = Vec::new();
        for _ in 0..count {
            let (file_offset, length) = (self.data.number()?, self.data.number()?);
            extents.push(Extent {
                file_offset,
                layer_offset: self.layer_offset()?,
                length,
            });
        }
        Ok(extents)
    }

    fn layer_offset(&mut self) -> Result<u64, IndexError> {
        let delta = self.data.signed()?.cast_unsigned();
        self.previous.layer_offset = self.previous.layer_offset.wrapping_add(delta);
        Ok(self.previous.layer_offset)
    }

    fn xattrs(&mut self) -> Result<Vec<Xattr>, IndexError> {
        let number: usize = self.xattr_numbers.narrow()?;
        let Some(at) = number.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let set = self.xattr_sets.get(at);
        set.cloned()
            .ok_or(IndexError::Corrupt("an unknown set of extended attributes"))
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    /// Ends early only where `verify` would have failed.
    fn next(&mut self) -> Option<Entry> {
        if self.left == 0 {
            None
        } else {
            self.read().ok()
        }
    }
}

fn xattr_sets(mut column: Reader<'_>) -> Result<Vec<Vec<Xattr>>, IndexError> {
    let count: usize = column.narrow()?;
    if count > MAX_XATTR_SETS {
        return Err(IndexError::Limit("too many sets of extended attributes"));
    }
    let mut sets = Vec::new();
    for _ in 0..count {
        let length: usize = column.narrow()?;
        if length > MAX_XATTRS_PER_ENTRY {
            return Err(IndexError::Limit("too many extended attributes"));
        }
        let mut set = Vec::new();
        for _ in 0..length {
            let name = column.bytes(MAX_XATTR_NAME)?.into();
            set.push((name, column.bytes(MAX_XATTR_VALUE)?.into()));
        }
        sets.push(set);
    }
    column.end()?;
    Ok(sets)
}
