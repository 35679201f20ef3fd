//! A program of an image: what is read of it is bounded, and so is what is made of it.

use bytes::Bytes;
use image_fs::fuzzing::{Needs, needs};

/// What is here of a program that is longer.
const HEAD_BYTES: usize = 4096;

/// As the reader has them.
const DYNAMIC_MAX_BYTES: usize = 64 << 10;
const LIBRARIES_MAX: usize = 128;
const NAME_MAX_BYTES: usize = 256;
const TEXT_MAX_BYTES: usize = 4096;

/// Dynamic loader, dynamic section and run path, each read once.
const READS_MAX: usize = LIBRARIES_MAX + 3;

/// The program, of which all is here or only its head.
pub fn check(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let found = read_from(head, bytes);
    if let Some(needs) = &found {
        check_bounds(needs);
    }
    let by_head = read_from(head, head);
    if bytes.len() == head.len() {
        assert_eq!(found, by_head);
    }
    let nothing_here = needs(head, |_, _| None);
    let needs_nothing = |needs: &Needs| needs.libraries.is_empty() && needs.interpreter.is_none();
    assert!(nothing_here.as_ref().is_none_or(needs_nothing));
}

fn read_from(head: &[u8], file: &[u8]) -> Option<Needs> {
    let file = Bytes::copy_from_slice(file);
    let mut reads = 0;
    needs(head, |offset, length| {
        reads += 1;
        assert!(reads <= READS_MAX && length <= DYNAMIC_MAX_BYTES);
        let start = usize::try_from(offset).ok()?;
        let end = start.saturating_add(length).min(file.len());
        (start < end).then(|| file.slice(start..end))
    })
}

fn check_bounds(needs: &Needs) {
    let is_text = |text: &[u8], most| text.len() <= most && !text.contains(&0);
    assert!(needs.libraries.len() <= LIBRARIES_MAX);
    let names = &mut needs.libraries.iter();
    assert!(names.all(|name| is_text(name, NAME_MAX_BYTES)));
    let loader = &mut needs.interpreter.iter();
    assert!(loader.all(|path| is_text(path, TEXT_MAX_BYTES)));
    assert!(is_text(&needs.run_path, TEXT_MAX_BYTES));
}
