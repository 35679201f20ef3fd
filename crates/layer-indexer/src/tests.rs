//! Layers by several encoders are indexed, and every span decodes again from its checkpoint.

mod zstd;

use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use layer_index::{Codec, Entry, EntryKind, LayerIndex, Mtime};

use super::*;

/// An archive of files with compressible and incompressible content, of about `megabytes`.
fn archive(megabytes: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..megabytes * 8 {
        let mut content = Vec::with_capacity(128 << 10);
        while content.len() < 128 << 10 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state.is_multiple_of(3) {
                content.extend_from_slice(&state.to_le_bytes());
            } else {
                let line = format!("line {} of file {number}\n", state % 1000);
                content.extend_from_slice(line.as_bytes());
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        let path = format!("srv/data/file-{number}");
        builder
            .append_data(&mut header, path, content.as_slice())
            .expect("appends");
    }
    builder.into_inner().expect("ends")
}

fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}: run `cargo xtask setup`"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("no panic").expect("writes");
    assert!(output.status.success());
    output.stdout
}

fn index(layer: &[u8]) -> LayerIndex {
    let bytes = index_bytes(layer).expect("indexes");
    LayerIndex::decode(Bytes::from(bytes)).expect("decodes")
}

/// Decodes each span alone, from its own checkpoint, and compares it with the archive.
#[track_caller]
fn check_every_span(layer: &[u8], archive: &[u8]) -> LayerIndex {
    let index = index(layer);
    assert_eq!(index.header().uncompressed_size, archive.len() as u64);
    for span in 0..index.spans().len() {
        let range = index.compressed_range(span, span);
        let range = usize::try_from(range.start).expect("short")
            ..usize::try_from(range.end).expect("short");
        let mut found = Vec::new();
        let each = |number: usize, bytes: &[u8]| {
            if number == span {
                found = bytes.to_vec();
            }
            Ok(())
        };
        index
            .decode_spans(span, span, &layer[range], each)
            .expect("resumes");
        let start = usize::try_from(index.spans()[span].uncompressed_offset).expect("short");
        assert!(
            found == archive[start..start + found.len()],
            "span {span} differs"
        );
        assert!(!found.is_empty());
    }
    index
}

#[test]
fn every_span_of_every_encoding_decodes_alone() {
    let archive = archive(6);
    let layers: [(&str, Vec<u8>, Codec, usize); 6] = [
        (
            "gzip -1",
            filter("gzip", &["-nc1"], &archive),
            Codec::Gzip,
            10,
        ),
        (
            "gzip -6",
            filter("gzip", &["-nc6"], &archive),
            Codec::Gzip,
            10,
        ),
        (
            "gzip -9",
            filter("gzip", &["-nc9"], &archive),
            Codec::Gzip,
            10,
        ),
        ("members", members(&archive), Codec::Gzip, 10),
        (
            "zstd",
            ::zstd::encode_all(archive.as_slice(), 3).expect("encodes"),
            Codec::Zstd,
            5,
        ),
        ("plain", archive.clone(), Codec::Tar, 10),
    ];
    for (name, layer, codec, spans_at_least) in layers {
        let index = check_every_span(&layer, &archive);
        assert_eq!(index.header().codec, codec, "{name}");
        assert!(index.spans().len() >= spans_at_least, "{name}");
        assert_eq!(index.entries().count(), 48, "{name}");
        let limit = layer.len() as u64 * 3 / 100 + (16 << 10);
        assert!(
            index.file_bytes() <= limit,
            "{name}: index of {} bytes",
            index.file_bytes()
        );
    }
}

/// One gzip member per 100 KB, as parallel compressors write.
fn members(archive: &[u8]) -> Vec<u8> {
    archive
        .chunks(100_000)
        .flat_map(|part| filter("gzip", &["-nc"], part))
        .collect()
}

