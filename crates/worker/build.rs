//! Makes `runner.pyz` of the runner's sources: a stored zip archive, the same bytes every time.
//!
//! Written by hand, since an archive of stored files is three plain records and a check sum. It
//! holds what `runner/build.py` puts into one.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const SOURCES: &str = "../../runner/src";

/// What Python leaves behind.
const COMPILED: &str = "__pycache__";

/// 1980-01-01, the earliest that an archive can say.
const DATE: u16 = 0x21;

/// Made on a system whose modes are those of Unix, by version 2.0 of the format.
const MADE_BY: u16 = 0x0314;

const VERSION_NEEDED: u16 = 20;

/// A plain file that everybody may read.
const MODE: u32 = 0o100_644 << 16;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={SOURCES}");
    let sources = Path::new(SOURCES);
    let mut paths = Vec::new();
    collect(sources, &mut paths)?;
    let mut files = Vec::new();
    for path in paths {
        let name = path.strip_prefix(sources)?;
        let name = name.to_str().ok_or("a name that is no UTF-8")?.to_owned();
        files.push((name, fs::read(path)?));
    }
    files.sort();
    let target = PathBuf::from(env::var("OUT_DIR")?).join("runner.pyz");
    fs::write(target, archive(&files)?)?;
    Ok(())
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            paths.push(entry.path());
        } else if entry.file_name() != COMPILED {
            collect(&entry.path(), paths)?;
        }
    }
    Ok(())
}

/// Each file with its header, then the list of all, then where the list is.
fn archive(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, Box<dyn Error>> {
    let (mut archive, mut list) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let offset = u32::try_from(archive.len())?;
        let described = description(name, content)?;
        archive.extend(b"PK\x03\x04");
        archive.extend(&described);
        archive.extend(name.as_bytes());
        archive.extend(content);
        list.extend(b"PK\x01\x02");
        list.extend(MADE_BY.to_le_bytes());
        list.extend(&described);
        // No comment, disk 0, no internal attributes.
        list.extend([0; 6]);
        list.extend(MODE.to_le_bytes());
        list.extend(offset.to_le_bytes());
        list.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len())?.to_le_bytes();
    let offset = u32::try_from(archive.len())?.to_le_bytes();
    let length = u32::try_from(list.len())?.to_le_bytes();
    archive.extend(list);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([count, count].concat());
    archive.extend([length, offset].concat());
    archive.extend([0; 2]);
    Ok(archive)
}

/// What both records say of a file: stored, with a fixed time, without extra fields.
fn description(name: &str, content: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let length = u32::try_from(content.len())?.to_le_bytes();
    let mut described = Vec::new();
    described.extend(VERSION_NEEDED.to_le_bytes());
    // No flags, stored, midnight.
    described.extend([0; 6]);
    described.extend(DATE.to_le_bytes());
    described.extend(checksum(content).to_le_bytes());
    described.extend([length, length].concat());
    described.extend(u16::try_from(name.len())?.to_le_bytes());
    described.extend([0; 2]);
    Ok(described)
}

/// CRC-32 as archives have it.
fn checksum(content: &[u8]) -> u32 {
    let step = |sum: u32| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
    let byte = |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum));
    !content.iter().fold(u32::MAX, byte)
}
