//! What every holder of a root key does, and each of them held against it.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ids::WorkspaceId;

use super::service::ServiceHolder;
use super::{Holder as HereHolder, HoldsRootKey, KeyServiceError, KeySource, RootKey};
use crate as vault_api;
use crate::error::VaultError;
use crate::keeper::Keeper;
use crate::keeper::tests::own_program;
use crate::keys::{Binding, Key, KeyId, KeyPurpose, Wrapped};
use crate::place::OpeningLock;

#[path = "../../tests/it/fake_service.rs"]
mod fake_service;
use fake_service::{Fake, Fault};

const VAULT: &[u8] = &[7; 16];
/// No process of tests has as many files open.
const NO_DESCRIPTOR: u32 = 1_000_000;

type Holder = Arc<dyn HoldsRootKey>;
type Open = fn(&Path) -> Holder;

/// Those of a file of ours, which they make and replace.
const HOLDERS: [(&str, Open); 2] = [
    ("file", |file| here(&KeySource::File(file.to_owned()))),
    ("keeper", |file| kept(&KeySource::File(file.to_owned()))),
];
/// Those of what was given, which they read.
const GIVEN: [(&str, Open); 4] = [
    ("credential", |file| here(&credential(file))),
    ("keeper of a credential", |file| kept(&credential(file))),
    ("descriptor", |file| here(&descriptor(file))),
    ("keeper of a descriptor", |file| kept(&descriptor(file))),
];
/// Those of what a service keeps, which they ask.
const SERVICES: [(&str, Open); 1] = [("service", |name| {
    asked(&Fake::named(&name.to_string_lossy()))
})];

fn asked(service: &Fake) -> Holder {
    Arc::new(ServiceHolder::new(Arc::new(service.clone())))
}

fn here(source: &KeySource) -> Holder {
    Arc::new(HereHolder::new(source))
}

fn kept(source: &KeySource) -> Holder {
    Arc::new(Keeper::new(own_program(), source))
}

fn credential(file: &Path) -> KeySource {
    KeySource::Credential {
        directory: file.parent().map(Path::to_owned),
        name: file.file_name().unwrap().to_str().unwrap().to_owned(),
    }
}

/// The number of the file, open as if it had been inherited; of none, where there is no file.
fn descriptor(file: &Path) -> KeySource {
    let number = match super::open(file) {
        Ok(open) => {
            let number = open.as_raw_fd();
            // Open until this process ends, as one is that was inherited.
            std::mem::forget(open);
            u32::try_from(number).unwrap()
        }
        Err(_) => NO_DESCRIPTOR,
    };
    KeySource::Descriptor(number)
}

/// A directory of its own for a key, and as many holders of it as are asked for.
struct Place {
    directory: tempfile::TempDir,
    open: Open,
}

impl Place {
    fn each() -> impl Iterator<Item = (&'static str, Self)> {
        HOLDERS.into_iter().map(Self::of)
    }

