//! A second oracle: a containerd of the test's own, which unpacks an image layer by layer with its
//! overlayfs snapshotter. It has its own directories, socket and configuration, and ends with the
//! test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use registry_sim::{ImageBuilder, Layer};
use serde_json::json;
use tempfile::TempDir;

use crate::archive::{Member, archive_of};
use crate::compare::{Snapshot, Time, now, snapshot_of_unpacked};
use crate::support::{Unmount, scratch};

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Only what unpacks. Nothing is collected while a test still looks at it.
const CONFIGURATION: &str = r#"
version = 2
root = "DIRECTORY/root"
state = "DIRECTORY/state"
disabled_plugins = [
    "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "DIRECTORY/socket"
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1000h"
schedule_delay = "1000h"
"#;

pub(crate) struct Containerd {
    daemon: Child,
    directory: TempDir,
    /// It unpacks layers that two images begin with once, so that some are as old as it is.
    since: Time,
    images: u32,
}

impl Containerd {
    pub(crate) fn start() -> Self {
        let directory = scratch();
        let path = directory.path().to_str().unwrap();
        let configuration = directory.path().join("config.toml");
        fs::write(&configuration, CONFIGURATION.replace("DIRECTORY", path)).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd starts: run `cargo xtask setup`");
        let containerd = Self {
            daemon,
            since: now(&directory.path().join("clock")),
            directory,
            images: 0,
        };
        // Waits until the socket answers.
        let version = containerd.ctr(&["--connect-timeout", "60s", "version"]);
        assert!(version.status.success(), "{version:?}");
        containerd
    }

    /// What the layers leave when they are unpacked, lowest first, or why they cannot be.
    pub(crate) fn unpack(&mut self, archives: &[Vec<u8>]) -> Result<Snapshot, String> {
        self.images += 1;
        let name = format!("example.com/image:{}", self.images);
        let at = |file: &str| self.directory.path().join(file);
        // containerd knows a mounted snapshot by the path of its mount.
        let (archive, root) = (at("image.tar"), at(&format!("mount-{}", self.images)));
        fs::write(&archive, oci_archive(&name, archives)).unwrap();
        fs::create_dir(&root).unwrap();
        let import = ["image", "import", "--snapshotter", "overlayfs"];
        let imported = self.ctr(&[&import[..], &[archive.to_str().unwrap()]].concat());
        if !imported.status.success() {
            return Err(String::from_utf8_lossy(&imported.stderr).trim().to_owned());
        }
        let _guard = Unmount(root.clone());
        let mount = ["image", "mount", "--snapshotter", "overlayfs", &name];
        let mounted = self.ctr(&[&mount[..], &[root.to_str().unwrap()]].concat());
        assert!(mounted.status.success(), "{mounted:?}");
        let snapshot = snapshot_of_unpacked(&root, self.since, now(&at("clock")));
        Ok(snapshot.unwrap())
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        Command::new("ctr")
            .arg("--address")
            .arg(self.directory.path().join("socket"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("ctr starts")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// An OCI layout in an archive. An empty layer on top makes every image an overlay, also one of a
/// single layer.
fn oci_archive(name: &str, archives: &[Vec<u8>]) -> Vec<u8> {
    let files = layout(name, archives, true).into_iter();
    let members: Vec<_> = files
        .map(|(path, bytes)| Member::file(path, bytes))
        .collect();
    archive_of(&members)
}

/// Writes an OCI layout into `directory`.
pub(crate) fn write_layout(directory: &Path, name: &str, archives: &[Vec<u8>]) {
    for (path, bytes) in layout(name, archives, false) {
        let path: PathBuf = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn layout(name: &str, archives: &[Vec<u8>], is_topped: bool) -> Vec<(String, Vec<u8>)> {
    let empty = archive_of(&[]);
    let layers = archives.iter().chain(is_topped.then_some(&empty));
    let image = layers
        .map(|archive| Layer::compressed(LAYER_TYPE, archive.clone(), archive))
        .fold(ImageBuilder::new(), ImageBuilder::layer)
        .build();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": image.media_type, "digest": image.digest, "size": image.manifest.len(),
        "annotations": {
            "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "tag",
        },
    }]});
    let blob = |digest: &str, bytes: &[u8]| {
        let hex = digest.strip_prefix("sha256:").unwrap();
        (format!("blobs/sha256/{hex}"), bytes.to_vec())
    };
    let mut files = vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        blob(&image.digest, &image.manifest),
        blob(&image.config.digest, &image.config.bytes),
    ];
    let layers = image.layers.iter();
    files.extend(layers.map(|layer| blob(&layer.digest, &layer.bytes)));
    files
}
