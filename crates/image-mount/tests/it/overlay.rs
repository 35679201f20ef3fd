//! The mount under the kernel's overlay and under a container: what a launch does with it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use image_mount::IdShift;
use tempfile::TempDir;

use crate::support::{Published, Unmount, archive, blocking, shell};

/// An overlay with a writable layer on top of a mounted image.
struct Overlay {
    root: PathBuf,
    _root_guard: Unmount,
    _upper_guard: Unmount,
    _directory: TempDir,
}

impl Overlay {
    fn on(lower: &Path) -> Self {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        shell(
            directory.path(),
            "mkdir root writable; mount -t tmpfs tmpfs writable",
        );
        let upper_guard = Unmount(at("writable"));
        let root_guard = Unmount(at("root"));
        let lower = lower.display();
        let script = format!(
            "mkdir writable/upper writable/work
             mount -t overlay overlay root \
                 -o lowerdir={lower},upperdir=writable/upper,workdir=writable/work"
        );
        shell(directory.path(), &script);
        Self {
            root: at("root"),
            _root_guard: root_guard,
            _upper_guard: upper_guard,
            _directory: directory,
        }
    }
}

/// The machine's busybox as a root file system: the smallest thing that runs.
const BUSYBOX: &str = r"
    mkdir -p bin etc proc dev tmp home/user
    cp /bin/busybox bin/busybox
    for name in sh id cat ls; do ln -s busybox bin/$name; done
    echo root:x:0:0::/root:/bin/sh > etc/passwd
    echo from the image > etc/motd
    mkdir -p srv/tree/deep; echo leaf > srv/tree/deep/leaf
    echo one > srv/one; ln srv/one srv/two
    mknod dev/zero c 1 5; chmod 666 dev/zero
    chmod 711 home/user
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_over_overlay_go_to_the_upper_layer() {
    let image = Published::new(&[archive(BUSYBOX)]).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let overlay = Overlay::on(&mountpoint);
        let at = |name: &str| overlay.root.join(name);
        assert_eq!(
            fs::read_to_string(at("etc/motd")).unwrap(),
            "from the image\n"
        );
        fs::write(at("etc/motd"), "changed").unwrap();
        fs::write(at("srv/new"), "new").unwrap();
        fs::remove_file(at("etc/passwd")).unwrap();
        fs::set_permissions(at("home/user"), fs::Permissions::from_mode(0o700)).unwrap();
        // A directory of a lower layer is copied by who renames it.
        shell(
            &overlay.root,
            "mv srv/tree srv/moved; cat srv/moved/deep/leaf",
        );
        shell(
            &overlay.root,
            "rm -r srv/moved; mkdir srv/moved; test -z \"$(ls srv/moved)\"",
        );
        shell(
            &overlay.root,
            "chown -R 5:6 srv; test $(stat -c %u srv/one) = 5",
        );
        assert_eq!(fs::read_to_string(at("etc/motd")).unwrap(), "changed");
        assert!(!at("etc/passwd").exists());
        // The image itself is as it was.
        let motd = fs::read_to_string(mountpoint.join("etc/motd")).unwrap();
        assert_eq!(motd, "from the image\n");
        assert!(mountpoint.join("etc/passwd").exists());
        let error = fs::write(mountpoint.join("etc/motd"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    })
    .await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_shifted_for_a_user_namespace() {
    let script = "
        mkdir bin; echo x > bin/own; chown 0:0 bin/own
        echo x > bin/user; chown 1000:100 bin/user
        echo x > bin/outside; chown 70000:0 bin/outside
        echo x > bin/capable; setcap cap_net_raw+ep bin/capable
    ";
    let mut image = Published::new(&[archive(script)]).await;
    image.request.id_shift = Some(IdShift {
        base: 200_000,
        count: 65_536,
    });
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let owner = |name: &str| {
            let metadata = fs::metadata(mountpoint.join(name)).unwrap();
            (metadata.uid(), metadata.gid())
        };
        assert_eq!(owner("bin/own"), (200_000, 200_000));
        assert_eq!(owner("bin/user"), (201_000, 200_100));
        assert_eq!(owner("bin/outside"), (265_534, 200_000));
        let mut value = [0; 64];
        let path = mountpoint.join("bin/capable");
        let length = rustix::fs::lgetxattr(&path, "security.capability", &mut value).unwrap();
        assert_eq!(value[20..length], 200_000u32.to_le_bytes());
    })
    .await;
    mounted.stop().await;
}

/// A container's whole configuration, by runc's own template.
fn bundle(directory: &Path, root: &Path, command: &str) {
    shell(directory, "runc spec");
    let path = directory.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = vec!["/bin/sh", "-c", command].into();
    spec["root"]["path"] = root.to_str().unwrap().into();
    spec["root"]["readonly"] = false.into();
    fs::write(path, spec.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_runs_on_it() {
    let mut script = BUSYBOX.to_owned();
    script.push_str("mkdir -p sys dev/pts dev/shm dev/mqueue; rm dev/zero\n");
    let image = Published::new(&[archive(&script)]).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let overlay = Overlay::on(&mountpoint);
        let directory = TempDir::new().unwrap();
        bundle(
            directory.path(),
            &overlay.root,
            "cat /etc/motd; echo hi > /tmp/x && cat /tmp/x",
        );
        let name = format!("image-mount-test-{}", std::process::id());
        let output = Command::new("runc")
            .args(["run", "--bundle", directory.path().to_str().unwrap(), &name])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "from the image\nhi\n",
            "{output:?}"
        );
    })
    .await;
    mounted.stop().await;
}
