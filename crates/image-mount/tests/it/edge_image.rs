//! One image that holds every kind of member and every way in which a layer changes another,
//! against both oracles. What an oracle cannot express stands apart, and says why.

use std::fs;

use crate::archive::{Member, archive_of};
use crate::compare::snapshot;
use crate::containerd::Containerd;
use crate::generator::{ACCESS_LIST, CAPABILITY};
use crate::oracle::{Oracle, check_same, check_snapshot, count};
use crate::support::{Published, blocking, shell};

/// Entries of the large directory.
const MANY: usize = 60_000;

fn marker(name: &str) -> Member {
    Member::file(name, "")
}

/// Modes, owners, attributes and times.
fn attributes() -> Vec<Member> {
    vec![
        Member::directory("./").mode(0o1700).owner(5, 6),
        marker("./.wh..wh..opq"),
        Member::directory("./tmp/").mode(0o1777),
        Member::directory("./etc/").mode(0o2755).owner(0, 42),
        Member::file("./etc/setuid", "x").mode(0o4755),
        Member::file("./etc/setgid", "x").mode(0o2711).owner(1, 42),
        Member::file("./etc/capable", "x").xattr("security.capability", CAPABILITY),
        Member::file("./etc/noted", "x")
            .xattr("user.note", "text")
            .xattr("user.empty", ""),
        Member::file("./etc/listed", "x")
            .mode(0o640)
            .xattr("system.posix_acl_access", ACCESS_LIST),
        Member::directory("./etc/noted.d/").xattr("user.note", [0, 255]),
        Member::directory("./etc/default.d/").xattr("system.posix_acl_default", ACCESS_LIST),
        Member::file("./etc/trusted", "x").xattr("trusted.note", "dropped"),
        Member::file("./etc/high", "x").owner(4_294_967_294, 3_000_000_000),
        Member::file("./etc/before", "x").record("mtime", "-1.5"),
        Member::file("./etc/negative", "x").seconds(-7),
        Member::file("./etc/exact", "x").record("mtime", "1234567890.123456789"),
        Member::file("./etc/last", "x").record("mtime", "9223372036.854775807"),
        Member::file("./etc/past", "x").record("mtime", "10413792000"),
    ]
}

/// Names, links, devices and holes.
fn kinds() -> Vec<Member> {
    let long = "n".repeat(255);
    let deep = vec!["deep"; 60].join("/");
    vec![
        Member::file("usr/bin/tool", "tool").mode(0o755),
        Member::hard_link("usr/bin/again", "usr/bin/tool").mode(0o755),
        Member::hard_link("usr/bin/more", "usr/bin/again")
            .mode(0o755)
            .size(4),
        Member::symlink("usr/bin/link", "../../nowhere"),
        Member::hard_link("usr/bin/link.2", "usr/bin/link"),
        Member::directory("usr/lib/").mode(0o711),
        Member::symlink("lib", "usr/lib"),
        Member::file("lib/through", "x"),
        Member::symlink("absolute", "/usr/lib"),
        Member::symlink("long", "t".repeat(300)),
        Member::file(&long, "x"),
        Member::file(format!("{deep}/file"), "x"),
        Member::long(b'L', "g".repeat(200) + "\0"),
        Member::file("cut", "x").gnu(),
        Member::long(b'K', "k".repeat(200) + "\0"),
        Member::symlink("gnu.link", "cut").gnu(),
        Member::file(b"caf\xe9\xff", "x"),
        Member::file("two\nlines", "x"),
        Member::file("A", "x"),
        Member::file("a", "x"),
        Member::device(b'3', "dev/null", 1, 3).mode(0o666),
        Member::device(b'4', "dev/disk", 259, 70_000),
        Member::of(b'6', "dev/fifo").mode(0o600),
        Member::of(b'5', "old.d/").old(),
        marker("old.slash/").patch(156, [0]).old(),
        Member::file("old.file", "x").patch(156, [0]).old(),
        Member::sparse(
            "holes",
            &[(4096, &[1; 512]), (100_000, &[2; 700])],
            5_000_000,
        ),
        Member::sparse_by_record("holes.2", &[(0, &[3; 512]), (9999, b"end")], 10_002),
        Member::sparse("hole", &[], 1 << 22),
        Member::file("twice", "first").mode(0o600),
        Member::file("twice", "second"),
        Member::directory("again.d/").mode(0o700),
        Member::file("again.d/x", "x"),
        Member::directory("again.d/").mode(0o711).seconds(99),
        marker("empty"),
    ]
}

