//! Indexes come back as they were written, damage is an error, and layers stack as overlayfs
//! stacks them.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mtime = Mtime {
        seconds: 1_700_000_000,
        nanoseconds: 5,
    };
    let path = path.as_bytes().to_vec();
    Entry {
        path,
        kind,
        mode: 0o755,
        uid: 1,
        gid: 2,
        mtime,
        xattrs: Vec::new(),
    }
}

fn file(path: &str) -> Entry {
    entry(
        path,
        EntryKind::File {
            size: 0,
            extents: Vec::new(),
        },
    )
}

fn directory(path: &str) -> Entry {
    entry(path, EntryKind::Directory)
}

fn symlink(path: &str, target: &str) -> Entry {
    let target = target.into();
    entry(path, EntryKind::Symlink { target })
}

fn link(path: &str, target: &str) -> Entry {
    entry(
        path,
        EntryKind::HardLink {
            target: target.into(),
        },
    )
}

/// A plain layer of `content`, in spans of `span` bytes.
fn index(entries: &[Entry], content: &[u8], span: usize) -> Vec<u8> {
    let scratch = Scratch::in_memory();
    let mut builder = Builder::new(&scratch);
    for entry in entries {
        builder.entry(entry).expect("a good entry");
    }
    let mut digests = SpanDigests::new(&scratch);
    for (number, part) in content.chunks(span).enumerate() {
        builder.checkpoint((number * span) as u64, 0);
        let length = u32::try_from(part.len()).expect("short");
        builder.span(length).expect("a good span");
        let digest = blake3::hash(part);
        digests.push(digest.as_bytes()).expect("memory takes it");
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let layer = Layer {
        layer_digest: digest.clone(),
        diff_id: digest,
        codec: Codec::Tar,
        compressed_size: content.len() as u64,
    };
    let mut bytes = Vec::new();
    builder.finish(layer, digests, &mut bytes).expect("writes");
    bytes
}

fn decode(bytes: Vec<u8>) -> LayerIndex {
    LayerIndex::decode(Bytes::from(bytes)).expect("a good index")
}

fn every_kind() -> Vec<Entry> {
    let extents = vec![
        Extent {
            file_offset: 4096,
            layer_offset: 512,
            length: 100,
        },
        Extent {
            file_offset: 1 << 33,
            layer_offset: 700,
            length: 1,
        },
    ];
    let xattrs = vec![
        (
            b"security.capability"[..].into(),
            b"\x01\0\0\x02"[..].into(),
        ),
        (b"user.empty"[..].into(), b""[..].into()),
    ];
    let whole = vec![Extent {
        file_offset: 0,
        layer_offset: 512,
        length: 9,
    }];
    vec![
        directory(""),
        directory("usr"),
        Entry {
            xattrs,
            ..entry(
                "usr/whole",
                EntryKind::File {
                    size: 9,
                    extents: whole,
                },
            )
        },
        entry(
            "usr/sparse",
            EntryKind::File {
                size: 1 << 34,
                extents,
            },
        ),
        link("usr/linked", "usr/whole"),
        entry(
            "usr/sym",
            EntryKind::Symlink {
                target: b"../x".to_vec(),
            },
        ),
        entry(
            "usr/char",
            EntryKind::CharDevice {
                major: 5,
                minor: 1 << 19,
            },
        ),
        entry("usr/block", EntryKind::BlockDevice { major: 8, minor: 1 }),
        entry("usr/fifo", EntryKind::Fifo),
        entry("usr/gone", EntryKind::Whiteout),
        entry("usr", EntryKind::Opaque),
        Entry {
            path: b"usr/\xff\xfe".to_vec(),
            mode: 0o7777,
            ..file("x")
        },
        Entry {
            mtime: Mtime {
                seconds: -5,
                nanoseconds: 999_999_999,
            },
            ..file("old")
        },
    ]
}

#[test]
fn every_kind_of_entry_comes_back() {
    let content = vec![7; 10_000];
    let index = decode(index(&every_kind(), &content, 4096));
    assert_eq!(index.entries().collect::<Vec<_>>(), every_kind());
    assert_eq!(index.header().entry_count, every_kind().len() as u64);
    assert_eq!(index.spans().len(), 3);
    assert_eq!(index.span_at(4095), 0);
    assert_eq!(index.span_at(4096), 1);
    assert_eq!(index.span_at(10_000), 3);
}

#[test]
fn bad_entries_are_refused() {
    let bad_path = |path: &str| file(path);
    let outside = vec![Extent {
        file_offset: 5,
        layer_offset: 0,
        length: 5,
    }];
    for entry in [
        bad_path("a//b"),
        bad_path("/a"),
        bad_path("a/../b"),
        bad_path("a/."),
        bad_path(&"x".repeat(256)),
        entry("s", EntryKind::Symlink { target: Vec::new() }),
        entry(
            "f",
            EntryKind::File {
                size: 9,
                extents: outside,
            },
        ),
        link("l", "../x"),
        Entry {
            mtime: Mtime {
                seconds: 0,
                nanoseconds: 1_000_000_000,
            },
            ..file("t")
        },
    ] {
        let mut builder = Builder::new(&Scratch::in_memory());
        assert!(builder.entry(&entry).is_err(), "{entry:?}");
    }
}

#[test]
fn spans_decode_and_are_verified() {
    let content: Vec<u8> = (0..50_000_u32).map(|i| (i % 251) as u8).collect();
    let index = decode(index(&[], &content, 4096));
    let range = index.compressed_range(2, 4);
    assert_eq!(range, 8192..20_480);
    let mut bytes = content[8192..20_480].to_vec();
    let mut seen = Vec::new();
    let decoded = index.decode_spans(2, 4, &bytes, |span, bytes| {
        seen.push((span, bytes.to_vec()));
        Ok(())
    });
    decoded.expect("decodes");
    assert_eq!(
        seen.iter().map(|(span, _)| *span).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    assert_eq!(seen[1].1, content[12_288..16_384]);
    bytes[5000] ^= 1;
    let error = index
        .decode_spans(2, 4, &bytes, |_, _| Ok(()))
        .expect_err("altered");
    assert!(matches!(error, DecodeError::Mismatch { span: 3 }));
    let error = index
        .decode_spans(2, 4, &bytes[..4200], |_, _| Ok(()))
        .expect_err("short");
    assert!(matches!(error, DecodeError::Truncated { span: 3 }));
    let error = index
        .decode_spans(99, 99, &bytes, |_, _| Ok(()))
        .expect_err("nothing");
    assert!(matches!(error, DecodeError::NoSuchSpan { span: 99 }));
}

proptest! {
    #[test]
    fn damage_is_an_error_and_never_a_panic(
        at in 0_usize..4000,
        change in 1_u8..,
        cut in 0_usize..4000,
    ) {
        let good = index(&every_kind(), &[9; 9000], 1000);
        let mut damaged = good.clone();
        let at = at % damaged.len();
        damaged[at] = damaged[at].wrapping_add(change);
        let same_root = LayerIndex::decode(Bytes::from(damaged)).map(|index| index.root());
        let root = decode(good.clone()).root();
        prop_assert!(same_root.is_err() || same_root.is_ok_and(|other| other != root));
        let cut = cut % good.len();
        prop_assert!(LayerIndex::decode(Bytes::from(good[..cut].to_vec())).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = LayerIndex::decode(Bytes::from(bytes));
    }
}

/// Paths of the merged tree, directories with a slash behind.
fn listing(layers: &[&[Entry]]) -> Result<Vec<String>, MergeError> {
    let layers: Vec<_> = layers
        .iter()
        .map(|entries| decode(index(entries, &[], 1)))
        .collect();
    let tree = Tree::merge(&layers)?;
    let mut paths = Vec::new();
    let mut pending = vec![(tree.root(), String::new())];
    while let Some((id, path)) = pending.pop() {
        for (name, child) in tree.children(id) {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match tree.inode(*child).expect("numbered").kind {
                NodeKind::Directory { .. } => {
                    paths.push(format!("{path}/"));
                    pending.push((*child, format!("{path}/")));
                }
                _ => paths.push(path),
            }
        }
    }
    paths.sort();
    Ok(paths)
}

#[test]
fn layers_stack_as_overlayfs_stacks_them() {
    let base = [
        directory("d"),
        file("d/a"),
        file("d/b"),
        directory("e"),
        file("e/x"),
        file("f"),
    ];
    let whiteout = |path: &str| entry(path, EntryKind::Whiteout);
    let opaque = |path: &str| entry(path, EntryKind::Opaque);
    let cases: Vec<(&str, Vec<Entry>, &[&str])> = vec![
        ("nothing", vec![], &["d/", "d/a", "d/b", "e/", "e/x", "f"]),
        (
            "whiteout",
            vec![whiteout("d/a")],
            &["d/", "d/b", "e/", "e/x", "f"],
        ),
        (
            "whiteout of a directory",
            vec![whiteout("d")],
            &["e/", "e/x", "f"],
        ),
        (
            "opaque",
            vec![opaque("d"), file("d/n")],
            &["d/", "d/n", "e/", "e/x", "f"],
        ),
        (
            "opaque comes last",
            vec![file("d/n"), opaque("d")],
            &["d/", "d/n", "e/", "e/x", "f"],
        ),
        (
            "file over directory",
            vec![file("d")],
            &["d", "e/", "e/x", "f"],
        ),
        (
            "directory over file",
            vec![directory("f")],
            &["d/", "d/a", "d/b", "e/", "e/x", "f/"],
        ),
        (
            "whiteout and the same name anew",
            vec![whiteout("f"), file("f")],
            &["d/", "d/a", "d/b", "e/", "e/x", "f"],
        ),
        (
            "whiteout and a directory of that name",
            vec![whiteout("d"), directory("d"), file("d/n")],
            &["d/", "d/a", "d/b", "d/n", "e/", "e/x", "f"],
        ),
        (
            "a link of this layer is followed",
            vec![symlink("g", "e/../h"), file("g/y")],
            &["d/", "d/a", "d/b", "e/", "e/x", "f", "g", "h/", "h/y"],
        ),
        (
            "an absolute link stays inside",
            vec![symlink("g", "/../h/./i"), file("g/y")],
            &[
                "d/", "d/a", "d/b", "e/", "e/x", "f", "g", "h/", "h/i/", "h/i/y",
            ],
        ),
        (
            "device 0:0 is a whiteout",
            vec![entry("f", EntryKind::CharDevice { major: 0, minor: 0 })],
            &["d/", "d/a", "d/b", "e/", "e/x"],
        ),
        (
            "implied parents",
            vec![file("p/q/r")],
            &["d/", "d/a", "d/b", "e/", "e/x", "f", "p/", "p/q/", "p/q/r"],
        ),
    ];
    for (name, upper, expected) in cases {
        assert_eq!(listing(&[&base, &upper]).expect(name), expected, "{name}");
    }
}

#[test]
fn a_directory_that_was_replaced_does_not_bring_its_children_back() {
    let layers: [&[Entry]; 3] = [
        &[directory("d"), file("d/a")],
        &[file("d")],
        &[directory("d")],
    ];
    assert_eq!(listing(&layers).expect("merges"), ["d/"]);
}

#[test]
fn hard_links_share_an_inode_and_count_their_names() {
    let lower = [file("a"), link("b", "a"), link("c", "b")];
    let upper = [entry("b", EntryKind::Whiteout)];
    let layers = [decode(index(&lower, &[], 1)), decode(index(&upper, &[], 1))];
    let tree = Tree::merge(&layers).expect("merges");
    let a = tree.lookup(tree.root(), b"a").expect("there");
    assert_eq!(tree.lookup(tree.root(), b"c"), Some(a));
    assert_eq!(tree.lookup(tree.root(), b"b"), None);
    assert_eq!(tree.inode(a).expect("numbered").nlink, 3);
}

#[test]
fn what_cannot_be_extracted_is_refused_by_name() {
    let whiteout = |path: &str| entry(path, EntryKind::Whiteout);
    let opaque = |path: &str| entry(path, EntryKind::Opaque);
    let no_layer: &[Entry] = &[];
    let shared: Xattr = (b"system.posix_acl_default"[..].into(), b"x"[..].into());
    let sharing = Entry {
        xattrs: vec![shared],
        ..directory("d")
    };
    for (below, entries, reason) in [
        (None, vec![file("a"), file("a/b")], "not a directory"),
        (None, vec![link("a", "missing")], "not in its layer"),
        (
            None,
            vec![directory("d"), link("a", "d")],
            "not in its layer",
        ),
        (None, vec![file("a"), link("a", "a")], "not in its layer"),
        (
            Some(&[file("a")][..]),
            vec![link("b", "a")],
            "not in its layer",
        ),
        (None, vec![file("")], "root is no directory"),
        (
            None,
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x")],
            "too many symbolic",
        ),
        (
            None,
            vec![directory("d"), file("d")],
            "replaces a directory",
        ),
        (
            None,
            vec![file("d/x"), link("d", "d/x")],
            "replaces a directory",
        ),
        (None, vec![file("a"), whiteout("a")], "its own layer has"),
        (
            Some(no_layer),
            vec![whiteout("a"), whiteout("a")],
            "its own layer has",
        ),
        (
            Some(no_layer),
            vec![whiteout("a"), file("a/b")],
            "not a directory",
        ),
        (Some(no_layer), vec![opaque("")], "opaque root"),
        (None, vec![file("d/x/y"), opaque("d")], "no entry names"),
        (
            None,
            vec![sharing, file("d/x")],
            "default access control list",
        ),
    ] {
        let layers: Vec<&[Entry]> = below.into_iter().chain([&entries[..]]).collect();
        let error = listing(&layers).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_parent_that_only_a_hidden_layer_has_cannot_be_told() {
    let layers: [&[Entry]; 3] = [
        &[directory("d"), directory("d/e")],
        &[file("d")],
        &[file("d/e/f")],
    ];
    let error = listing(&layers).expect_err("refused").to_string();
    assert!(error.contains("not a directory"), "{error}");
}

/// Attributes of what `path` leads to.
fn inode(layers: &[&[Entry]], path: &[&str]) -> Inode {
    let layers: Vec<_> = layers
        .iter()
        .map(|entries| decode(index(entries, &[], 1)))
        .collect();
    let tree = Tree::merge(&layers).expect("merges");
    let step = |at, name: &&str| tree.lookup(at, name.as_bytes()).expect("there");
    let found = path.iter().fold(tree.root(), step);
    tree.inode(found).expect("numbered").clone()
}

#[test]
fn a_hard_link_gives_the_file_its_attributes() {
    let xattr = |name: &str| -> Xattr { (name.as_bytes().into(), b"1"[..].into()) };
    let capable = Entry {
        xattrs: vec![xattr("security.capability"), xattr("user.a")],
        ..file("a")
    };
    let linked = Entry {
        mode: 0o4711,
        uid: 9,
        xattrs: vec![xattr("user.b")],
        ..link("b", "a")
    };
    let found = inode(&[&[capable, linked]], &["a"]);
    assert_eq!((found.mode, found.uid, found.nlink), (0o4711, 9, 2));
    assert_eq!(&*found.xattrs, &[xattr("user.a"), xattr("user.b")]);
}

#[test]
fn a_directory_that_no_entry_names_takes_what_the_layers_below_have() {
    let private = Entry {
        mode: 0o700,
        ..directory("d")
    };
    let shared = Entry {
        mode: 0o2775,
        gid: 7,
        ..directory("s")
    };
    let opaque = entry("d", EntryKind::Opaque);
    let layers: [&[Entry]; 3] = [
        &[private.clone(), directory("d/e"), file("d/e/f")],
        &[private, opaque],
        &[file("d/e/g"), shared, file("s/t/u")],
    ];
    let of = |path: &[&str]| {
        let found = inode(&layers, path);
        (found.mode, found.uid, found.gid)
    };
    assert_eq!(of(&["d"]), (0o700, 1, 2));
    assert_eq!(of(&["d", "e"]), (0o755, 1, 2));
    assert_eq!(of(&["s", "t"]), (0o755, 0, 7));
    assert_eq!(of(&[]), (0o755, 0, 0));
}

#[test]
fn a_time_goes_where_the_path_leads_in_the_end() {
    let late = Mtime {
        seconds: 9,
        nanoseconds: 0,
    };
    let timed = Entry {
        mtime: late,
        ..directory("l/d")
    };
    let entries = [symlink("l", "m"), timed, directory("l"), file("l/d/x")];
    assert_eq!(inode(&[&entries], &["l", "d"]).mtime, late);
    assert_eq!(inode(&[&entries], &["m", "d"]).mtime, late);
    let gone = [&entries[..3], &[]].concat();
    let error = listing(&[&gone]).expect_err("gone").to_string();
    assert!(error.contains("cannot be found in the end"), "{error}");
}

/// Links at the end of a path as long as there can be, each to the next, and files below the first.
#[test]
fn paths_that_take_hours_to_follow_are_refused() {
    let deep = vec!["d"; 2000].join("/");
    let next = |number: u32| symlink(&format!("{deep}/l{number}"), &format!("l{}", number + 1));
    let files = (0..100_000).map(|number| file(&format!("first/{number}")));
    let entries: Vec<Entry> = (0..250)
        .map(next)
        .chain([directory(&format!("{deep}/l250"))])
        .chain([symlink("first", &format!("{deep}/l0"))])
        .chain(files)
        .collect();
    let error = listing(&[&entries]).expect_err("too much").to_string();
    assert!(error.contains("take too long to follow"), "{error}");
}

/// A directory that is implied takes the attributes of the one below, through a link there too.
#[test]
fn attributes_of_implied_directories_are_counted() {
    let xattrs: Vec<Xattr> = (0..16)
        .map(|number| {
            (
                format!("user.{number:02}").into_bytes().into(),
                vec![0; 60_000].into(),
            )
        })
        .collect();
    let heavy = Entry {
        xattrs,
        ..directory("d")
    };
    let links = (0..3000).map(|number| symlink(&format!("s{number}"), "d"));
    let lower: Vec<Entry> = [heavy].into_iter().chain(links).collect();
    let upper: Vec<Entry> = (0..3000)
        .map(|number| file(&format!("s{number}/f")))
        .collect();
    let error = listing(&[&lower, &upper])
        .expect_err("too much")
        .to_string();
    assert!(error.contains("too much memory"), "{error}");
}

#[test]
fn the_root_is_made_by_who_unpacks() {
    let root = Entry {
        mode: 0o1700,
        ..directory("")
    };
    let found = inode(&[std::slice::from_ref(&root), &[file("a")]], &[]);
    assert_eq!((found.mode, found.uid, found.gid), (0o755, 0, 0));
    assert_eq!(found.mtime, root.mtime);
}

#[test]
fn attributes_come_from_the_topmost_entry_and_overlay_ones_are_hidden() {
    let private = (b"trusted.overlay.opaque"[..].into(), b"y"[..].into());
    let plain: Xattr = (b"user.a"[..].into(), b"1"[..].into());
    let lower = [
        Entry {
            mode: 0o700,
            ..directory("d")
        },
        file("d/a"),
    ];
    let upper = [Entry {
        mode: 0o1777,
        xattrs: vec![private, plain.clone()],
        ..directory("d")
    }];
    let implied = [file("d/b")];
    let layers: Vec<_> = [&lower[..], &upper, &implied]
        .map(|entries| decode(index(entries, &[], 1)))
        .into();
    let tree = Tree::merge(&layers).expect("merges");
    let d = tree
        .inode(tree.lookup(tree.root(), b"d").expect("there"))
        .expect("numbered");
    assert_eq!((d.mode, &*d.xattrs), (0o1777, &[plain][..]));
}
