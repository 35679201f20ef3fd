//! Whether the image has the program that is asked for, and can start it.
//!
//! The runtime finds out too, but tells a missing interpreter or a file that is no program only
//! after it has handed over, as an exit code that any program could give. What is hidden by a
//! mount, and whether the user may execute, is left to the runtime.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::inside::{Root, shown};
use crate::process::{DEFAULT_PATH, Process, variable};
use crate::rootfs::is_hidden;
use crate::volume::Volume;

/// Where a program names its interpreter or loader, in every format that Linux runs.
const HEAD_BYTES: u64 = 4096;

/// More directories than any `PATH` has. An image could name a million, each a look at a disk or a
/// registry; then the runtime looks, inside the container and at its cost.
const MAX_PLACES: usize = 256;

/// Why a program cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutableError {
    /// Nowhere on the image's `PATH`, or not at the given path.
    #[error("`{0}` is not in the image")]
    NotFound(String),
    /// Starts with the name of a program that the image lacks.
    #[error("`{program}` needs `{interpreter}`, which is not in the image")]
    NoInterpreter {
        /// What was asked for.
        program: String,
        /// What it needs.
        interpreter: String,
    },
    /// A directory, or a file without the execute bit.
    #[error("`{0}` cannot be executed: permission denied")]
    Denied(String),
    /// Links that lead nowhere.
    #[error("`{0}` cannot be executed: too many symbolic links")]
    Links(String),
    /// Not a program.
    #[error("`{0}` cannot be executed: not a program of this machine")]
    Format(String),
}

impl ExecutableError {
    /// What a shell exits with in this case.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) | Self::NoInterpreter { .. } => 127,
            Self::Denied(_) | Self::Links(_) | Self::Format(_) => 126,
        }
    }
}

/// Refuses what certainly cannot start.
pub(crate) fn check(
    root: &Root,
    process: &Process,
    volumes: &[Volume],
) -> Result<(), ExecutableError> {
    let name = &process.args[0];
    let mut denied = false;
    let candidates = candidates(process);
    if candidates.len() > MAX_PLACES {
        return Ok(());
    }
    for path in candidates {
        if is_hidden(&path, volumes) {
            return Ok(());
        }
        let found = match root.peek(&path, HEAD_BYTES) {
            Ok(found) => found,
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                return Err(ExecutableError::Links(shown(&path)));
            }
            // What cannot be looked at is for the runtime to complain about.
            Err(_) => return Ok(()),
        };
        let Some((head, stat)) = found else {
            continue;
        };
        if !is_program(&stat) {
            denied = true;
            continue;
        }
        return check_head(root, &path, &head, volumes);
    }
    if denied && name.contains('/') {
        return Err(ExecutableError::Denied(escaped(name)));
    }
    Err(ExecutableError::NotFound(escaped(name)))
}

/// Where the program may be, in the order of looking.
fn candidates(process: &Process) -> Vec<PathBuf> {
    let (name, cwd) = (&process.args[0], Path::new(&process.cwd));
    if name.contains('/') {
        return vec![cwd.join(name)];
    }
    let path = variable(&process.env, "PATH").unwrap_or(DEFAULT_PATH);
    path.split(':')
        .take(MAX_PLACES + 1)
        .map(|place| cwd.join(place).join(name))
        .collect()
}

fn check_head(
    root: &Root,
    path: &Path,
    head: &[u8],
    volumes: &[Volume],
) -> Result<(), ExecutableError> {
    let interpreter = match parse_head(head) {
        Head::Needs(interpreter) => interpreter,
        Head::Complete => return Ok(()),
        Head::Unknown if others_are_run(Path::new("/proc/sys/fs/binfmt_misc")) => return Ok(()),
        Head::Unknown => return Err(ExecutableError::Format(shown(path))),
    };
    let needed = Path::new(&interpreter);
    let hidden = !needed.is_absolute() || is_hidden(needed, volumes);
    if hidden {
        return Ok(());
    }
    match root.peek(needed, 0) {
        Ok(None) => Err(ExecutableError::NoInterpreter {
            program: shown(path),
            interpreter: shown(needed),
        }),
        Ok(Some((_, stat))) if !is_program(&stat) => Err(ExecutableError::Denied(shown(path))),
        _ => Ok(()),
    }
}

