//! What an ELF program or library needs, from as little of it as says so: its first bytes, its
//! dynamic section and the names in it. Of the host's kind only, 64 bits and little endian.
//!
//! Every number is a stranger's: each is checked before something is read by it, and what does not
//! fit is no program.

use std::ops::Range;

use bytes::Bytes;
use object::LittleEndian;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRTAB, Dyn64, FileHeader64, PT_DYNAMIC,
    PT_INTERP, PT_LOAD, ProgramHeader64,
};
use object::pod::slice_from_bytes;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

/// Entries of a dynamic section: libraries with a thousand are not known.
const MAX_DYNAMIC_BYTES: u64 = 64 << 10;

/// Libraries that one file needs.
const MAX_LIBRARIES: usize = 128;

/// Longest path of a program that a kernel takes, and of a run path.
const MAX_TEXT: usize = 4096;

/// Longest name of a library: of a file.
const MAX_NAME: usize = 256;

type Dynamic = Dyn64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;

/// Bytes of the file from an offset on, as many as there are of a length; nothing where they are
/// not here.
pub(crate) type Read<'a> = dyn FnMut(u64, usize) -> Option<Bytes> + 'a;

/// What has to be there before a program runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The dynamic loader.
    pub(crate) interpreter: Option<Vec<u8>>,
    /// Names, or paths where they have a slash.
    pub(crate) libraries: Vec<Vec<u8>>,
    /// Directories with colons between them.
    pub(crate) run_path: Vec<u8>,
}

/// Nothing where this is no program, or where something could not be read.
pub(crate) fn needs(head: &[u8], read: &mut Read<'_>) -> Option<Needs> {
    let header = FileHeader64::<LittleEndian>::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, head).ok()?;
    let mut needs = Needs::default();
    if let Some(place) = segment(segments, |segment| segment.p_type(endian) == PT_INTERP) {
        needs.interpreter = Some(text(place.start, MAX_TEXT, read)?);
    }
    let Some(place) = segment(segments, |segment| segment.p_type(endian) == PT_DYNAMIC) else {
        return Some(needs);
    };
    let length = place.end.saturating_sub(place.start);
    let length = usize::try_from(length.min(MAX_DYNAMIC_BYTES)).ok()?;
    let bytes = read(place.start, length)?;
    let entries: Vec<_> = entries(&bytes).collect();
    let value = |wanted| {
        let found = entries.iter().find(|(tag, _)| *tag == wanted);
        found.map(|(_, value)| *value)
    };
    let Some(names) = value(DT_STRTAB.0).and_then(|address| offset_of(segments, address)) else {
        return Some(needs);
    };
    let run_path = value(DT_RUNPATH.0).or_else(|| value(DT_RPATH.0));
    if let Some(at) = run_path {
        needs.run_path = text(names.checked_add(at)?, MAX_TEXT, read)?;
    }
    let libraries = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED.0);
    for (_, at) in libraries.take(MAX_LIBRARIES) {
        let name = text(names.checked_add(*at)?, MAX_NAME, read)?;
        needs.libraries.push(name);
    }
    Some(needs)
}

/// Where the first segment of a kind lies in the file.
fn segment(segments: &[Segment], is_it: impl Fn(&Segment) -> bool) -> Option<Range<u64>> {
    let found = segments.iter().find(|segment| is_it(segment))?;
    let start = found.p_offset(LittleEndian);
    Some(start..start.checked_add(found.p_filesz(LittleEndian))?)
}

/// Where in the file lies what is loaded to an address.
fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    let offset_in = |segment: &Segment| {
        let into = address.checked_sub(segment.p_vaddr(LittleEndian))?;
        let is_inside = into < segment.p_filesz(LittleEndian);
        let is_loaded = segment.p_type(LittleEndian) == PT_LOAD;
        let offset = segment.p_offset(LittleEndian).checked_add(into)?;
        (is_loaded && is_inside).then_some(offset)
    };
    segments.iter().find_map(offset_in)
}

/// Tags and values up to the end.
fn entries(bytes: &[u8]) -> impl Iterator<Item = (i64, u64)> {
    let count = bytes.len() / size_of::<Dynamic>();
    let all = slice_from_bytes::<Dynamic>(bytes, count).map_or(&[][..], |(all, _)| all);
    let pair = |entry: &Dynamic| (entry.d_tag(LittleEndian).0, entry.d_val(LittleEndian));
    all.iter()
        .map(pair)
        .take_while(|(tag, _)| *tag != DT_NULL.0)
}

/// The bytes before the next zero.
fn text(offset: u64, most: usize, read: &mut Read<'_>) -> Option<Vec<u8>> {
    let bytes = read(offset, most)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(text.to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// A reader of all of `file`, as far as it goes.
    fn whole(file: &[u8]) -> impl FnMut(u64, usize) -> Option<Bytes> {
        let file = Bytes::copy_from_slice(file);
        move |offset, length| {
            let start = usize::try_from(offset).ok()?;
            let end = start.saturating_add(length).min(file.len());
            (start < end).then(|| file.slice(start..end))
        }
    }

    fn own_program() -> Vec<u8> {
        fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn a_program_names_its_loader_and_libraries() {
        let program = own_program();
        let found = needs(&program[..4096], &mut whole(&program)).unwrap();
        let interpreter = String::from_utf8(found.interpreter.unwrap()).unwrap();
        assert!(interpreter.starts_with("/lib"), "{interpreter}");
        let is_libc = |name: &Vec<u8>| name.starts_with(b"libc.");
        assert!(found.libraries.iter().any(is_libc), "{:?}", found.libraries);
        assert!(found.run_path.is_empty());
    }

    #[test]
    fn what_is_missing_is_asked_for_once() {
        let program = own_program();
        let mut asked = Vec::new();
        let mut here = whole(&program[..4096]);
        let found = needs(&program[..4096], &mut |offset, length| {
            asked.push((offset, length));
            here(offset, length)
        });
        assert_eq!(found, None);
        let far: Vec<_> = asked.iter().filter(|(offset, _)| *offset >= 4096).collect();
        assert_eq!(far.len(), 1, "{asked:?}");
    }

    #[test]
    fn what_is_no_program_needs_nothing() {
        let program = own_program();
        let not_here = &mut |_: u64, _: usize| -> Option<Bytes> { panic!("nothing is read") };
        for head in [
            &b""[..],
            b"\x7fELF",
            b"#!/bin/sh\n",
            &program[..63],
            &[0; 4096],
        ] {
            assert_eq!(needs(head, not_here), None, "{} bytes", head.len());
        }
        let mut other = program[..4096].to_vec();
        other[4] = 1;
        assert_eq!(needs(&other, not_here), None, "32 bits");
        other[4..6].copy_from_slice(&[2, 2]);
        assert_eq!(needs(&other, not_here), None, "big endian");
    }

    proptest! {
        #[test]
        fn a_program_that_lies_is_read_within_bounds(
            changes in proptest::collection::vec((0_usize..1024, any::<u8>()), 1..40),
            length in 64_usize..4096,
        ) {
            let mut program = own_program();
            program.truncate(200_000);
            for (at, byte) in changes {
                program[at] = byte;
            }
            let mut read = whole(&program);
            let mut count = 0;
            let found = needs(&program[..length], &mut |offset, length| {
                count += 1;
                assert!(length as u64 <= MAX_DYNAMIC_BYTES);
                read(offset, length)
            });
            assert!(count <= MAX_LIBRARIES + 3);
            let libraries = found.map(|needs| needs.libraries).unwrap_or_default();
            assert!(libraries.iter().all(|name| name.len() <= MAX_NAME));
        }
    }
}