#[test]
fn layers_written_by_go_decode_at_every_checkpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&directory)
            .output();
        let output = output.expect("starts: run `cargo xtask setup`");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let content = archive(6);
    std::fs::write(directory.path().join("layer.tar"), &content).expect("writes");
    run("umoci", &["init", "--layout", "image"]);
    run("umoci", &["new", "--image", "image:v1"]);
    run(
        "umoci",
        &["raw", "add-layer", "--image", "image:v1", "layer.tar"],
    );
    let blobs = directory.path().join("image/blobs/sha256");
    let largest = std::fs::read_dir(blobs)
        .expect("blobs")
        .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a blob"))
        .max_by_key(Vec::len)
        .expect("a layer");
    let index = check_every_span(&largest, &content);
    assert_eq!(index.header().codec, Codec::Gzip);
    assert!(index.spans().len() >= 10);
}

#[test]
fn giant_blocks_are_cut() {
    let zeros = vec![0; 40 << 20];
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(zeros.len() as u64);
    builder
        .append_data(&mut header, "zeros", zeros.as_slice())
        .expect("appends");
    let archive = builder.into_inner().expect("ends");
    let layer = filter("gzip", &["-nc9"], &archive);
    let index = check_every_span(&layer, &archive);
    assert!(
        index
            .spans()
            .iter()
            .all(|span| span.length <= layer_index::limits::MAX_SPAN)
    );
}

/// A gzip stream of stored blocks, with so many empty ones after each.
fn stored(bytes: &[u8], empty_blocks: usize) -> Vec<u8> {
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut block = |last: u8, bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a block is short");
        stream.push(last);
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(bytes);
    };
    for part in bytes.chunks(60_000) {
        block(0, part);
        (0..empty_blocks).for_each(|_| block(0, b""));
    }
    block(1, b"");
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    stream.extend_from_slice(&crc.sum().to_le_bytes());
    stream.extend_from_slice(&crc.amount().to_le_bytes());
    stream
}

#[test]
fn empty_blocks_are_not_kept_in_memory() {
    let archive = archive(1);
    check_every_span(&stored(&archive, 0), &archive);
    check_every_span(&stored(&archive, 100_000), &archive);
}

#[test]
fn damaged_layers_have_no_index() {
    let archive = archive(1);
    let good = filter("gzip", &["-nc"], &archive);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let zstd = ::zstd::encode_all(archive.as_slice(), 3).expect("encodes");
    for (name, layer) in [
        ("cut", good[..good.len() - 1].to_vec()),
        ("flipped", flipped),
        (
            "garbage after",
            [good.clone(), b"garbage".to_vec()].concat(),
        ),
        ("zstd cut", zstd[..zstd.len() - 1].to_vec()),
        ("tar cut", archive[..archive.len() / 2].to_vec()),
        ("text", b"this is no archive".repeat(100)),
    ] {
        assert!(index_bytes(&layer).is_err(), "{name}");
    }
    assert!(index_bytes(&[]).is_ok(), "an empty archive has no members");
}

#[test]
fn an_archive_may_end_without_padding() {
    let mut header = tar::Header::new_gnu();
    header.set_path("short").expect("a name");
    header.set_size(5);
    header.set_cksum();
    let archive = [header.as_bytes().as_slice(), b"short"].concat();
    assert_eq!(index(&archive).entries().count(), 1);
    assert!(index_bytes(&archive[..archive.len() - 1]).is_err());
}

#[test]
fn a_bomb_is_refused() {
    let bomb = ::zstd::encode_all(std::io::Read::take(std::io::repeat(0), 1 << 30), 3);
    let error = index_bytes(&bomb.expect("encodes")).expect_err("a bomb");
    assert!(matches!(error, IndexerError::Limit(_)), "{error}");
}

/// A sparse file in the newest format whose map is `map`, which stands where its content begins.
fn sparse_by_map(map: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let records = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"1000"),
    ];
    builder.append_pax_extensions(records).expect("appends");
    let mut header = tar::Header::new_ustar();
    header.set_size(map.len() as u64);
    builder
        .append_data(&mut header, "sparse", map)
        .expect("appends");
    builder.into_inner().expect("ends")
}

