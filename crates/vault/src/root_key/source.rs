//! Where a root key comes from, and what holds the key of each.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::file_holder::FileHolder;
use super::given::GivenHolder;
use super::{Answer, HoldsRootKey};
use crate::error::VaultError;
use crate::keys::{Binding, Key, KeyId, Wrapped};
use crate::place::OpeningLock;

const CREDENTIAL: &str = "credential:";
const DESCRIPTOR: &str = "fd:";
/// A file's name is not longer.
const CREDENTIAL_NAME_LIMIT: usize = 255;
/// Standard input, output and error are not for keys: other things are read from and written there.
const FIRST_DESCRIPTOR: u32 = 3;
/// The kernel's own bound on numbers of open files.
const DESCRIPTOR_LIMIT: u32 = 1 << 20;

/// Where a root key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file of ours: made for a new vault, and replaced by a rotation.
    File(PathBuf),
    /// What the service manager puts into the directory of credentials, by this name. It is read.
    Credential {
        /// Where credentials are, in a process that was given some.
        directory: Option<PathBuf>,
        name: String,
    },
    /// A file that was open when the program was started. It is read.
    Descriptor(u32),
}

/// What names no source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("root key {text:?} is not the name of a credential")]
    CredentialName { text: String },
    #[error("root key {text:?} is not the number of an open file from 3 on")]
    DescriptorNumber { text: String },
}

impl KeySource {
    /// Reads `credential:NAME`, `fd:NUMBER`, or else the path of a file. `credentials` is where the
    /// service manager said that its credentials are.
    pub fn parse(text: &Path, credentials: Option<&Path>) -> Result<Self, SourceError> {
        // A path that is no text has none of these in front.
        let words = text.to_str().unwrap_or_default();
        if let Some(name) = words.strip_prefix(CREDENTIAL) {
            return if is_file_name(name) {
                Ok(Self::Credential {
                    directory: credentials.map(Path::to_owned),
                    name: name.to_owned(),
                })
            } else {
                let text = words.to_owned();
                Err(SourceError::CredentialName { text })
            };
        }
        if let Some(number) = words.strip_prefix(DESCRIPTOR) {
            let number = number.parse().ok().filter(|number| {
                (FIRST_DESCRIPTOR..DESCRIPTOR_LIMIT).contains(number)
                    && words == format!("{DESCRIPTOR}{number}")
            });
            return number
                .map(Self::Descriptor)
                .ok_or_else(|| SourceError::DescriptorNumber {
                    text: words.to_owned(),
                });
        }
        Ok(Self::File(text.to_owned()))
    }

    /// As it is typed, also where that is no text.
    pub fn typed(&self) -> OsString {
        match self {
            Self::File(path) => path.clone().into_os_string(),
            other => other.to_string().into(),
        }
    }

    /// The file to read, as far as it has a name.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Credential { directory, name } => {
                let nowhere = Path::new("/run/credentials");
                directory.as_deref().unwrap_or(nowhere).join(name)
            }
            Self::Descriptor(number) => PathBuf::from(format!("/proc/self/fd/{number}")),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Credential { name, .. } => write!(formatter, "{CREDENTIAL}{name}"),
            Self::Descriptor(number) => write!(formatter, "{DESCRIPTOR}{number}"),
        }
    }
}

fn is_file_name(name: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_graphic() && character != '/';
    !name.is_empty()
        && name.len() <= CREDENTIAL_NAME_LIMIT
        && name.chars().all(is_plain)
        && name != "."
        && name != ".."
}

/// What holds the key of a source in the process that reads it.
#[derive(Debug)]
pub(crate) enum Holder {
    Ours(FileHolder),
    Given(GivenHolder),
}

impl Holder {
    /// Of a source that this process opens itself.
    pub(crate) fn new(source: &KeySource) -> Self {
        match source {
            KeySource::File(path) => Self::Ours(FileHolder::new(path)),
            KeySource::Credential { .. } | KeySource::Descriptor(_) => {
                Self::Given(GivenHolder::named(source))
            }
        }
    }