    fn of((name, open): (&'static str, Open)) -> (&'static str, Self) {
        let directory = tempfile::tempdir().unwrap();
        (name, Self { directory, open })
    }

    /// Of every source, with the key in the file.
    async fn each_with_key() -> Vec<(&'static str, Self, KeyId)> {
        let mut places = Vec::new();
        for (name, place) in Self::each().chain(GIVEN.into_iter().map(Self::of)) {
            let root = place.make(&place.lock().await).await;
            places.push((name, place, root));
        }
        for (name, place) in SERVICES.into_iter().map(Self::of) {
            let first = place.holder();
            let first = first.first(&place.data(), &place.lock().await).await;
            places.push((name, place, first.unwrap()));
        }
        places
    }

    /// Makes the key's file, whatever reads it later.
    async fn make(&self, lock: &OpeningLock) -> KeyId {
        let ours = here(&KeySource::File(self.file()));
        ours.first(&self.data(), lock).await.unwrap()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("etc/root.key")
    }

    fn next(&self) -> PathBuf {
        self.directory.path().join("etc/root.key.next")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn holder(&self) -> Holder {
        (self.open)(&self.file())
    }

    async fn lock(&self) -> OpeningLock {
        OpeningLock::take(&self.data(), None).await.unwrap()
    }
}

fn binding(purpose: KeyPurpose) -> Binding<'static> {
    Binding {
        vault_id: VAULT,
        purpose,
    }
}

async fn opens(holder: &Holder, root: KeyId, inner: &Key, bytes: &[u8]) -> bool {
    let key_id = inner.id();
    let wrapped = Wrapped { key_id, bytes };
    let opened = holder.unwrap(root, binding(KeyPurpose::Audit), wrapped);
    let opened = opened.await.unwrap();
    opened.is_some_and(|key| key.bytes() == inner.bytes())
}

#[tokio::test]
async fn the_first_key_is_made_once() {
    for (name, place) in Place::each() {
        let lock = place.lock().await;
        let holder = place.holder();
        holder.prepare();
        let first = holder.first(&place.data(), &lock).await.unwrap();
        assert_eq!(
            holder.first(&place.data(), &lock).await.unwrap(),
            first,
            "{name}"
        );
        let other = place.holder();
        assert_eq!(
            other.first(&place.data(), &lock).await.unwrap(),
            first,
            "{name}"
        );
        holder.require(first).await.unwrap();
        let mode = std::fs::metadata(place.file()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn wrapped_keys_open_only_as_what_they_are() {
    for (name, place, root) in Place::each_with_key().await {
        let lock = place.lock().await;
        let holder = place.holder();
        let first = holder.first(&place.data(), &lock).await.unwrap();
        assert_eq!(first, root, "{name}");
        holder.settle(root, &lock).await.unwrap();
        let (inner, other) = (Key::random(), Key::random());
        let audit = binding(KeyPurpose::Audit);
        let bytes = holder.wrap(root, audit, &inner).await.unwrap();
        assert!(opens(&holder, root, &inner, &bytes).await, "{name}");
        let elsewhere = place.holder();
        assert!(opens(&elsewhere, root, &inner, &bytes).await, "{name}");

        let workspace = binding(KeyPurpose::Workspace(WorkspaceId::new()));
        let another = |vault_id| Binding { vault_id, ..audit };
        let mut flipped = bytes.clone();
        flipped[20] ^= 1;
        for (what, binding, inner, bytes) in [
            ("purpose", workspace, &inner, bytes.as_slice()),
            ("vault", another(&[8; 16]), &inner, &bytes),
            ("short vault id", another(&[7; 15]), &inner, &bytes),
            ("huge vault id", another(&[7; 1 << 20]), &inner, &bytes),
            ("key id", audit, &other, &bytes),
            ("bit", audit, &inner, &flipped),
            ("cut", audit, &inner, &bytes[..60]),
            ("empty", audit, &inner, &[]),
            ("huge", audit, &inner, &[1; 1 << 20]),
        ] {
            let key_id = inner.id();
            let opened = holder.unwrap(root, binding, Wrapped { key_id, bytes });
            assert!(opened.await.unwrap().is_none(), "{name}: {what}");
        }
    }
}

#[tokio::test]
async fn a_rotation_has_two_keys_until_it_is_settled() {
    for (name, place) in Place::each() {
        let lock = place.lock().await;
        let holder = place.holder();
        let old = holder.first(&place.data(), &lock).await.unwrap();
        let inner = Key::random();
        let audit = binding(KeyPurpose::Audit);
        let under_old = holder.wrap(old, audit, &inner).await.unwrap();

        let abandoned = holder.begin_rotation(old, None, &lock).await.unwrap();
        assert_ne!(abandoned, old, "{name}");
        assert!(opens(&holder, old, &inner, &under_old).await, "{name}");
        let killed = place.holder();
        killed.settle(old, &lock).await.unwrap();
        assert!(!place.next().exists(), "{name}");

        let kept = place.directory.path().join("kept.key");
        let new = killed
            .begin_rotation(old, Some(&kept), &lock)
            .await
            .unwrap();
        let under_new = killed.wrap(new, audit, &inner).await.unwrap();
        let bystander = place.holder();
        assert!(opens(&bystander, new, &inner, &under_new).await, "{name}");
        assert!(opens(&bystander, old, &inner, &under_old).await, "{name}");
        killed.settle(new, &lock).await.unwrap();
        assert!(opens(&killed, new, &inner, &under_new).await, "{name}");
        assert!(!opens(&killed, new, &inner, &under_old).await, "{name}");
        let error = killed.require(old).await.unwrap_err();
        assert!(matches!(error, VaultError::RootKeyWrong { .. }), "{error}");
        let kept = (place.open)(&kept);
        assert!(opens(&kept, old, &inner, &under_old).await, "{name}");
    }
}

/// What was given is read again as often as it is asked for, and nothing is ever written.
#[tokio::test]
async fn what_was_given_is_never_made_or_replaced() {
    for given in GIVEN {
        let (name, place) = Place::of(given);
        let lock = place.lock().await;
        let error = place.holder().first(&place.data(), &lock).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeyNotGiven { .. }),
            "{name}: {error}"
        );
        assert!(error.hint().is_some() && !place.file().exists(), "{name}");
        let wanted = KeyId([9; 16]);
        let error = place.holder().require(wanted).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeyMissing { .. }),
            "{name}: {error}"
        );

        let root = place.make(&lock).await;
        let text = std::fs::read(place.file()).unwrap();
        let holder = place.holder();
        let error = holder.begin_rotation(root, None, &lock).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeyNotOurs { .. }),
            "{name}: {error}"
        );
        assert!(error.hint().unwrap().contains("rotate-key --to"), "{name}");
        for refused in [
            holder.require(wanted).await,
            holder.settle(wanted, &lock).await,
        ] {
            let error = refused.unwrap_err();
            assert!(
                matches!(error, VaultError::RootKeyWrong { .. }),
                "{name}: {error}"
            );
        }
        holder.settle(root, &lock).await.unwrap();
        assert_eq!(std::fs::read(place.file()).unwrap(), text, "{name}");
        assert!(!place.next().exists(), "{name}");
    }
}

