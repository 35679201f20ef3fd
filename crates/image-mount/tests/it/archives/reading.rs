//! Cases of reading one archive. The table has a row for every way in which a header, an extended
//! header, an attribute or an end can be odd; peers that agree are followed unless what they agree
//! on is no sense, which another reader would not share.

use super::Peers::{Agree, BothRefuse, Differ, OnlyContainerd};
use super::{Case, case, directory, file, marker, raw};
use crate::archive::Member;
use crate::generator::{ACCESS_LIST, CAPABILITY};

// Where fields of a header begin.
const MODE: usize = 100;
const USER: usize = 108;
const SIZE: usize = 124;
const KIND: usize = 156;

/// Headers: names, types and numbers.
pub(super) fn headers() -> Vec<Case> {
    let global = |key: &str| {
        let record = file("x").record(key, "5").bytes();
        // The extended header alone, made global.
        let content = record[512..512 + 512].to_vec();
        let length = content.iter().position(|byte| *byte == 0).unwrap();
        let mut member = Member::file("pax_global_header", &content[..length]);
        member = member.patch(KIND, "g");
        member
    };
    let number = Some("that is no number");
    vec![
        case(
            "type 7",
            BothRefuse,
            Some("unknown type"),
            &[Member::of(b'7', "a")],
        ),
        case(
            "type V",
            BothRefuse,
            Some("unknown type"),
            &[Member::of(b'V', "a")],
        ),
        case(
            "slash, type 0",
            Agree,
            Some("name of a directory"),
            &[file("a/")],
        ),
        case(
            "slash, no type",
            Agree,
            None,
            &[marker("a/").patch(KIND, [0]).old()],
        ),
        case(
            "slash, content",
            BothRefuse,
            Some("name of a directory"),
            &[file("a/").patch(KIND, [0]).old()],
        ),
        case("no type", Agree, None, &[file("a").patch(KIND, [0]).old()]),
        case(
            "NUL in a name",
            Agree,
            None,
            &[file("a").patch(1, b"\0rest")],
        ),
        case(
            "NUL in a record",
            BothRefuse,
            Some("a path"),
            &[file("z").record("path", "a\0b")],
        ),
        case(
            "NUL in a long name",
            Agree,
            Some("zero byte"),
            &[Member::long(b'L', "a\0b\0"), file("z")],
        ),
        case(
            "a long name",
            Agree,
            None,
            &[Member::long(b'L', "a\0"), file("z").gnu()],
        ),
        case(
            "a long link",
            Agree,
            None,
            &[Member::long(b'K', "t\0"), Member::symlink("a", "z").gnu()],
        ),
        case(
            "two long names",
            Agree,
            Some("duplicate"),
            &[
                Member::long(b'L', "a\0"),
                Member::long(b'L', "b\0"),
                file("z"),
            ],
        ),
        case(
            "long name and record",
            Agree,
            Some("two long forms"),
            &[Member::long(b'L', "a\0"), file("z").record("path", "b")],
        ),
        case("prefix", Agree, None, &[file("a").patch(345, "dir")]),
        case(
            "prefix, version 1",
            Agree,
            Some("unknown version"),
            &[file("a").patch(345, "dir").patch(263, "01")],
        ),
        case(
            "prefix, version of GNU",
            Agree,
            Some("unknown version"),
            &[file("a").patch(345, "dir").patch(263, "  ")],
        ),
        case(
            "prefix of star",
            Agree,
            Some("star"),
            &[file("a").patch(345, "dir").patch(508, "tar\0")],
        ),
        case(
            "size, negative",
            BothRefuse,
            Some("invalid entry size"),
            &[marker("a").patch(SIZE, [0xff; 12])],
        ),
        case(
            "size, too wide",
            BothRefuse,
            number,
            &[marker("a").patch(SIZE, b"\x80\x01\0\0\0\0\0\0\0\0\0\0")],
        ),
        case(
            "mode, negative",
            Agree,
            Some("mode that is negative"),
            &[marker("a").patch(MODE, [0xff; 8])],
        ),
        case(
            "mode, signed",
            BothRefuse,
            number,
            &[marker("a").patch(MODE, "+000644\0")],
        ),
        case(
            "mode after a NUL",
            Agree,
            number,
            &[marker("a").patch(MODE, "\x000644 \0\0")],
        ),
        case(
            "user, negative",
            Agree,
            Some("user id that is negative"),
            &[marker("a").patch(USER, [0xff; 8])],
        ),
        case(
            "user, too high",
            Agree,
            Some("user id 4294967301"),
            &[marker("a").patch(USER, b"\x80\0\0\x01\0\0\0\x05")],
        ),
        case(
            "user, no change",
            Agree,
            Some("user id 4294967295"),
            &[marker("a").patch(USER, b"\x80\0\0\0\xff\xff\xff\xff")],
        ),
        case(
            "user, high",
            Agree,
            None,
            &[marker("a").owner(4_294_967_294, 3_000_000_000)],
        ),
        case(
            "device, too high",
            Agree,
            Some("cannot number"),
            &[Member::device(b'3', "a", 4096, 1)],
        ),
        case(
            "device, highest",
            Agree,
            None,
            &[Member::device(b'3', "a", 0xfff, 0xf_ffff)],
        ),
        case(
            "hard link with a size",
            Agree,
            None,
            &[file("t"), Member::hard_link("l", "t").size(5), file("b")],
        ),
        case(
            "hard link with content",
            BothRefuse,
            Some("invalid octal field"),
            &[
                file("t"),
                Member::hard_link("l", "t").size(5),
                Member::file("", "").patch(0, "hello").patch(MODE, "hello"),
                file("b"),
            ],
        ),
        case(
            "directory with a size",
            Agree,
            None,
            &[directory("d").size(5), file("b")],
        ),
        case(
            "symlink with a size",
            Agree,
            None,
            &[Member::symlink("l", "t").size(5), file("b")],
        ),
        case(
            "mode of a symlink",
            Agree,
            None,
            &[Member::symlink("l", "t").mode(0o600)],
        ),
        case(
            "empty symlink",
            BothRefuse,
            Some("bad target"),
            &[Member::symlink("l", "")],
        ),
        case(
            "global comment",
            OnlyContainerd,
            Some("for all members"),
            &[global("comment"), file("a")],
        ),
        case(
            "global time",
            OnlyContainerd,
            Some("for all members"),
            &[global("mtime"), file("a")],
        ),
    ]
}

