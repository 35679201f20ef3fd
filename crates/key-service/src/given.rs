//! The credential for a service: a file of its owner's alone, or one that systemd gave.
//!
//! It is read for each question, so that whoever renews it needs no restart. What it holds is in no
//! error.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_api::Keys;
use rustix::fs::OFlags;
use vault::KeySource;
use zeroize::Zeroizing;

use crate::aws::read_keys;

/// Keys of AWS, also those of a session, are below 4 KiB.
const AWS_KEYS_MAX_BYTES: u64 = 16 * 1024;
/// What others may not do with a file. A group may read: where a service has a user of its own,
/// systemd lets it in by an access list, whose mask is shown in the place of the group's rights.
const FORBIDDEN_MODE: u32 = 0o037;

/// Where a credential is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    source: KeySource,
    /// Nothing for a credential of systemd in a process that was given none.
    path: Option<PathBuf>,
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GivenError {
    #[error("{text:?} is neither credential:NAME nor the path of a file")]
    NoSource { text: String },
    #[error("{given}: there is no $CREDENTIALS_DIRECTORY")]
    NoDirectory { given: String },
    #[error("{given} {problem}")]
    Unusable { given: String, problem: String },
    #[error("{given}: {source}")]
    Io { given: String, source: io::Error },
}

impl Given {
    /// Reads `credential:NAME` or else the path of a file. `credentials` is where the service
    /// manager said that its credentials are.
    pub fn parse(text: &Path, credentials: Option<&Path>) -> Result<Self, GivenError> {
        let source = KeySource::parse(text, credentials);
        let no_source = || GivenError::NoSource {
            text: text.display().to_string(),
        };
        let source = source.map_err(|_| no_source())?;
        let path = match &source {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Credential { directory, name } => {
                directory.as_ref().map(|directory| directory.join(name))
            }
            KeySource::Descriptor(_) => return Err(no_source()),
        };
        Ok(Self { source, path })
    }

    /// The whole text.
    pub fn read(&self, limit_bytes: u64) -> Result<Zeroizing<String>, GivenError> {
        let io = |source| GivenError::Io {
            given: self.to_string(),
            source,
        };
        let file = self.open()?;
        // As much as there may be, so that it does not grow and leave a copy behind.
        let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        let mut text = Zeroizing::new(String::with_capacity(limit + 1));
        let mut file = file.take(limit_bytes + 1);
        match file.read_to_string(&mut text) {
            Ok(read) if read <= limit => Ok(text),
            Ok(_) => Err(self.malformed("is longer than any")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.malformed("is not a text"))
            }
            Err(error) => Err(io(error)),
        }
    }

    /// The keys of AWS in it, by AWS's own names.
    pub fn read_aws_keys(&self) -> Result<Keys, GivenError> {
        let text = self.read(AWS_KEYS_MAX_BYTES)?;
        read_keys(&text).map_err(|problem| self.malformed(problem))
    }

    /// Whether it is there, and for its owner alone.
    pub fn look(&self) -> Result<(), GivenError> {
        self.open().map(drop)
    }

    fn open(&self) -> Result<File, GivenError> {
        let given = || self.to_string();
        let path = self.path.as_deref();
        let path = path.ok_or_else(|| GivenError::NoDirectory { given: given() })?;
        let io = |source| GivenError::Io {
            given: given(),
            source,
        };
        let file = open(path).map_err(io)?;
        self.check(path, &file.metadata().map_err(io)?)?;
        Ok(file)
    }

    pub(crate) fn malformed(&self, problem: &str) -> GivenError {
        GivenError::Unusable {
            given: self.to_string(),
            problem: problem.to_owned(),
        }
    }

    fn check(&self, path: &Path, metadata: &Metadata) -> Result<(), GivenError> {
        let user = rustix::process::geteuid().as_raw();
        let problem = if !metadata.is_file() {
            "is not a regular file".to_owned()
        } else if ![0, user].contains(&metadata.uid()) {
            format!("belongs to user {} and not to {user}", metadata.uid())
        } else if metadata.mode() & FORBIDDEN_MODE != 0 {
            let mode = metadata.mode() & 0o7777;
            format!(
                "is open to others (mode {mode:04o}); run `chmod 600 {}`",
                path.display()
            )
        } else {
            return Ok(());
        };
        Err(self.malformed(&problem))
    }
}

impl fmt::Display for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(formatter)
    }
}

/// Opens a file to read, without waiting for whoever would write into a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LIMIT: u64 = 16;

    fn given(text: &Path) -> Given {
        Given::parse(text, None).unwrap()
    }

    #[test]
    fn what_is_given_is_a_file_or_a_credential() {
        let directory = Path::new("/run/credentials/holdfast.service");
        let at = Some(directory);
        let parse = |text: &str, at| Given::parse(Path::new(text), at);
        let credential = parse("credential:kms", at).unwrap();
        assert_eq!(credential.path, Some(directory.join("kms")));
        assert_eq!(credential.to_string(), "credential:kms");
        // Who does not ask the service needs none.
        let nowhere = parse("credential:kms", None).unwrap();
        let error = nowhere.read(LIMIT).unwrap_err().to_string();
        assert!(error.contains("no $CREDENTIALS_DIRECTORY"), "{error}");
        for text in ["fd:3", "credential:../x"] {
            assert!(parse(text, at).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_open_to_others_or_no_file_is_refused_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        std::fs::write(&path, "canary").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let told = || {
            let error = given(&path).read(LIMIT).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
            error
        };
        for open in [0o604, 0o620, 0o644, 0o610] {
            mode(open);
            assert!(told().contains("chmod 600"), "{open:o}");
            given(&path).look().unwrap_err();
        }
        mode(0o440);
        assert_eq!(*given(&path).read(LIMIT).unwrap(), "canary");
        given(&path).look().unwrap();
        std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
        assert!(told().contains("belongs to user 1234"));
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        std::fs::write(&path, "canary canary canary").unwrap();
        assert!(told().contains("longer"));
        std::fs::write(&path, b"canary\xff").unwrap();
        assert!(told().contains("not a text"));
        std::fs::remove_file(&path).unwrap();
        assert!(told().contains("No such file"));
        let status = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(status.unwrap().success());
        assert!(told().contains("not a regular file"));
    }
}