    /// For another process, which sends what only it has open.
    pub(crate) fn for_another(source: &KeySource, sent: Option<OwnedFd>) -> Self {
        match source {
            KeySource::Descriptor(_) => Self::Given(GivenHolder::sent(source, sent)),
            _ => Self::new(source),
        }
    }

    pub(crate) fn first(&self, data: &Path) -> Result<KeyId, VaultError> {
        match self {
            Self::Ours(holder) => holder.first(data),
            Self::Given(holder) => holder.first(),
        }
    }

    pub(crate) fn require(&self, root: KeyId) -> Result<(), VaultError> {
        self.key(root).map(drop)
    }

    pub(crate) fn settle(&self, root: KeyId) -> Result<(), VaultError> {
        match self {
            Self::Ours(holder) => holder.settle(root),
            Self::Given(holder) => holder.key(root).map(drop),
        }
    }

    pub(crate) fn begin_rotation(
        &self,
        current: KeyId,
        keep_old: Option<&Path>,
    ) -> Result<KeyId, VaultError> {
        match self {
            Self::Ours(holder) => holder.begin_rotation(current, keep_old),
            Self::Given(holder) => Err(holder.not_ours()),
        }
    }

    pub(crate) fn wrap(
        &self,
        root: KeyId,
        binding: Binding<'_>,
        inner: &Key,
    ) -> Result<Vec<u8>, VaultError> {
        Ok(self.key(root)?.wrap(binding, inner))
    }

    pub(crate) fn unwrap(
        &self,
        root: KeyId,
        binding: Binding<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Option<Key>, VaultError> {
        Ok(self.key(root)?.unwrap_key(binding, wrapped).ok())
    }

    fn key(&self, id: KeyId) -> Result<Key, VaultError> {
        match self {
            Self::Ours(holder) => holder.key(id),
            Self::Given(holder) => holder.key(id),
        }
    }
}

/// A file answers at once.
fn at_once<T: Send + 'static>(answer: Result<T, VaultError>) -> Answer<'static, T> {
    Box::pin(std::future::ready(answer))
}

impl HoldsRootKey for Holder {
    fn first<'a>(&'a self, data: &'a Path, _lock: &'a OpeningLock) -> Answer<'a, KeyId> {
        at_once(self.first(data))
    }

    fn require(&self, root: KeyId) -> Answer<'_, ()> {
        at_once(self.require(root))
    }

    fn settle<'a>(&'a self, root: KeyId, _lock: &'a OpeningLock) -> Answer<'a, ()> {
        at_once(self.settle(root))
    }

    fn begin_rotation<'a>(
        &'a self,
        current: KeyId,
        keep_old: Option<&'a Path>,
        _lock: &'a OpeningLock,
    ) -> Answer<'a, KeyId> {
        at_once(self.begin_rotation(current, keep_old))
    }

    fn wrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        inner: &'a Key,
    ) -> Answer<'a, Vec<u8>> {
        at_once(self.wrap(root, binding, inner))
    }

    fn unwrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        wrapped: Wrapped<'a>,
    ) -> Answer<'a, Option<Key>> {
        at_once(self.unwrap(root, binding, wrapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_shown_as_they_are_typed() {
        let at = Path::new("/run/credentials/holdfast.service");
        let long = format!("credential:{}", "a".repeat(256));
        for (text, expected) in [
            ("/etc/root.key", Some("/etc/root.key")),
            ("credential", Some("credential")),
            (
                "credential:root.key",
                Some("/run/credentials/holdfast.service/root.key"),
            ),
            ("fd:3", Some("/proc/self/fd/3")),
            ("credential:", None),
            ("credential:a/b", None),
            ("credential:..", None),
            ("credential:a b", None),
            (&long, None),
            ("fd:", None),
            ("fd:0", None),
            ("fd:2", None),
            ("fd:03", None),
            ("fd:+3", None),
            ("fd:1048576", None),
            ("fd:x", None),
        ] {
            let parsed = KeySource::parse(Path::new(text), Some(at)).ok();
            let path = parsed.as_ref().map(KeySource::path);
            assert_eq!(path.as_deref(), expected.map(Path::new), "{text}");
            if let Some(source) = parsed {
                assert_eq!(source.to_string(), text);
            }
        }
    }
}