#[tokio::test]
async fn what_was_given_and_is_open_to_others_or_no_key_is_refused() {
    for given in GIVEN {
        let (name, place) = Place::of(given);
        let root = place.make(&place.lock().await).await;
        let file = place.file();
        let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let told = async || place.holder().require(root).await.unwrap_err();
        for other in [0o604, 0o620, 0o610, 0o644] {
            mode(other);
            let error = told().await;
            assert!(
                matches!(error, VaultError::RootKeyUnsafe { .. }),
                "{name} {other:o}: {error}"
            );
        }
        // As systemd lets the user of a service in.
        mode(0o440);
        place.holder().require(root).await.unwrap();
        std::fs::write(&file, "not a key").unwrap();
        let error = told().await;
        assert!(
            matches!(error, VaultError::RootKeyMalformed { .. }),
            "{name}: {error}"
        );
        std::fs::remove_file(&file).unwrap();
        let status = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(status.unwrap().success());
        let error = told().await;
        assert!(
            error.to_string().contains("not a regular file"),
            "{name}: {error}"
        );
    }
}

/// What we do not write is followed by another source.
#[tokio::test]
async fn a_rotation_goes_from_what_was_given_to_what_follows_it() {
    for given in GIVEN {
        let (name, place) = Place::of(given);
        let lock = place.lock().await;
        let old = place.make(&lock).await;
        let new_file = place.directory.path().join("etc/new.key");
        let key = |holder| RootKey { holder };
        let new = key(kept(&KeySource::File(new_file.clone())));
        let both = key(place.holder()).followed_by(new.clone()).holder;
        both.prepare();
        assert_eq!(
            both.first(&place.data(), &lock).await.unwrap(),
            old,
            "{name}"
        );
        assert!(!new_file.exists(), "{name}: made by the rotation alone");
        let next = both.begin_rotation(old, None, &lock).await.unwrap();
        assert_ne!(next, old, "{name}");
        let again = both.begin_rotation(old, None, &lock).await.unwrap();
        assert_eq!(again, next, "{name}: one that was given up goes on");
        let inner = Key::random();
        for root in [old, next] {
            let audit = binding(KeyPurpose::Audit);
            let bytes = both.wrap(root, audit, &inner).await.unwrap();
            assert!(opens(&both, root, &inner, &bytes).await, "{name}");
            both.settle(root, &lock).await.unwrap();
        }
        let error = both.begin_rotation(next, None, &lock).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeySame { .. }),
            "{name}: {error}"
        );
        let error = both.require(KeyId([9; 16])).await.unwrap_err();
        assert!(
            error.to_string().contains(&old.to_string()),
            "{name}: {error}"
        );
        std::fs::remove_file(place.file()).unwrap();
        new.holder.require(next).await.unwrap();
    }
}