/// Extended headers: numbers, times, attributes and sparse maps.
pub(super) fn records() -> Vec<Case> {
    let record = |key: &str, value: &str| vec![file("a").record(key, value)];
    let sparse = || Member::sparse("a", &[(1024, b"part")], 5000);
    let by_record = || Member::sparse_by_record("a", &[(1024, b"part")], 5000);
    let differently = Some("understand differently");
    let time = Some("mtime");
    vec![
        case(
            "size by record",
            Agree,
            None,
            &[file("a").size(0).record("size", "1"), file("b")],
        ),
        case(
            "two sizes",
            Agree,
            None,
            &[file("a").size(9).record("size", "1"), file("b")],
        ),
        case("bad size", BothRefuse, Some("size"), &record("size", "x")),
        case("bad user", BothRefuse, Some("uid"), &record("uid", "x")),
        case("signed user", Agree, Some("uid"), &record("uid", "+7")),
        case("negative user", Agree, Some("uid"), &record("uid", "-1")),
        case("no user", Agree, None, &record("uid", "")),
        case("no time", Agree, None, &record("mtime", "")),
        case("no path", Agree, Some("a path"), &record("path", "")),
        case("time with a point", Agree, None, &record("mtime", "5.")),
        case("time of a part", BothRefuse, time, &record("mtime", ".5")),
        case("bad time", BothRefuse, time, &record("mtime", "1.2x")),
        case("signed time", Agree, time, &record("mtime", "+5")),
        case(
            "last time",
            Agree,
            None,
            &record("mtime", "9223372036.854775807"),
        ),
        case(
            "after the last time",
            Differ,
            None,
            &record("mtime", "9223372036.854775808"),
        ),
        case(
            "before the first time",
            Differ,
            None,
            &record("mtime", "-1.5"),
        ),
        case("negative time", Differ, None, &[file("a").seconds(-7)]),
        case("access time", Agree, None, &record("atime", "5.5")),
        case("bad access time", BothRefuse, time, &record("atime", "x")),
        case("bad change time", BothRefuse, time, &record("ctime", "x")),
        case(
            "NUL in a user's name",
            BothRefuse,
            Some("a name"),
            &record("uname", "a\0b"),
        ),
        case("no key", BothRefuse, Some("a key"), &record("", "x")),
        case(
            "no attribute",
            BothRefuse,
            Some("a key"),
            &record("SCHILY.xattr.", "x"),
        ),
        case(
            "more than records",
            BothRefuse,
            Some("more than records"),
            &[
                Member::file("PaxHeaders/a", "9 path=a\n\0\0\0").patch(KIND, "x"),
                file("z"),
            ],
        ),
        case(
            "LIBARCHIVE",
            Agree,
            None,
            &record("LIBARCHIVE.xattr.user.a", "YmxhCg"),
        ),
        case(
            "two extended headers",
            Agree,
            Some("duplicate"),
            &[
                Member::file("PaxHeaders/a", "9 path=a\n").patch(KIND, "x"),
                file("z").record("path", "b"),
            ],
        ),
        case("sparse", Agree, None, &[sparse(), file("b")]),
        case("sparse by record", Agree, None, &[by_record(), file("b")]),
        case(
            "sparse with a size",
            Agree,
            None,
            &[sparse().record("size", "516"), file("b")],
        ),
        case(
            "sparse with small parts",
            Agree,
            Some("do not fill their blocks"),
            &[Member::sparse("a", &[(0, b"one"), (2000, b"two")], 5000)],
        ),
        case(
            "sparse past its end",
            BothRefuse,
            Some("past its end"),
            &[Member::sparse("a", &[(4999, b"part")], 5000)],
        ),
        case(
            "sparse out of order",
            BothRefuse,
            Some("out of order"),
            &[Member::sparse(
                "a",
                &[(2000, b"part"), (1000, b"part")],
                5000,
            )],
        ),
        case(
            "sparse with too much",
            BothRefuse,
            Some("belong to no part"),
            &[by_record().size(600).patch(0, "a"), Member::file("pad", "")],
        ),
        case(
            "sparse with too little",
            BothRefuse,
            Some("more parts than bytes"),
            &[by_record().size(3)],
        ),
        case(
            "sparse parts miscounted",
            BothRefuse,
            differently,
            &[by_record().record("GNU.sparse.numblocks", "9")],
        ),
        case(
            "sparse of a future version",
            Agree,
            differently,
            &[sparse().record("GNU.sparse.major", "2")],
        ),
        case(
            "sparse directory",
            BothRefuse,
            differently,
            &[sparse().patch(KIND, "5")],
        ),
    ]
}

