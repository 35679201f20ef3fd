//! Layers that attack: by their archive, their compression, or the tree that they make. Refused by
//! name within bounds and with nothing stored, or shown as the data that they are.

use std::path::Path;
use std::process::Child;

use e2e::Home;
use e2e::image::busybox;
use registry_sim::{Entry, ImageBuilder, Layer, RegistrySim};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::bounds::{self, Expected, indexes, refuses};
use crate::support::{noise, signal, wait_for_error_line};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// One member of an archive, whose header may say anything.
struct Member {
    header: [u8; 512],
    content: Vec<u8>,
}

impl Member {
    fn new(kind: u8, name: &[u8], content: impl Into<Vec<u8>>) -> Self {
        let mut header = [0; 512];
        let content = content.into();
        header[..name.len()].copy_from_slice(name);
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let size = content.len() as u64;
        Self { header, content }.size(size)
    }

    fn file(name: &str) -> Self {
        Self::new(b'0', name.as_bytes(), *b"content")
    }

    /// An extended header of these records, for the member that follows.
    fn pax(records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (name, value) in records {
            let rest = name.len() + value.len() + 3;
            let digits = |length: usize| length.to_string().len();
            let length = rest + digits(rest + digits(rest));
            content.extend_from_slice(format!("{length} {name}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        Self::new(b'x', b"pax", content)
    }

    fn link(mut self, target: &[u8]) -> Self {
        self.header[157..157 + target.len()].copy_from_slice(target);
        self
    }

    /// The size that the header claims.
    fn size(mut self, size: u64) -> Self {
        self.header[124..136].fill(0);
        if size < 1 << 33 {
            self.header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        } else {
            self.header[124] = 0x80;
            self.header[128..136].copy_from_slice(&size.to_be_bytes());
        }
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        self.header[148..156].fill(b' ');
        let sum: u32 = self.header.iter().map(|byte| u32::from(*byte)).sum();
        self.header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let padding = self.content.len().next_multiple_of(512) - self.content.len();
        [&self.header[..], &self.content, &vec![0; padding]].concat()
    }
}

fn archive(members: Vec<Member>) -> Vec<u8> {
    let members = members.into_iter().map(Member::bytes);
    members.chain([vec![0; 1024]]).collect::<Vec<_>>().concat()
}

fn layer(members: Vec<Member>) -> Layer {
    Layer::gzip_of(&archive(members))
}

/// The bytes of a gzip layer.
fn gzip(archive: &[u8]) -> Vec<u8> {
    let image = ImageBuilder::new().layer(Layer::gzip_of(archive)).build();
    image.layers[0].bytes.to_vec()
}

type Case = (&'static str, (Layer, Expected));

fn case(name: &'static str, kind: &'static str, says: &'static str, layer: Layer) -> Case {
    (name, (layer, Expected { kind, says }))
}

/// Each image is refused in a home of its own; afterwards another one is indexed as ever.
fn check_all(cases: Vec<Case>) {
    let runtime = Runtime::new().expect("a runtime");
    let registry = runtime.block_on(RegistrySim::anonymous());
    registry.push(
        "acme/honest",
        "v1",
        &ImageBuilder::new()
            .layer(layer(vec![Member::file("a")]))
            .build(),
    );
    let honest = format!("{}/acme/honest:v1", registry.host());
    bounds::all(cases, |(layer, expected)| {
        let image = ImageBuilder::new().layer(layer).build();
        let tag = image.digest.replace("sha256:", "v");
        registry.push("acme/hostile", &tag, &image);
        let home = Home::new();
        refuses(
            &home,
            &format!("{}/acme/hostile:{tag}", registry.host()),
            expected,
        )?;
        indexes(&home, &honest)
    });
}

/// A member behind an extended header of one record.
fn with_record(name: &str, value: &[u8], member: Member) -> Layer {
    layer(vec![Member::pax(&[(name, value)]), member])
}

#[test]
fn names_that_lead_astray_are_refused() {
    let named = |name: &str| layer(vec![Member::file(name)]);
    let linked = |target: &[u8]| layer(vec![Member::new(b'1', b"a", b"").link(target)]);
    let in_a_record = |path: &[u8]| with_record("path", path, Member::file("a"));
    let long_name = Member::new(b'L', b"././@LongLink", b"name\0").size(4 << 30);
    let long_header = Member::new(b'x', b"pax", b"").size(4 << 30);
    let path = "d/".repeat(2049);
    check_all(vec![
        case(
            "above the root",
            "corrupt",
            "climbs out of the root",
            named("../../etc/x"),
        ),
        case(
            "up in the middle",
            "corrupt",
            "climbs out",
            named("a/../../x"),
        ),
        case(
            "a link above the root",
            "corrupt",
            "climbs out",
            linked(b"../../etc/shadow"),
        ),
        case(
            "a whiteout of the parent",
            "corrupt",
            "whiteout of nothing",
            named("d/.wh..."),
        ),
        case("a long component", "corrupt", "", in_a_record(&[b'n'; 256])),
        case("a long path", "corrupt", "", in_a_record(path.as_bytes())),
        case(
            "4 GiB of it",
            "corrupt",
            "",
            layer(vec![long_name, Member::file("a")]),
        ),
        case(
            "4 GiB of a header",
            "corrupt",
            "",
            layer(vec![long_header, Member::file("a")]),
        ),
    ]);
}

#[test]
fn headers_that_lie_are_refused() {
    let sized = |size: &[u8]| with_record("size", size, Member::file("a"));
    let too_short = layer(vec![Member::file("a").size(1 << 20)]);
    let beyond_all = vec![Member::file("a").size(u64::MAX / 2 + 1), Member::file("b")];
    let unknown = layer(vec![Member::new(b'Z', b"a", b"")]);
    let owner = with_record("uid", b"4294967296", Member::file("a"));
    let mut wrong_sum = archive(vec![Member::file("a")]);
    wrong_sum[150] ^= 1;
    check_all(vec![
        case("a smaller size in the record", "corrupt", "", sized(b"0")),
        case(
            "a larger size in the record",
            "corrupt",
            "",
            sized(b"1000000"),
        ),
        case(
            "a size that is no number",
            "corrupt",
            "cannot be used",
            sized(b"-1"),
        ),
        case(
            "a size beyond all",
            "corrupt",
            "is no number",
            layer(beyond_all),
        ),
        case(
            "more content than there is",
            "corrupt",
            "ends inside a member",
            too_short,
        ),
        case(
            "a wrong checksum",
            "corrupt",
            "",
            Layer::gzip_of(&wrong_sum),
        ),
        case("an unknown kind", "corrupt", "unknown type", unknown),
        case("an owner beyond all", "corrupt", "user id", owner),
    ]);
}

#[test]
fn attributes_and_sparse_maps_that_lie_are_refused() {
    let attribute = |name: &str, length: usize| {
        let name = format!("SCHILY.xattr.user.{name}");
        with_record(&name, &vec![b'x'; length], Member::file("a"))
    };
    let names: Vec<String> = (0..1100)
        .map(|number| format!("SCHILY.xattr.user.{number}"))
        .collect();
    let many: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"x"[..]))
        .collect();
    let sparse = |map: &str| {
        let records = [
            ("GNU.sparse.major", &b"0"[..]),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        layer(vec![Member::pax(&records), Member::file("sparse")])
    };
    check_all(vec![
        case("a huge one", "corrupt", "", attribute("a", 70_000)),
        case("a long name", "corrupt", "", attribute(&"n".repeat(300), 1)),
        case(
            "a thousand",
            "corrupt",
            "",
            layer(vec![Member::pax(&many), Member::file("a")]),
        ),
        case("overlapping parts", "corrupt", "", sparse("0,5,3,2")),
        case("parts beyond the end", "corrupt", "", sparse("0,5,99,2")),
        case("more parts than bytes", "corrupt", "", sparse("0,5,10,50")),
    ]);
}

/// A zstd frame: its head, and blocks of a zero that is repeated 128 KiB over.
fn zstd(head: &[u8], blocks: usize) -> Vec<u8> {
    let mut frame = [&b"\x28\xb5\x2f\xfd"[..], head].concat();
    let block = |is_last: u32| {
        let header = is_last | (1 << 1) | ((128 << 10) << 3);
        [&header.to_le_bytes()[..3], &[0][..]].concat()
    };
    for _ in 1..blocks {
        frame.extend(block(0));
    }
    frame.extend(block(1));
    frame
}

fn in_zstd(frame: Vec<u8>) -> Layer {
    Layer::compressed(ZSTD, frame, &archive(vec![Member::file("a")]))
}

#[test]
fn gzip_streams_that_lie_are_refused() {
    let noise = Member::new(b'0', b"noise", noise(5, 200 << 10));
    let honest = archive(vec![Member::file("a"), noise]);
    let good = gzip(&honest);
    let of = |bytes: Vec<u8>| Layer::compressed(GZIP, bytes, &honest);
    let changed = |from_end: usize| {
        let mut bytes = good.clone();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        of(bytes)
    };
    let cut = |bytes: usize| of(good[..bytes].to_vec());
    let followed = |by: &[u8]| of([&good[..], by].concat());
    let method = of([&[0x1f, 0x8b, 9][..], &good[3..]].concat());
    // A thousandfold, in members of which each is honest.
    let zeros = of(gzip(&vec![0; 16 << 20]).repeat(32));
    check_all(vec![
        case("cut in half", "corrupt", "", cut(good.len() / 2)),
        case("cut in its trailer", "corrupt", "", cut(good.len() - 4)),
        case("a wrong checksum", "corrupt", "", changed(8)),
        case("a wrong length", "corrupt", "", changed(4)),
        case("a wrong method", "corrupt", "", method),
        case("garbage behind it", "corrupt", "", followed(b"garbage")),
        case(
            "half a member behind it",
            "corrupt",
            "",
            followed(&good[..good.len() / 2]),
        ),
        case(
            "a member behind it",
            "corrupt",
            "uncompressed digest",
            followed(&good),
        ),
        case(
            "zeros for the archive",
            "corrupt",
            "uncompressed digest",
            zeros,
        ),
    ]);
}

#[test]
fn zstd_streams_that_lie_are_refused() {
    // Windows of 2^41 and of two million bytes, and all the content that there could be.
    let (wide, narrow): (&[u8], &[u8]) = (&[0x00, 0xf8], &[0x00, 0x58]);
    let all = [&[0xc0, 0x58][..], &u64::MAX.to_le_bytes()].concat();
    let half = zstd(narrow, 2)[..8].to_vec();
    let bomb = in_zstd(zstd(narrow, 4000));
    let plain = Layer::compressed(TAR, noise(3, 4096), b"another archive");
    check_all(vec![
        case(
            "a window of terabytes",
            "corrupt",
            "",
            in_zstd(zstd(wide, 1)),
        ),
        case("a size of all bytes", "corrupt", "", in_zstd(zstd(&all, 2))),
        case("half a frame", "corrupt", "", in_zstd(half)),
        case(
            "more than any archive",
            "unsupported",
            "decompresses to more than",
            bomb,
        ),
        case("noise for an archive", "corrupt", "", plain),
    ]);
}

#[test]
fn trees_that_cannot_be_are_refused() {
    let symlink = |name: &[u8], target: &[u8]| Member::new(b'2', name, b"").link(target);
    let link = |name: &[u8], target: &[u8]| Member::new(b'1', name, b"").link(target);
    let runtime = Runtime::new().expect("a runtime");
    let registry = runtime.block_on(RegistrySim::anonymous());
    let home = Home::new();
    let honest = format!("{}/acme/fn:honest", registry.host());
    registry.push("acme/fn", "honest", &busybox().build());
    let cases = [
        (
            "a link out of the image",
            vec![link(b"a", b"/etc/shadow")],
            "not in its layer",
        ),
        (
            "a link into another layer",
            vec![link(b"a", b"etc/passwd")],
            "not in its layer",
        ),
        (
            "links in a circle",
            vec![link(b"a", b"b"), link(b"b", b"a")],
            "not in its layer",
        ),
        (
            "a link to itself",
            vec![link(b"a", b"a")],
            "not in its layer",
        ),
        (
            "a name through a circle of links",
            vec![
                symlink(b"a", b"b"),
                symlink(b"b", b"a"),
                Member::file("a/x"),
            ],
            "too many symbolic links",
        ),
        (
            "a name below a file",
            vec![Member::file("d"), Member::file("d/x")],
            "not a directory",
        ),
        (
            "a file in the place of a directory",
            vec![Member::file("d/x"), Member::file("d")],
            "replaces a directory",
        ),
        (
            "a root that is a file",
            vec![Member::file(".")],
            "root is no directory",
        ),
    ];
    for (number, (what, members, says)) in cases.into_iter().enumerate() {
        let tag = format!("v{number}");
        registry.push("acme/fn", &tag, &busybox().layer(layer(members)).build());
        let name = format!("{}/acme/fn:{tag}", registry.host());
        let run = home.run(&["run", "--credential", "none", &name, "true"]);
        assert!(
            run.code == 125 && run.stderr.contains(says),
            "{what}: {run:?}"
        );
    }
    let next = home.run(&["run", "--credential", "none", &honest, "true"]);
    next.ok();
}

/// An image on a directory, for as long as this lives.
struct Mounted(Child);

impl Mounted {
    fn new(home: &Home, name: &str, on: &Path) -> Self {
        std::fs::create_dir(on).expect("creates");
        let on = on.to_str().expect("utf-8");
        let mut child = home.spawn(&["image", "mount", "--credential", "none", name, on]);
        wait_for_error_line(&mut child, "mounted on");
        Self(child)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        signal(&self.0, Signal::INT);
        let _ = self.0.wait();
    }
}

#[test]
fn what_the_kernel_would_obey_is_data_or_hidden() {
    let runtime = Runtime::new().expect("a runtime");
    let registry = runtime.block_on(RegistrySim::anonymous());
    let symlink = |name: &[u8], target: &[u8]| Member::new(b'2', name, b"").link(target);
    let directory = |name: &[u8]| Member::new(b'5', name, b"");
    let deep = format!("{}end", "d/".repeat(2000));
    let overlay = [
        ("SCHILY.xattr.trusted.overlay.opaque", &b"y"[..]),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ("SCHILY.xattr.user.kept", b"1"),
    ];
    let below = vec![
        directory(b"etc"),
        Member::file("etc/kept"),
        Member::file("etc/gone"),
    ];
    let above = vec![
        Member::pax(&overlay),
        directory(b"etc"),
        Member::new(b'3', b"etc/gone", b""),
        symlink(b"loop", b"pool"),
        symlink(b"pool", b"loop"),
        symlink(b"self", b"self/self"),
        symlink(b"up", b"../../../../../../etc/kept"),
        symlink(b"host", b"/proc/1/root/etc/hostname"),
        Member::file("/absolute"),
        Member::pax(&[("path", deep.as_bytes())]),
        Member::file("deep"),
    ];
    let image = ImageBuilder::new()
        .layer(layer(below))
        .layer(layer(above))
        .build();
    registry.push("acme/fn", "v1", &image);
    let home = Home::new();
    let on = home.path().join("mnt");
    let _mounted = Mounted::new(&home, &format!("{}/acme/fn:v1", registry.host()), &on);

    let names = |directory: &Path| {
        let listed = std::fs::read_dir(directory).expect("lists");
        let mut names: Vec<_> = listed
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&on.join("etc")), ["kept"]);
    assert_eq!(
        names(&on),
        ["absolute", "d", "etc", "host", "loop", "pool", "self", "up"]
    );
    let mut attributes = [0; 1000];
    let length = rustix::fs::listxattr(on.join("etc"), &mut attributes[..]).expect("lists");
    assert_eq!(&attributes[..length], b"user.kept\0");
    for name in ["loop", "self"] {
        let error = std::fs::read(on.join(name)).expect_err("a circle");
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::LOOP.raw_os_error()),
            "{name}"
        );
    }
    let target = |name: &str| std::fs::read_link(on.join(name)).expect("a link");
    assert_eq!(target("up"), Path::new("../../../../../../etc/kept"));
    assert_eq!(target("host"), Path::new("/proc/1/root/etc/hostname"));
    assert_eq!(depth(&on.join("d")), 2000);
}

