//! Cases of applying layers: what an entry does to what is there, in its own layer and below.

use super::Peers::{Agree, BothRefuse, Differ, OnlyContainerd, OnlyUmoci};
use super::{Case, case, directory, file, layered, marker};
use crate::archive::Member;
use crate::generator::CAPABILITY;

/// How a layer is applied: names, links and what stands in the way.
pub(super) fn applied() -> Vec<Case> {
    let link = Member::hard_link;
    let symlink = |name: &str, target: &str| Member::symlink(name, target);
    let missing = Some("not in its layer");
    let parent = Some("a parent is not a directory");
    let replaces = Some("replaces a directory");
    let root = Some("climbs out of the root");
    let links = Some("lead to different places");
    let private = || directory("d").mode(0o700).owner(5, 6);
    vec![
        case(
            "root",
            Differ,
            None,
            &[directory("./").mode(0o1700).owner(5, 6), file("a")],
        ),
        case(
            "root as a file",
            OnlyContainerd,
            Some("root is no directory"),
            &[file(".")],
        ),
        case("climbs", Agree, root, &[file("../a")]),
        case("absolute", Agree, None, &[file("/a")]),
        case("dots", Agree, None, &[file("./b/../a//./c")]),
        case(
            "link that climbs",
            Agree,
            root,
            &[file("t"), link("l", "../t")],
        ),
        case("absolute link", Agree, None, &[file("t"), link("l", "/t")]),
        case(
            "link to itself",
            BothRefuse,
            missing,
            &[file("t"), link("t", "t")],
        ),
        case("link to nothing", BothRefuse, missing, &[link("l", "t")]),
        case(
            "link to what comes",
            BothRefuse,
            missing,
            &[link("l", "t"), file("t")],
        ),
        case(
            "link to a directory",
            BothRefuse,
            missing,
            &[directory("t"), link("l", "t")],
        ),
        layered(
            "link to a layer below",
            OnlyUmoci,
            missing,
            &[&[file("t")], &[link("l", "t")]],
        ),
        case(
            "link to a symlink",
            Agree,
            None,
            &[symlink("s", "t"), link("l", "s")],
        ),
        case(
            "link through a symlink",
            Agree,
            None,
            &[
                directory("d"),
                file("d/t"),
                symlink("s", "d"),
                link("l", "s/t"),
            ],
        ),
        case(
            "attributes of a link",
            Differ,
            None,
            &[
                file("t").mode(0o4755),
                link("l", "t").mode(0o600).owner(7, 8).seconds(5),
            ],
        ),
        case(
            "capability and a link",
            Differ,
            None,
            &[
                file("t").xattr("security.capability", CAPABILITY),
                link("l", "t"),
            ],
        ),
        case(
            "file twice",
            Agree,
            None,
            &[file("a"), Member::file("a", "yy")],
        ),
        case(
            "directory twice",
            Agree,
            None,
            &[
                directory("d").mode(0o700),
                file("d/a"),
                directory("d").seconds(9),
            ],
        ),
        case(
            "file, then directory",
            Agree,
            None,
            &[file("a"), directory("a")],
        ),
        case(
            "directory, then file",
            Differ,
            replaces,
            &[directory("d").seconds(9), file("d")],
        ),
        case(
            "directory, then symlink",
            Differ,
            replaces,
            &[directory("b"), directory("d").seconds(9), symlink("d", "b")],
        ),
        case(
            "below a symlink",
            Agree,
            None,
            &[directory("u"), symlink("l", "u"), file("l/a")],
        ),
        case(
            "below an absolute symlink",
            Agree,
            None,
            &[symlink("l", "/u/v"), file("l/a")],
        ),
        case(
            "below a climbing symlink",
            Agree,
            None,
            &[directory("u"), symlink("u/l", "../../../v"), file("u/l/a")],
        ),
        case(
            "below a link to a link and back",
            Differ,
            links,
            &[
                directory("a/a/b"),
                symlink("a/b", "../a"),
                symlink("b", "a/b"),
                file("b/b/b/c"),
            ],
        ),
        case(
            "below a link that goes back after a link",
            Agree,
            None,
            &[
                directory("e/f"),
                directory("e/x"),
                directory("x"),
                symlink("d", "e/f"),
                symlink("l", "d/../x"),
                file("l/y"),
            ],
        ),
        case(
            "below a loop",
            BothRefuse,
            Some("too many symbolic links"),
            &[symlink("a", "b"), symlink("b", "a"), file("a/x")],
        ),
        case(
            "below a file",
            BothRefuse,
            parent,
            &[file("a"), file("a/b")],
        ),
        layered(
            "below a symlink of a lower layer",
            Differ,
            None,
            &[
                &[
                    directory("usr"),
                    directory("usr/lib").mode(0o711),
                    symlink("lib", "usr/lib"),
                ],
                &[file("lib/x")],
            ],
        ),
        layered(
            "below a file of a lower layer",
            OnlyContainerd,
            None,
            &[&[file("a")], &[file("a/b")]],
        ),
        layered(
            "implied",
            Agree,
            None,
            &[&[private(), file("d/a")], &[file("d/b")]],
        ),
        layered(
            "implied, hidden below",
            Differ,
            None,
            &[
                &[private(), directory("d/e").mode(0o711)],
                &[marker("d/.wh..wh..opq")],
                &[file("d/e/f")],
            ],
        ),
        layered(
            "implied, replaced below",
            BothRefuse,
            parent,
            &[
                &[private(), directory("d/e")],
                &[file("d")],
                &[file("d/e/f")],
            ],
        ),
        case(
            "implied in a shared directory",
            Differ,
            None,
            &[directory("d").mode(0o2775).owner(0, 9), file("d/e/f")],
        ),
        layered(
            "nothing in between",
            Agree,
            None,
            &[&[file("a")], &[], &[file("b")]],
        ),
    ]
}

