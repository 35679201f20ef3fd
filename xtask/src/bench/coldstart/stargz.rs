//! eStargz through stargz-snapshotter as a contender: its library's daemon, built by Go from
//! `stargz/`, below a containerd, with Debian's `ctr-remote` as the client.
//!
//! The image has to be converted first, which changes its digests; that takes minutes and is kept
//! below `target/`. No access profile is recorded, since `ctr-remote` refuses to for layers that
//! leave parent folders out: it fetches what is asked for, and the rest in the background.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::containerd::{Containerd, empty, write_private};
use super::lane::Lane;
use super::network::Network;
use super::turn::{Measured, PageCache, Turn};
use super::{IMPORT, Lab, Scene};
use crate::lab::{PackedImage, TAG};
use crate::process::{self, Service};
use crate::{setup, tree};

/// The client; the package has no daemon.
const PACKAGES: &[(&str, &str)] = &[("stargz-snapshotter", "a client of the peer for eStargz")];

/// The daemon, or why there is none.
pub(super) enum Stargz {
    Built(PathBuf),
    Missing(String),
}

impl Stargz {
    /// Builds it, with what it depends on, below `target/`.
    pub(super) fn build() -> Self {
        match build() {
            Ok(program) => Self::Built(program),
            Err(error) => Self::Missing(format!("{error:#}")),
        }
    }
}

fn build() -> Result<PathBuf> {
    process::capture(&mut process::command("go", &["version"])).context("Go is not installed")?;
    setup::need(PACKAGES)?;
    println!("building stargz-snapshotter");
    let folder = tree::target().join("go");
    let built = folder.join("stargz");
    let mut command = process::command("go", &["build", "-modcacherw", "-mod=readonly", "-o"]);
    command
        .arg(&built)
        .env("GOMODCACHE", folder.join("modules"))
        .env("GOCACHE", folder.join("cache"))
        .current_dir(tree::root().join("xtask/src/bench/coldstart/stargz"));
    process::capture(command.arg(".")).context("stargz-snapshotter does not build")?;
    Ok(built)
}

/// Mounts and runs.
pub(super) fn run(lab: &Lab, turn: Turn<'_>, program: &Path, image: &str) -> Result<Measured> {
    let containerd = Containerd::start(&lab.folder("containerd"), turn.entry(), &lab.login)?;
    let _daemon = start(lab, &turn, program)?;
    let running = turn.begin(PageCache::Dropped)?;
    containerd.transfer("ctr-remote", &["images", "rpull"], image)?;
    let mut command = containerd.ctr("ctr-remote", &["run", "--rm", "--net-host"]);
    command
        .args(["--snapshotter", "stargz", image, "bench"])
        .args(IMPORT.command);
    running.finish(&mut command, IMPORT.expected)
}

fn start(lab: &Lab, turn: &Turn<'_>, program: &Path) -> Result<Service> {
    let folder = lab.folder("stargz");
    empty(&folder)?;
    let host = Network::registry_socket().to_string();
    let login = serde_json::json!({"auths": {&host: {"auth": lab.login.basic}}});
    write_private(&folder.join("config.json"), &login.to_string())?;
    let log = fs::File::create(folder.join("log"))?;
    let socket = lab.folder("containerd").join("stargz.socket");
    let mut command = turn.entry().command(program);
    command.arg(folder.join("root")).arg(&socket).arg(host);
    command.env("DOCKER_CONFIG", &folder);
    let daemon = Service::start(command.stdout(log.try_clone()?).stderr(log))?;
    super::wait_until("stargz-snapshotter listens", || socket.exists())?;
    Ok(daemon)
}

/// The name of the converted image in the registry, converting it unless that was done before.
pub(super) fn convert(lab: &Lab, scene: &Scene, image: &PackedImage) -> Result<String> {
    let source = image.layout.file_name().context("a layout has a name")?;
    let kept = image
        .layout
        .with_file_name(format!("{}-estargz", source.to_string_lossy()));
    let converted = PackedImage {
        name: "estargz",
        layout: kept,
    };
    if !converted.layout.join("index.json").exists() {
        println!("converting the image to eStargz (once; some minutes)");
        let name = scene.registry.push(image, &lab.login)?;
        build_layout(lab, scene, &name, &converted)?;
    }
    scene.registry.push(&converted, &lab.login)
}

/// Has containerd convert the image beside the registry, and takes it from there.
fn build_layout(lab: &Lab, scene: &Scene, name: &str, converted: &PackedImage) -> Result<()> {
    let lane = Lane::open(&lab.cgroup("convert"), &scene.network.server)?;
    let containerd = Containerd::start(&lab.folder("containerd"), lane.entry(), &lab.login)?;
    let pushed = format!("{}/acme/converted:v1", Network::registry_socket());
    containerd.transfer("ctr", &["images", "pull"], name)?;
    let words = ["images", "convert", "--estargz", "--oci", name, &pushed];
    process::capture(&mut containerd.ctr("ctr-remote", &words))?;
    containerd.transfer("ctr", &["images", "push"], &pushed)?;
    let work = converted.layout.with_extension("converting");
    empty(&work)?;
    let host = Network::registry_socket().to_string();
    let auth_file = scene.registry.auth_file(&host, &lab.login)?;
    let mut command = scene.network.server.entry().command("skopeo");
    command.args([
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--src-authfile",
    ]);
    command.arg(auth_file).arg(format!("docker://{pushed}"));
    process::capture(command.arg(format!("oci:{}:{TAG}", work.display())))?;
    fs::rename(&work, &converted.layout).context("cannot keep the converted image")
}
