//! Crafted archives through containerd, through umoci and through ours: what each makes of them is
//! in the tables, and every run asks all three again.
//!
//! The rule that the tables show: what both peers read alike is read so here; what they read
//! differently, or neither reads, is refused by name. How layers are *applied* is containerd's
//! alone to say, where what it says does not depend on the order of members.

mod applying;
mod reading;

use crate::archive::{Member, archive_of};
use crate::compare::{Snapshot, differences, now, snapshot, snapshot_of_unpacked};
use crate::containerd::{Containerd, write_layout};
use crate::support::{Published, blocking, scratch};

/// What two peers make of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peers {
    Agree,
    Differ,
    BothRefuse,
    OnlyContainerd,
    OnlyUmoci,
}
use Peers::{Agree, BothRefuse, Differ, OnlyContainerd, OnlyUmoci};

/// Nothing where ours makes the tree that containerd makes, or else why it refuses.
type Refusal = Option<&'static str>;

struct Case {
    name: &'static str,
    layers: Vec<Vec<u8>>,
    peers: Peers,
    refusal: Refusal,
}

fn case(name: &'static str, peers: Peers, refusal: Refusal, members: &[Member]) -> Case {
    layered(name, peers, refusal, &[members])
}

fn layered(name: &'static str, peers: Peers, refusal: Refusal, layers: &[&[Member]]) -> Case {
    let layers = layers.iter().map(|members| archive_of(members)).collect();
    Case {
        name,
        layers,
        peers,
        refusal,
    }
}

fn raw(name: &'static str, peers: Peers, refusal: Refusal, parts: &[&[u8]]) -> Case {
    Case {
        name,
        layers: vec![parts.concat()],
        peers,
        refusal,
    }
}

fn file(name: &str) -> Member {
    Member::file(name, "x")
}

fn directory(name: &str) -> Member {
    Member::directory(name)
}

fn marker(name: &str) -> Member {
    Member::file(name, "")
}

/// What `umoci unpack` makes of the layers.
fn umoci(archives: &[Vec<u8>]) -> Result<Snapshot, String> {
    let directory = scratch();
    let at = |name: &str| directory.path().join(name);
    write_layout(&at("layout"), "example.com/image", archives);
    let since = now(&at("clock"));
    let output = std::process::Command::new("umoci")
        .args(["unpack", "--image", "layout:tag", "bundle"])
        .current_dir(directory.path())
        .output()
        .expect("umoci starts: run `cargo xtask setup`");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let until = now(&at("clock"));
    Ok(snapshot_of_unpacked(&at("bundle/rootfs"), since, until).unwrap())
}

fn peers(containerd: &Result<Snapshot, String>, umoci: &Result<Snapshot, String>) -> Peers {
    match (containerd, umoci) {
        (Ok(one), Ok(other)) if differences(one, other).is_empty() => Agree,
        (Ok(_), Ok(_)) => Differ,
        (Err(_), Err(_)) => BothRefuse,
        (Ok(_), Err(_)) => OnlyContainerd,
        (Err(_), Ok(_)) => OnlyUmoci,
    }
}

/// Where ours is not what the table says, a line; what the table says of the peers is not
/// believed either.
async fn check_case(case: Case, mut unpacking: Containerd) -> (Containerd, Option<String>) {
    let layers = case.layers.clone();
    let asked = blocking(move || {
        let containerd = unpacking.unpack(&layers);
        (unpacking, containerd, umoci(&layers))
    });
    let (unpacking, containerd, umoci) = asked.await;
    let found = peers(&containerd, &umoci);
    let name = case.name;
    if found != case.peers {
        let problem = format!("{name}: peers {found:?}\n  {containerd:?}\n  {umoci:?}");
        return (unpacking, Some(problem));
    }
    let problem = match (Published::try_new(&case.layers).await, case.refusal) {
        (Err(reason), Some(expected)) if reason.contains(expected) => None,
        (Err(reason), expected) => Some(format!("{name}: refused by {reason:?}, not {expected:?}")),
        (Ok(_), Some(expected)) => Some(format!("{name}: not refused by {expected:?}")),
        (Ok(image), None) => {
            let mounted = image.mount().await;
            let mountpoint = image.request.mountpoint.clone();
            let found = blocking(move || snapshot(&mountpoint).unwrap()).await;
            mounted.stop().await;
            match containerd {
                Ok(expected) => {
                    let lines = differences(&expected, &found);
                    (!lines.is_empty()).then(|| format!("{name}:\n{}", lines.join("\n")))
                }
                Err(reason) => Some(format!("{name}: containerd refuses: {reason}")),
            }
        }
    };
    (unpacking, problem)
}

async fn check(cases: Vec<Case>) {
    let mut containerd = Containerd::start();
    let mut problems = Vec::new();
    for case in cases {
        let (back, problem) = check_case(case, containerd).await;
        containerd = back;
        problems.extend(problem);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_read_as_both_peers_read_them_or_refused() {
    check(reading::headers()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_headers_are_read_as_both_peers_read_them_or_refused() {
    check(reading::records()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_what_an_extraction_can_set_or_refused() {
    check(reading::attributes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_end_where_both_peers_let_them_end() {
    check(reading::ends()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_are_applied_as_containerd_applies_them() {
    check(applying::applied()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whiteouts_hide_what_containerd_hides_or_are_refused() {
    check(applying::whiteouts()).await;
}
