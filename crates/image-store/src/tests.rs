//! What is published is whole; what is damaged is gone.

use std::io::Write;

use layer_index::{Builder, Codec, Layer, Scratch, SpanDigests};

use super::*;

fn digest(byte: char) -> String {
    format!("sha256:{}", byte.to_string().repeat(64))
}

fn key(layer: &str) -> IndexKey<'_> {
    IndexKey {
        origin: "registry.example/acme/fn",
        layer,
    }
}

fn write_index(file: &mut impl Write, layer: &str) {
    let layer = Layer {
        layer_digest: layer.to_owned(),
        diff_id: layer.to_owned(),
        codec: Codec::Tar,
        compressed_size: 0,
    };
    let scratch = Scratch::in_memory();
    let digests = SpanDigests::new(&scratch);
    let builder = Builder::new(&scratch);
    builder.finish(layer, digests, file).expect("writes");
}

#[test]
fn an_index_is_there_once_it_is_published() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    let layer = digest('a');
    assert!(store.index(key(&layer)).expect("reads").is_none());
    let mut file = store.new_file().expect("makes");
    write_index(&mut file, &layer);
    let root = store
        .publish_index(key(&layer), file)
        .expect("publishes")
        .root;
    assert_eq!(
        store
            .index(key(&layer))
            .expect("reads")
            .expect("there")
            .root,
        root
    );
    assert_eq!(
        fs::read_dir(directory.path().join("tmp"))
            .expect("reads")
            .count(),
        0
    );
}

#[test]
fn what_one_origin_opened_is_not_there_for_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    let layer = digest('a');
    let mut file = store.new_file().expect("makes");
    write_index(&mut file, &layer);
    store.publish_index(key(&layer), file).expect("publishes");
    for origin in ["registry.example/acme/f", "hostile.example/acme/fn", ""] {
        let other = IndexKey {
            origin,
            layer: &layer,
        };
        assert!(store.index(other).expect("reads").is_none(), "{origin}");
    }
}

#[test]
fn a_damaged_index_is_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    let layer = digest('a');
    let path = store.index_path(key(&layer)).expect("a digest");
    for damage in [
        |bytes: &mut Vec<u8>| bytes.truncate(40),
        |bytes: &mut Vec<u8>| bytes[3] ^= 1,
        |bytes: &mut Vec<u8>| bytes[20] ^= 1,
    ] {
        let mut file = store.new_file().expect("makes");
        write_index(&mut file, &layer);
        store.publish_index(key(&layer), file).expect("publishes");
        let mut bytes = fs::read(&path).expect("reads");
        damage(&mut bytes);
        fs::write(&path, bytes).expect("writes");
        assert!(store.index(key(&layer)).expect("reads").is_none());
        assert!(!path.exists());
    }
}

#[test]
fn what_is_not_the_layers_index_is_not_published() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    let mut file = store.new_file().expect("makes");
    write_index(&mut file, &digest('b'));
    assert!(store.publish_index(key(&digest('a')), file).is_err());
    let mut file = store.new_file().expect("makes");
    file.write_all(b"nonsense").expect("writes");
    assert!(store.publish_index(key(&digest('a')), file).is_err());
    assert!(store.index(key(&digest('a'))).expect("reads").is_none());
    assert_eq!(
        fs::read_dir(directory.path().join("tmp"))
            .expect("reads")
            .count(),
        0
    );
}

#[test]
fn names_cannot_leave_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    for name in [
        "",
        "sha256:",
        "sha256:../../x",
        "md5:aa",
        &digest('A'),
        &digest('/'),
    ] {
        assert!(store.index(key(name)).is_err(), "{name}");
    }
}

#[test]
fn what_a_crash_left_is_swept_and_what_is_written_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    let dead = directory.path().join("tmp/4711-0-0");
    std::fs::write(&dead, "half an index").expect("writes");
    let mut file = store.new_file().expect("makes a file");
    let again = ImageStore::open(directory.path()).expect("opens");
    assert!(!dead.exists());
    assert!(file.path().exists());
    let layer = digest('a');
    write_index(&mut file, &layer);
    again.publish_index(key(&layer), file).expect("publishes");
}

/// What takes the place of a file. A pipe would make whoever opens it wait for ever.
fn replace(path: &Path, number: usize) {
    match number {
        0 => fs::create_dir_all(path.join("inside")).expect("makes"),
        1 => std::os::unix::fs::symlink("/nowhere/at/all", path).expect("links"),
        _ => {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.expect("mkfifo is there").success());
        }
    }
}

#[test]
fn what_is_no_file_counts_as_absent_and_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = ImageStore::open(directory.path()).expect("opens");
    let layer = digest('a');
    let publish = || {
        let mut file = store.new_file().expect("makes");
        write_index(&mut file, &layer);
        store.publish_index(key(&layer), file).expect("publishes");
        assert!(store.index(key(&layer)).expect("reads").is_some());
    };
    let path = store.index_path(key(&layer)).expect("a path");
    let parent = path.parent().expect("it has one");
    for number in 0..3 {
        publish();
        fs::remove_file(&path).expect("removes");
        replace(&path, number);
        assert!(store.index(key(&layer)).expect("reads").is_none());
        publish();
        let half_made = directory.path().join("tmp").join("strange");
        replace(&half_made, number);
        ImageStore::open(directory.path()).expect("opens");
        assert!(half_made.symlink_metadata().is_err());
        if number > 0 {
            fs::remove_dir_all(parent).expect("removes");
            replace(parent, number);
            assert!(store.index(key(&layer)).expect("reads").is_none());
        }
    }
    publish();
}
