//! Files that somebody names, read whole and no further than a limit.
//!
//! What is read is counted, and not what a file says of its length: a pipe says that it has none,
//! and a file may grow. What was read is wiped, since it may be a secret.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::{Failure, Kind};

pub(crate) fn read(path: &Path, limit_bytes: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read_opened(File::open(path)?, limit_bytes)
}

/// What is left in an open file.
pub(crate) fn read_opened(file: impl Read, limit_bytes: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        let message = format!("longer than {limit_bytes} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

pub(crate) fn text(mut bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<String>> {
    match String::from_utf8(std::mem::take(&mut bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::new(ErrorKind::InvalidData, "not UTF-8 text"))
        }
    }
}

/// What a person is told who named the file: the content is theirs, the rest the machine's.
pub(crate) fn failure(subject: impl Display, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::FileTooLarge | ErrorKind::InvalidData => Kind::Invalid,
        _ => Kind::Machine,
    };
    Failure::new(kind, format!("{subject}: {error}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{PipeReader, Write};
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use super::*;

    /// A pipe that has so many of these, and its name: it shows no length.
    pub(crate) fn pipe_of(byte: u8, length: u64) -> (PipeReader, PathBuf) {
        let (reader, mut writer) = io::pipe().unwrap();
        let bytes = vec![byte; usize::try_from(length).unwrap()];
        std::thread::spawn(move || {
            // Whoever reads may have had enough.
            let _ = writer.write_all(&bytes);
        });
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        (reader, path)
    }

    #[test]
    fn a_limit_holds_where_no_length_is_shown() {
        let (_reader, path) = pipe_of(b'a', 10);
        assert_eq!(*read(&path, 10).unwrap(), [b'a'; 10]);
        let (_reader, path) = pipe_of(b'a', 11);
        let error = read(&path, 10).unwrap_err();
        assert_eq!(error.to_string(), "longer than 10 bytes");
        assert_eq!(failure("x", &error).kind, Kind::Invalid);
        let missing = read(Path::new("/none"), 10).unwrap_err();
        assert_eq!(failure("x", &missing).kind, Kind::Machine);
    }

    #[test]
    fn text_is_utf_8() {
        let read = |bytes: &[u8]| text(Zeroizing::new(bytes.to_vec()));
        assert_eq!(**read(b"a").unwrap(), *"a");
        assert_eq!(read(b"\xff").unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