/// The words and hints that a person sees are the same, whichever process read the file.
#[tokio::test]
async fn every_error_has_the_same_words() {
    let mut told = Vec::new();
    for (_name, place) in Place::each() {
        told.push(errors(&place).await);
    }
    assert_eq!(told[0], told[1]);
    let kinds: Vec<_> = told[0].iter().map(|(kind, ..)| *kind).collect();
    let expected = [
        "root_key",
        "root_key",
        "root_key",
        "root_key",
        "root_key",
        "root_key",
        "bad_input",
        "storage",
        "storage",
    ];
    assert_eq!(kinds, expected, "{told:?}");
}

async fn errors(place: &Place) -> Vec<(&'static str, String, Option<String>)> {
    let lock = place.lock().await;
    let (file, wanted) = (place.file(), KeyId([9; 16]));
    let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    let mut errors = vec![place.holder().require(wanted).await.unwrap_err()];
    let first = place.holder().first(place.directory.path(), &lock).await;
    errors.push(first.unwrap_err());
    let holder = place.holder();
    let root = holder.first(&place.data(), &lock).await.unwrap();
    errors.push(holder.settle(wanted, &lock).await.unwrap_err());
    mode(0o640);
    errors.push(place.holder().require(root).await.unwrap_err());
    mode(0o600);
    std::os::unix::fs::chown(&file, Some(1234), None).unwrap();
    errors.push(place.holder().require(root).await.unwrap_err());
    std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    let key = std::fs::read(&file).unwrap();
    std::fs::write(&file, "not a key").unwrap();
    errors.push(place.holder().require(root).await.unwrap_err());
    std::fs::write(&file, key).unwrap();
    let rotation = place
        .holder()
        .begin_rotation(root, Some(&file), &lock)
        .await;
    errors.push(rotation.unwrap_err());
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file.parent().unwrap(), "no directory").unwrap();
    errors.push(place.holder().require(root).await.unwrap_err());
    errors.push(
        place
            .holder()
            .first(&place.data(), &lock)
            .await
            .unwrap_err(),
    );

    let directory = place.directory.path().to_str().unwrap();
    let told = errors.iter().map(|error| {
        let mut words = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            words = format!("{words}: {cause}");
            source = cause.source();
        }
        // What differs between two places: where they are, and which keys were made.
        let plain = |text: String| {
            text.replace(directory, "DIR")
                .replace(&root.to_string(), "KEY")
        };
        (error.kind(), plain(words), error.hint().map(plain))
    });
    told.collect()
}

