//! A door to the reader of programs, for the repository's fuzz targets alone: no part of the
//! interface.

use bytes::Bytes;

use crate::startup::elf;

/// What a program needs before it runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Needs {
    pub interpreter: Option<Vec<u8>>,
    pub libraries: Vec<Vec<u8>>,
    pub run_path: Vec<u8>,
}

/// Reads a program by its first bytes and by what `read` gives from an offset on, of a length at
/// most.
pub fn needs(head: &[u8], mut read: impl FnMut(u64, usize) -> Option<Bytes>) -> Option<Needs> {
    let found = elf::needs(head, &mut read)?;
    Some(Needs {
        interpreter: found.interpreter,
        libraries: found.libraries,
        run_path: found.run_path,
    })
}
