//! What a process has in its memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem;

/// Whether any of these is in what a process has mapped and can read; nothing is in one that has
/// ended.
#[track_caller]
pub fn holds(process: u32, wanted: &[String]) -> bool {
    let directory = Path::new("/proc").join(process.to_string());
    let Ok(memory) = File::open(directory.join("mem")) else {
        assert!(!directory.exists(), "root may read the memory of {process}");
        return false;
    };
    let maps = fs::read_to_string(directory.join("maps")).unwrap_or_default();
    let readable = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with('r')
            .then_some((number(start)?, number(end)?))
    });
    let mut searched = 0;
    let mut found = false;
    for (start, end) in readable {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        // What the kernel keeps for itself cannot be read.
        let Ok(length) = memory.read_at(&mut bytes, start) else {
            continue;
        };
        searched += length;
        found |= wanted
            .iter()
            .any(|wanted| memmem::find(&bytes[..length], wanted.as_bytes()).is_some());
    }
    let is_searched = searched > 1 << 20 || !directory.exists();
    assert!(
        is_searched,
        "only {searched} bytes of {process} were searched"
    );
    found
}