/// How far one can go down. Paths of that length are no single call's.
fn depth(from: &Path) -> usize {
    use rustix::fs::{Mode, OFlags, open, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(from, flags, Mode::empty()).expect("the first");
    for levels in 1.. {
        match openat(&at, "d", flags, Mode::empty()) {
            Ok(next) => at = next,
            Err(_) => return levels,
        }
    }
    unreachable!("some directory is the last")
}

#[test]
fn links_of_an_image_end_in_its_own_root() {
    let runtime = Runtime::new().expect("a runtime");
    let registry = runtime.block_on(RegistrySim::anonymous());
    let own = Entry::file("etc/kept", "of the image\n");
    let links = [
        own,
        Entry::symlink("up", "../../../../../../etc/kept"),
        Entry::symlink("absolute", "/etc/kept"),
        Entry::symlink("climb", "/../../etc/kept"),
        Entry::symlink("host", "/etc/machine-id"),
    ];
    registry.push(
        "acme/fn",
        "v1",
        &busybox().layer(Layer::gzip(&links)).build(),
    );
    let name = format!("{}/acme/fn:v1", registry.host());
    let home = Home::new();
    let read = "cat /up /absolute /climb; cat /host || echo nothing";
    let run = home
        .run(&["run", "--credential", "none", &name, "--", "sh", "-c", read])
        .ok();
    assert_eq!(
        run.stdout, "of the image\nof the image\nof the image\nnothing\n",
        "{}",
        run.stderr
    );
}