pub(super) fn attributes() -> Vec<Case> {
    let on = |member: Member, name: &str, value: &[u8]| vec![member.xattr(name, value)];
    let link = || Member::symlink("l", "t");
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let nowhere = Some("neither file nor directory");
    vec![
        case("user", Agree, None, &on(file("a"), "user.a", b"1")),
        case("user, empty", Differ, None, &on(file("a"), "user.a", b"")),
        case(
            "user, no name",
            BothRefuse,
            Some("no name"),
            &on(file("a"), "user.", b"1"),
        ),
        case(
            "user, twice",
            Agree,
            None,
            &[file("a").xattr("user.a", "1").xattr("user.a", "2")],
        ),
        case(
            "user on a symlink",
            OnlyContainerd,
            nowhere,
            &on(link(), "user.a", b"1"),
        ),
        case(
            "user on a fifo",
            OnlyContainerd,
            nowhere,
            &on(Member::of(b'6', "f"), "user.a", b"1"),
        ),
        case("trusted", Differ, None, &on(file("a"), "trusted.a", b"1")),
        case(
            "trusted.overlay",
            Agree,
            None,
            &on(directory("d"), "trusted.overlay.opaque", b"y"),
        ),
        case("unknown", Agree, None, &on(file("a"), "other.a", b"1")),
        case("system", Agree, None, &on(file("a"), "system.a", b"1")),
        case("security", Agree, None, &on(file("a"), "security.a", b"1")),
        case(
            "security on a symlink",
            Agree,
            None,
            &on(link(), "security.a", b"1"),
        ),
        case(
            "capability",
            Agree,
            None,
            &on(file("a"), "security.capability", CAPABILITY),
        ),
        case(
            "bad capability",
            BothRefuse,
            Some("no set of capabilities"),
            &on(file("a"), "security.capability", b"x"),
        ),
        case(
            "list",
            Agree,
            None,
            &on(file("a").mode(0o640), access, ACCESS_LIST),
        ),
        case(
            "list and mode",
            Differ,
            Some("another mode"),
            &on(file("a"), access, ACCESS_LIST),
        ),
        case(
            "list on a symlink",
            Agree,
            None,
            &on(link(), access, ACCESS_LIST),
        ),
        case(
            "bad list",
            BothRefuse,
            Some("no access control"),
            &on(file("a"), access, b"x"),
        ),
        case(
            "default list",
            Agree,
            None,
            &on(directory("d"), default, ACCESS_LIST),
        ),
        case(
            "default list on a file",
            BothRefuse,
            Some("not on a directory"),
            &on(file("a"), default, ACCESS_LIST),
        ),
        case(
            "below a default list",
            Differ,
            Some("default access control list"),
            &[directory("d").xattr(default, ACCESS_LIST), file("d/a")],
        ),
    ]
}

/// Where an archive may end.
pub(super) fn ends() -> Vec<Case> {
    let (one, two) = (file("a").bytes(), file("b").bytes());
    let zeros = [0; 1024];
    let cut = Some("ends inside a member");
    let extended = Member::symlink("a", "t").record("comment", "x").bytes();
    vec![
        raw("nothing", Agree, None, &[]),
        raw("no end", Agree, None, &[&one]),
        raw("one zero block", Agree, None, &[&one, &zeros[..512]]),
        raw(
            "data after the end",
            Agree,
            None,
            &[&one, &zeros, &two, b"and more"],
        ),
        raw(
            "a zero block between",
            BothRefuse,
            Some("zero block between"),
            &[&one, &zeros[..512], &two, &zeros],
        ),
        raw(
            "a zero block between headers",
            BothRefuse,
            Some("zero block between"),
            &[&extended[..1024], &zeros[..512], &extended[1024..], &zeros],
        ),
        raw(
            "part of a zero block",
            BothRefuse,
            cut,
            &[&one, &zeros[..100]],
        ),
        raw(
            "a zero block and a part",
            BothRefuse,
            cut,
            &[&one, &zeros[..612]],
        ),
        raw("part of a header", BothRefuse, cut, &[&one, &two[..300]]),
        raw(
            "part of a content",
            BothRefuse,
            cut,
            &[&file("a").size(2).bytes()[..513]],
        ),
        raw("no padding", Agree, None, &[&one[..513]]),
        raw("part of the padding", Agree, None, &[&one[..700]]),
    ]
}