/// Whether somebody may execute it.
fn is_program(stat: &Stat) -> bool {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file && stat.st_mode & 0o111 != 0
}

#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// Runs by itself.
    Complete,
    /// Runs with another program.
    Needs(String),
    /// Neither a script nor an ELF file.
    Unknown,
}

fn parse_head(head: &[u8]) -> Head {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return match line.split_whitespace().next() {
            Some(interpreter) => Head::Needs(interpreter.to_owned()),
            None => Head::Unknown,
        };
    }
    if head.starts_with(b"\x7fELF") {
        return elf_loader(head).map_or(Head::Complete, Head::Needs);
    }
    Head::Unknown
}

/// The loader that a 64-bit little-endian ELF file names, if it is near the start.
fn elf_loader(head: &[u8]) -> Option<String> {
    const INTERPRETER: u64 = 3;
    let field = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    };
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let table = usize::try_from(field(32, 8)?).ok()?;
    let entry_size = usize::try_from(field(54, 2)?).ok()?;
    for index in 0..usize::try_from(field(56, 2)?).ok()? {
        let entry = table.checked_add(index.checked_mul(entry_size)?)?;
        if field(entry, 4)? == INTERPRETER {
            let start = usize::try_from(field(entry.checked_add(8)?, 8)?).ok()?;
            let length = usize::try_from(field(entry.checked_add(32)?, 8)?).ok()?;
            let name = head.get(start..start.checked_add(length)?)?;
            let name = name.split(|byte| *byte == 0).next()?;
            return String::from_utf8(name.to_vec()).ok();
        }
    }
    None
}

/// Whether the machine runs formats that we do not know.
fn others_are_run(directory: &Path) -> bool {
    let names = |entry: io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name());
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries
        .flat_map(names)
        .any(|name| name != "register" && name != "status")
}

fn escaped(text: &str) -> String {
    shown(Path::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let needs = |name: &str| Head::Needs(name.to_owned());
        let table: &[(&[u8], Head)] = &[
            (b"#!/bin/sh -e\necho", needs("/bin/sh")),
            (b"#! /usr/bin/env python3", needs("/usr/bin/env")),
            (b"#!\n", Head::Unknown),
            (b"#!", Head::Unknown),
            (b"echo hi\n", Head::Unknown),
            (b"", Head::Unknown),
            (b"\x7fELF", Head::Complete),
            (b"\x7fELF\x02\x01", Head::Complete),
        ];
        for (head, expected) in table {
            assert_eq!(parse_head(head), *expected, "{head:?}");
        }
    }

    /// An ELF header with one entry in its table, at an offset, naming a loader.
    fn elf(table: u64, start: u64, length: u64, count: u16) -> Vec<u8> {
        let mut file = vec![0; 256];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&table.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&count.to_le_bytes());
        file[64] = 3;
        file[72..80].copy_from_slice(&start.to_le_bytes());
        file[96..104].copy_from_slice(&length.to_le_bytes());
        file[200..211].copy_from_slice(b"/lib/ld.so\0");
        file
    }

    #[test]
    fn loaders() {
        let table = [
            (elf(64, 200, 11, 1), Some("/lib/ld.so")),
            (elf(64, 200, 11, 0), None),
            (elf(64, u64::MAX, 11, 1), None),
            (elf(64, 200, u64::MAX, 1), None),
            (elf(u64::MAX, 200, 11, 1), None),
            (elf(250, 200, 11, u16::MAX), None),
        ];
        for (file, expected) in table {
            assert_eq!(elf_loader(&file).as_deref(), expected);
        }
    }
}