#[test]
fn a_sparse_file_has_no_more_parts_than_bytes() {
    for length in [6, u64::MAX - 600, u64::MAX] {
        let mut map = format!("2\n0\n{length}\n{length}\n1\n").into_bytes();
        map.resize(512, 0);
        map.extend(b"bytes");
        let error = index_bytes(&sparse_by_map(&map)).expect_err("too many");
        assert!(matches!(error, IndexerError::Archive(_)), "{error}");
    }
}

#[test]
fn a_sparse_map_that_does_not_end_is_refused() {
    let mut good = b"1\n0\n5\n".to_vec();
    good.resize(512, 0);
    good.extend(b"bytes");
    index_bytes(&sparse_by_map(&good)).expect("indexes");
    let endless = sparse_by_map(&vec![b'1'; 8 << 20]);
    let error = index_bytes(&endless).expect_err("a map without an end");
    assert!(matches!(error, IndexerError::Limit(_)), "{error}");
}

#[test]
fn the_cache_file_holds_the_archive() {
    let archive = archive(2);
    let layer = filter("gzip", &["-nc"], &archive);
    let cache = tempfile::NamedTempFile::new().expect("a file");
    let files = Files {
        cache: Some(cache.reopen().expect("reopens")),
        ..Files::in_memory()
    };
    let indexed = index_layer(layer.as_slice(), &mut Vec::new(), files, Limits::default());
    let indexed = indexed.expect("indexes");
    assert_eq!(indexed.uncompressed_bytes, archive.len() as u64);
    assert!(std::fs::read(cache.path()).expect("reads") == archive);
}

#[test]
fn a_cache_file_takes_no_more_of_the_disk_than_it_may() {
    let archive = archive(2);
    let zeros = vec![0; 32 << 20];
    for (content, cache_bytes, expected) in [
        (&archive, archive.len() as u64, archive.len()),
        (&archive, archive.len() as u64 / 2, 0),
        (&archive, 0, 0),
        // Zeros are holes: a bomb of them takes next to nothing of the disk.
        (&zeros, 64 << 10, zeros.len()),
    ] {
        let cache = tempfile::NamedTempFile::new().expect("a file");
        let limits = Limits {
            cache_bytes,
            ..Limits::default()
        };
        let files = Files {
            cache: Some(cache.reopen().expect("reopens")),
            ..Files::in_memory()
        };
        let indexed = index_layer(content.as_slice(), &mut Vec::new(), files, limits);
        let indexed = indexed.expect("indexes, whatever the cache takes");
        assert_eq!(indexed.uncompressed_bytes, content.len() as u64);
        let written = cache.as_file().metadata().expect("reads").len();
        assert_eq!(
            written,
            expected as u64,
            "of {} bytes, {cache_bytes}",
            content.len()
        );
    }
}

/// Entries of an archive made by GNU tar with these arguments, run in a directory with `script`.
fn made_by_tar(script: &str, arguments: &[&str]) -> Vec<Entry> {
    let directory = tempfile::tempdir().expect("a directory");
    let sh = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&directory)
        .status();
    assert!(sh.expect("sh starts").success());
    let output = Command::new("tar")
        .args(["--sort=name", "-cf", "-"])
        .args(arguments)
        .arg(".")
        .current_dir(&directory)
        .output()
        .expect("tar starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    index(&output.stdout).entries().collect()
}