/// What hides, and what it says of its own layer.
pub(super) fn whiteouts() -> Vec<Case> {
    let own = Some("its own layer has");
    let low = || [directory("d"), file("d/low")];
    let opaque = || marker("d/.wh..wh..opq");
    vec![
        layered("whiteout", Agree, None, &[&low(), &[marker(".wh.d")]]),
        layered(
            "whiteout of nothing",
            Agree,
            None,
            &[&[file("q")], &[marker(".wh.a")]],
        ),
        layered(
            "whiteout in nothing",
            Differ,
            None,
            &[&[file("q")], &[marker("x/.wh.a")]],
        ),
        layered(
            "whiteout, then file",
            Agree,
            None,
            &[&[file("a")], &[marker(".wh.a"), Member::file("a", "new")]],
        ),
        layered(
            "file, then whiteout",
            OnlyUmoci,
            own,
            &[&[file("a")], &[file("a"), marker(".wh.a")]],
        ),
        case(
            "file, then whiteout, alone",
            Differ,
            own,
            &[file("a"), marker(".wh.a")],
        ),
        layered(
            "whiteout twice",
            OnlyUmoci,
            own,
            &[&[file("a")], &[marker(".wh.a"), marker(".wh.a")]],
        ),
        layered(
            "whiteout, then directory",
            Differ,
            None,
            &[&low(), &[marker(".wh.d"), directory("d"), file("d/up")]],
        ),
        layered(
            "whiteout, then below it",
            OnlyUmoci,
            Some("not a directory"),
            &[&low(), &[marker(".wh.d"), file("d/up")]],
        ),
        layered("opaque", Agree, None, &[&low(), &[opaque(), file("d/up")]]),
        layered(
            "opaque at last",
            Agree,
            None,
            &[&low(), &[file("d/x/y"), opaque()]],
        ),
        case(
            "opaque, alone",
            Agree,
            None,
            &[directory("d"), file("d/a"), opaque()],
        ),
        case(
            "opaque, alone, implied",
            Differ,
            Some("no entry names"),
            &[file("d/x/y"), opaque()],
        ),
        layered(
            "opaque root",
            Differ,
            Some("opaque root"),
            &[&low(), &[marker(".wh..wh..opq")]],
        ),
        case(
            "opaque root, alone",
            Agree,
            None,
            &[file("a"), marker(".wh..wh..opq")],
        ),
        layered(
            "opaque through a symlink",
            Agree,
            None,
            &[
                &low(),
                &[
                    directory("d"),
                    Member::symlink("l", "d"),
                    marker("l/.wh..wh..opq"),
                ],
            ],
        ),
        layered(
            "device 0:0",
            Differ,
            None,
            &[&[file("a")], &[Member::device(b'3', "a", 0, 0)]],
        ),
        layered(
            "device 0:0, linked",
            Differ,
            None,
            &[
                &[file("a"), file("b")],
                &[Member::device(b'3', "a", 0, 0), Member::hard_link("b", "a")],
            ],
        ),
        layered(
            "aufs",
            Agree,
            None,
            &[
                &[file("q")],
                &[marker(".wh..wh.plnk"), marker(".wh..wh.aufs")],
            ],
        ),
        case(
            "whiteout of a parent",
            BothRefuse,
            Some("whiteout of nothing"),
            &[marker("d/.wh...")],
        ),
    ]
}