/// What the layers above change.
fn to_be_changed() -> Vec<Member> {
    vec![
        Member::file("change/file", "low"),
        Member::file("change/to.link", "low"),
        Member::directory("change/to.file/").mode(0o700),
        Member::file("change/to.file/x", "low"),
        Member::directory("change/opaque/").owner(7, 8),
        Member::file("change/opaque/x", "low"),
        Member::file("change/linked", "low"),
        Member::hard_link("change/linked.2", "change/linked"),
        Member::directory("change/gone/"),
        Member::file("change/gone/x", "low"),
        Member::directory("change/kept/")
            .mode(0o700)
            .owner(7, 8)
            .xattr("user.a", "1"),
        marker("change/opaque/.wh..wh..opq"),
        marker("change/.wh.absent"),
    ]
}

fn layers() -> Vec<Vec<u8>> {
    let many = (0..MANY).map(|number| marker(&format!("many/entry-{number}")));
    let base = [attributes(), kinds(), to_be_changed(), many.collect()].concat();
    let changes = [
        marker("change/.wh.file"),
        Member::file("change/file", "whiteout first"),
        Member::symlink("change/to.link", "file"),
        Member::file("change/to.file", "a file"),
        marker("change/opaque/.wh..wh..opq"),
        Member::file("change/opaque/y", "up"),
        marker("change/.wh.linked.2"),
        marker("change/.wh.gone"),
        marker("change/.wh.never"),
        Member::file("change/kept/y", "up"),
        // The symbolic link of the layer below becomes a directory.
        Member::file("lib/above", "x"),
        marker("many/.wh.entry-7"),
    ];
    let again = [
        Member::directory("change/to.file/").mode(0o750),
        Member::file("change/to.file/y", "back"),
        Member::file("change/gone/y", "back"),
        Member::directory("change/opaque/z/"),
        Member::directory("usr/").mode(0o751),
    ];
    let empty = [];
    [&base[..], &changes, &empty, &again]
        .map(archive_of)
        .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_image_is_what_both_oracles_make_of_it() {
    let archives = layers();
    let image = Published::new(&archives).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let expected = Containerd::start().unpack(&archives).unwrap();
        assert!(expected.len() > MANY, "{} paths", expected.len());
        check_snapshot(&expected, &mountpoint);
        let oracle = Oracle::new(&archives);
        assert!(count(&oracle) > MANY);
        check_same(&oracle, &mountpoint);
    })
    .await;
    mounted.stop().await;
}

/// GNU's old form has a type of its own, which Go's reader hands on and no unpacker in Go knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_sparse_files_are_what_tar_makes_of_them() {
    let directory = tempfile::TempDir::new().unwrap();
    shell(
        directory.path(),
        "mkdir root; cd root; truncate -s 3M holes; truncate -s 1M hole
         for at in $(seq 0 40000 2900000); do
             printf part | dd of=holes bs=1 seek=$at conv=notrunc status=none
         done
         tar --create --file=../layer.tar --format=gnu --sparse --numeric-owner .",
    );
    let archives = [fs::read(directory.path().join("layer.tar")).unwrap()];
    let image = Published::new(&archives).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let refused = Containerd::start().unpack(&archives).unwrap_err();
        assert!(
            refused.contains("unhandled tar header type 83"),
            "{refused}"
        );
        let oracle = Oracle::new(&archives);
        assert!(snapshot(&mountpoint).unwrap().len() == 3);
        check_same(&oracle, &mountpoint);
    })
    .await;
    mounted.stop().await;
}