fn find<'a>(entries: &'a [Entry], path: &str) -> &'a Entry {
    let found = entries.iter().find(|entry| entry.path == path.as_bytes());
    found.unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn archives_of_gnu_tar_keep_everything() {
    let long = "n".repeat(200);
    let script = format!(
        "mkdir -m 1777 d; echo content > d/f; chmod 4755 d/f; ln d/f d/hard; ln -s ../x d/sym; \
         mkfifo d/fifo; mknod d/char c 5 1; mknod d/block b 7 300; echo > {long}; \
         touch -d '1969-12-31T23:59:58.25Z' d/old; \
         touch -d '2020-01-02T03:04:05.123456789Z' d/new; \
         setfattr -n user.name -v value d/new; truncate -s 64M d/sparse; \
         printf x | dd of=d/sparse bs=1 seek=40000000 conv=notrunc status=none"
    );
    for format in ["--format=pax", "--format=gnu"] {
        let entries = made_by_tar(&script, &[format, "--xattrs", "--sparse"]);
        assert_eq!(find(&entries, "d").mode, 0o1777);
        assert_eq!(find(&entries, "d/f").mode, 0o4755);
        let hard = &find(&entries, "d/hard").kind;
        assert_eq!(
            *hard,
            EntryKind::HardLink {
                target: b"d/f".to_vec()
            }
        );
        let symlink = &find(&entries, "d/sym").kind;
        assert_eq!(
            *symlink,
            EntryKind::Symlink {
                target: b"../x".to_vec()
            }
        );
        assert_eq!(find(&entries, "d/fifo").kind, EntryKind::Fifo);
        assert_eq!(
            find(&entries, "d/char").kind,
            EntryKind::CharDevice { major: 5, minor: 1 }
        );
        assert_eq!(
            find(&entries, "d/block").kind,
            EntryKind::BlockDevice {
                major: 7,
                minor: 300
            }
        );
        find(&entries, &long);
        let EntryKind::File { size, extents } = &find(&entries, "d/sparse").kind else {
            panic!("a file")
        };
        assert_eq!(*size, 64 << 20);
        assert!(
            extents.iter().map(|extent| extent.length).sum::<u64>() < 1 << 20,
            "{extents:?}"
        );
        if format == "--format=pax" {
            let new = Mtime {
                seconds: 1_577_934_245,
                nanoseconds: 123_456_789,
            };
            assert_eq!(find(&entries, "d/new").mtime, new);
            let xattr = &find(&entries, "d/new").xattrs[0];
            assert_eq!((&*xattr.0, &*xattr.1), (&b"user.name"[..], &b"value"[..]));
        }
        // containerd's clock begins there.
        assert_eq!(find(&entries, "d/old").mtime, Mtime::default());
    }
}

/// A plain archive of empty members with these names, written without any cleaning.
fn named(names: &[&[u8]]) -> Vec<u8> {
    let mut archive = Vec::new();
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}

#[test]
fn names_are_cleaned_or_refused() {
    for (name, path) in [
        (&b"./a//b/./c"[..], &b"a/b/c"[..]),
        (b"/abs/path", b"abs/path"),
        (b"a/../b", b"b"),
        (b"caf\xe9", b"caf\xe9"),
    ] {
        let entries: Vec<_> = index(&named(&[name])).entries().collect();
        assert_eq!(entries[0].path, path);
    }
    for name in [&b"../escape"[..], b"a/../../b", b".wh.", b"d/.wh..."] {
        assert!(
            index_bytes(&named(&[name])).is_err(),
            "{}",
            String::from_utf8_lossy(name)
        );
    }
}

#[test]
fn a_type_that_is_not_known_is_refused() {
    for kind in [b'7', b'D', b'M', b'Z', 0xff] {
        let mut header = tar::Header::new_gnu();
        header.set_path("name").expect("a name");
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(0);
        header.set_cksum();
        let archive = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        let error = index_bytes(&archive).expect_err("refused");
        assert!(matches!(error, IndexerError::Archive(_)), "{kind}: {error}");
    }
}

#[test]
fn whiteouts_are_recognised() {
    let archive = named(&[
        b"d/.wh.gone",
        b"d/.wh..wh..opq",
        b".wh..wh..opq",
        b".wh..wh.plnk",
        b".wh.x",
    ]);
    let kinds: Vec<_> = index(&archive)
        .entries()
        .map(|entry| (entry.path, entry.kind))
        .collect();
    let expected: [(&[u8], EntryKind); 5] = [
        (b"d/gone", EntryKind::Whiteout),
        (b"d", EntryKind::Opaque),
        (b"", EntryKind::Opaque),
        (b".wh.plnk", EntryKind::Whiteout),
        (b"x", EntryKind::Whiteout),
    ];
    assert_eq!(kinds, expected.map(|(path, kind)| (path.to_vec(), kind)));
}
