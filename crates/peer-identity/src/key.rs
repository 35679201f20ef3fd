//! Key pairs, the files that they are kept in, and what a public key is known by.
//!
//! The file has 64 hexadecimal digits and a newline: the seed of an Ed25519 key. It appears whole
//! or not at all, and of two that make it at once, both have the same.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use frames::hex;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const SEED_BYTES: usize = 32;
/// The digits, and a newline.
const FILE_BYTES: usize = 2 * SEED_BYTES + 1;
/// What stands before the seed of an Ed25519 key in PKCS#8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Bits of a mode by which others than the owner reach a file.
const OTHERS: u32 = 0o077;

/// What tells one public key from all others: the SHA-256 of its `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(public_key: &[u8]) -> Self {
        Self(Sha256::digest(public_key).into())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        if hex::decode_into(text, &mut bytes) {
            Ok(Self(bytes))
        } else {
            Err(IdentityError::Fingerprint)
        }
    }
}

/// Why there is no key pair, or no fingerprint.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
    /// Somebody else could have read or written it.
    #[error("{path} can be reached by others than its owner: chmod 600, or remove it")]
    Open { path: PathBuf },
    #[error("{path} holds no key: remove it, and another is made")]
    NoKey { path: PathBuf },
    #[error("this is not the fingerprint of a key")]
    Fingerprint,
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// A private key and its public one. Clones share it.
#[derive(Clone)]
pub struct KeyPair {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyPair")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl KeyPair {
    /// The key pair of this file, made where there is none. Blocks.
    pub fn open_or_make(path: &Path) -> Result<Self, IdentityError> {
        if let Some(seed) = read(path)? {
            return Ok(Self::of_seed(&seed));
        }
        let seed = random_seed()?;
        write_new(path, &seed).map_err(|source| io_error(path, source))?;
        // Another process may have been first.
        let seed = read(path)?;
        let seed = seed.ok_or_else(|| io_error(path, io::ErrorKind::NotFound.into()))?;
        Ok(Self::of_seed(&seed))
    }

    /// A key pair that is kept nowhere.
    pub fn make() -> Result<Self, IdentityError> {
        Ok(Self::of_seed(&*random_seed()?))
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    fn of_seed(seed: &[u8; SEED_BYTES]) -> Self {
        let mut pkcs8 = Zeroizing::new([0; PKCS8_PREFIX.len() + SEED_BYTES]);
        pkcs8[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
        pkcs8[PKCS8_PREFIX.len()..].copy_from_slice(seed);
        let signing = any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..]));
        let signing = signing.expect("any 32 bytes are the seed of an Ed25519 key");
        let public = signing.public_key().expect("a key pair has a public key");
        let public = CertificateDer::from(public.as_ref().to_vec());
        Self {
            fingerprint: Fingerprint::of(&public),
            certified: Arc::new(CertifiedKey::new(vec![public], signing)),
        }
    }
}

type Seed = Zeroizing<[u8; SEED_BYTES]>;

fn random_seed() -> Result<Seed, IdentityError> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    getrandom::fill(&mut *seed).map_err(IdentityError::Random)?;
    Ok(seed)
}

fn read(path: &Path) -> Result<Option<Seed>, IdentityError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, error)),
        // A pipe would make its reader wait, and a link lead elsewhere.
        Ok(found) if !found.is_file() => return Err(no_key(path)),
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    if metadata.mode() & OTHERS != 0 {
        let path = path.to_owned();
        return Err(IdentityError::Open { path });
    }
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES + 1));
    let mut bounded = file.take(FILE_BYTES as u64 + 1);
    match bounded.read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(no_key(path)),
        Err(error) => return Err(io_error(path, error)),
        Ok(_) => {}
    }
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    let digits = text.strip_suffix('\n').unwrap_or(&text);
    if hex::decode_into(digits, &mut *seed) {
        Ok(Some(seed))
    } else {
        Err(no_key(path))
    }
}

/// Writes the file beside its place and links it there, unless something is there by then.
fn write_new(path: &Path, seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    // One of a process that was killed, and had our number.
    remove_if_there(&draft)?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let linked = write_synced(&mut file, seed).and_then(|()| fs::hard_link(&draft, path));
    remove_if_there(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all(),
    }
}

fn write_synced(file: &mut File, seed: &[u8]) -> io::Result<()> {
    file.write_all(hex::encode(seed).as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, source: io::Error) -> IdentityError {
    let path = path.to_owned();
    IdentityError::Io { path, source }
}

fn no_key(path: &Path) -> IdentityError {
    let path = path.to_owned();
    IdentityError::NoKey { path }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let make = || KeyPair::open_or_make(&path).unwrap().fingerprint();
            let threads = [scope.spawn(make)];
            threads.map(|thread| thread.join().unwrap()).to_vec()
        });
        let again = KeyPair::open_or_make(&path).unwrap();
        assert!(keys.iter().all(|key| *key == again.fingerprint()));
        assert_ne!(KeyPair::make().unwrap().fingerprint(), again.fingerprint());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "no draft is left");
        let shown = format!("{again:?}");
        let seed = fs::read_to_string(&path).unwrap();
        assert!(!shown.contains(seed.trim()), "{shown}");
    }

    #[test]
    fn what_is_no_key_or_open_to_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.key");
        let seed = "0".repeat(64);
        for text in ["", &seed[1..], &format!("{seed}00"), &"g".repeat(64), "\n"] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let refused = KeyPair::open_or_make(&path);
            assert!(
                matches!(refused, Err(IdentityError::NoKey { .. })),
                "{text:?}"
            );
        }
        fs::write(&path, &seed).unwrap();
        assert!(KeyPair::open_or_make(&path).is_ok());
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let refused = KeyPair::open_or_make(&path);
        assert!(matches!(refused, Err(IdentityError::Open { .. })));
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        let refused = KeyPair::open_or_make(&link);
        assert!(matches!(refused, Err(IdentityError::NoKey { .. })));
    }

    #[test]
    fn fingerprints_are_read_as_they_are_shown() {
        let fingerprint = KeyPair::make().unwrap().fingerprint();
        let shown = fingerprint.to_string();
        assert_eq!(shown.parse::<Fingerprint>().unwrap(), fingerprint);
        for other in ["", &shown[1..], &shown.to_uppercase(), &format!("{shown}0")] {
            let is_digits = *other == shown;
            assert_eq!(other.parse::<Fingerprint>().is_ok(), is_digits, "{other}");
        }
    }
}