/// A version of a key is followed by a newer one of the same source.
#[tokio::test]
async fn versions_of_a_service_follow_each_other_and_nothing_else() {
    for service in SERVICES {
        let (name, place) = Place::of(service);
        let lock = place.lock().await;
        let holder = place.holder();
        let fake = Fake::named(&place.file().to_string_lossy());
        let old = holder.first(&place.data(), &lock).await.unwrap();
        let inner = Key::random();
        let audit = binding(KeyPurpose::Audit);
        let under_old = holder.wrap(old, audit, &inner).await.unwrap();
        let error = holder.begin_rotation(old, None, &lock).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeySame { .. }),
            "{name}: {error}"
        );
        assert!(error.hint().unwrap().contains("newer version"), "{name}");

        fake.make_version();
        let kept = place.directory.path().join("kept.key");
        let error = holder.begin_rotation(old, Some(&kept), &lock).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, VaultError::RootKeyNotOurs { .. }),
            "{name}: {error}"
        );
        let new = holder.begin_rotation(old, None, &lock).await.unwrap();
        assert_ne!(new, old, "{name}");
        let under_new = holder.wrap(new, audit, &inner).await.unwrap();
        for (root, bytes, other) in [(old, &under_old, new), (new, &under_new, old)] {
            assert!(opens(&holder, root, &inner, bytes).await, "{name}");
            assert!(!opens(&holder, other, &inner, bytes).await, "{name}");
            holder.settle(root, &lock).await.unwrap();
        }
        for refused in [
            holder.require(KeyId([9; 16])).await.unwrap_err(),
            asked(&Fake::named("another"))
                .require(old)
                .await
                .unwrap_err(),
        ] {
            assert!(
                matches!(refused, VaultError::RootKeyWrong { .. }),
                "{name}: {refused}"
            );
        }
    }
}

/// Whatever a service answers is the key that was wrapped for this, none, or an error of its own.
#[tokio::test]
async fn what_a_service_answers_is_judged() {
    let place = Place::of(SERVICES[0]).1;
    let (lock, holder) = (place.lock().await, place.holder());
    let fake = Fake::named(&place.file().to_string_lossy());
    let root = holder.first(&place.data(), &lock).await.unwrap();
    let (inner, other) = (Key::random(), Key::random());
    let audit = binding(KeyPurpose::Audit);
    let unusable = async |what: &str| {
        let error = holder.wrap(root, audit, &inner).await.unwrap_err();
        let VaultError::KeyService { source, .. } = &error else {
            panic!("{what}: {error}");
        };
        assert!(matches!(source, KeyServiceError::Unusable { .. }), "{what}");
    };
    for (what, fault) in [
        ("nothing", Fault::Seals(Vec::new())),
        ("garbage", Fault::Seals(vec![7; 100])),
        ("too much", Fault::Seals(vec![7; 10_000])),
        ("an empty key", Fault::Opens(Vec::new())),
        ("a short key", Fault::Opens(vec![7; 31])),
        ("a key alone", Fault::Opens(inner.bytes().to_vec())),
        ("another key", Fault::Opens(vec![7; 64])),
        ("a long key", Fault::Opens(vec![7; 10_000])),
    ] {
        fake.answer(Some(fault));
        unusable(what).await;
    }
    for versions in [0, 1025, u32::MAX] {
        fake.answer(Some(Fault::Versions(versions)));
        let error = holder.first(&place.data(), &lock).await.unwrap_err();
        assert_eq!(error.kind(), "key_service", "{versions}");
    }
    // One that binds nothing of what it is told.
    fake.answer(Some(Fault::ForgetsContext));
    let bytes = holder.wrap(root, audit, &inner).await.unwrap();
    assert!(opens(&holder, root, &inner, &bytes).await);
    assert!(!opens(&holder, root, &other, &bytes).await);
    let elsewhere = binding(KeyPurpose::Workspace(WorkspaceId::new()));
    let (key_id, bytes) = (inner.id(), bytes.as_slice());
    let opened = holder.unwrap(root, elsewhere, Wrapped { key_id, bytes });
    assert!(opened.await.unwrap().is_none());

    let message = "the service".to_owned();
    fake.answer(Some(Fault::Fails(KeyServiceError::Denied { message })));
    let error = holder.wrap(root, audit, &inner).await.unwrap_err();
    assert!(
        error.hint().is_some() && error.kind() == "key_service",
        "{error}"
    );
}
