//! A mounted image is what `tar` and the kernel's overlay make of the same layers.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use image_mount::IdShift;
use tempfile::TempDir;

use crate::compare::{differences, snapshot};
use crate::support::{Mounted, Published, Unmount, archive, blocking, shell};

/// What the layers leave when they are unpacked by `tar`, their whiteouts translated by a script,
/// and stacked by the kernel.
struct Oracle {
    root: PathBuf,
    _guard: Unmount,
    _directory: TempDir,
}

/// Whiteouts as overlay wants them. Directories keep their times.
const TRANSLATE: &str = r#"
find . -name '.wh.*' -print0 | while IFS= read -r -d '' marker; do
    parent=$(dirname "$marker"); name=$(basename "$marker")
    touch --reference="$parent" ../time
    rm "$marker"
    if [ "$name" = .wh..wh..opq ]; then
        setfattr -n trusted.overlay.opaque -v y "$parent"
    elif [ ! -e "$parent/${name#.wh.}" ]; then
        mknod "$parent/${name#.wh.}" c 0 0
    fi
    touch --reference=../time "$parent"
done
"#;

impl Oracle {
    fn new(archives: &[Vec<u8>]) -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        // The kernel takes a stack of two at least, the topmost first.
        let mut lower = Vec::new();
        for (number, archive) in archives.iter().enumerate().rev() {
            let layer = directory.path().join(format!("layer-{number}"));
            fs::create_dir(&layer).unwrap();
            fs::write(directory.path().join("tar"), archive).unwrap();
            shell(
                &layer,
                "tar --extract --file=../tar --preserve-permissions --same-owner \
                 --numeric-owner --xattrs --xattrs-include='*'",
            );
            shell(&layer, TRANSLATE);
            lower.push(layer.display().to_string());
        }
        let empty = directory.path().join("empty");
        fs::create_dir(&empty).unwrap();
        lower.push(empty.display().to_string());
        let options = format!("ro,lowerdir={}", lower.join(":"));
        let guard = Unmount(root.clone());
        shell(
            directory.path(),
            &format!("mount -t overlay oracle -o '{options}' root"),
        );
        Self {
            root,
            _guard: guard,
            _directory: directory,
        }
    }
}

/// Layers with one of everything, and every way in which a layer changes another.
fn one_of_everything() -> Vec<Vec<u8>> {
    let base = r#"
        mkdir -p etc/deep usr/bin var/cache/apt var/lib/old srv/replaced srv/gone tmp home
        chmod 1777 tmp; chmod 750 var/cache
        echo root:x:0:0::/root:/bin/sh > etc/passwd
        seq 200000 > usr/bin/large
        head -c 3000000 /dev/urandom > usr/bin/noise
        : > etc/empty
        cp etc/passwd etc/deep/setuid; chmod 4755 etc/deep/setuid
        cp etc/passwd etc/deep/setgid; chown 0:42 etc/deep/setgid; chmod 2755 etc/deep/setgid
        mkdir etc/setgid.d; chgrp 7 etc/setgid.d; chmod 2775 etc/setgid.d
        ln usr/bin/large usr/bin/large.1; ln usr/bin/large home/large.2
        ln -s ../usr/bin/large etc/link; ln -s /nowhere/at/all etc/dangling
        mknod tmp/null c 1 3; mknod tmp/disk b 259 70000; mkfifo tmp/fifo
        truncate -s 9M home/sparse
        printf start | dd of=home/sparse conv=notrunc status=none
        printf middle | dd of=home/sparse bs=1 seek=5000000 conv=notrunc status=none
        setfattr -n user.note -v 'some text' etc/passwd
        setfattr -n user.empty etc
        setfattr -n trusted.note -v 0x00ff00 usr
        setcap cap_net_bind_service+ep usr/bin/noise
        echo 1 > 'etc/name with
newline'; echo 2 > "etc/$(printf '\377\376')"
        echo a > var/lib/old/a; echo b > var/lib/old/b; mkdir var/lib/old/d; echo c > var/lib/old/d/c
        echo x > srv/replaced/x; echo y > srv/gone/y
        chown 100000:4000000000 home
        touch -d '1969-07-20 20:17:40.123456789 UTC' etc/empty
        touch -d '2100-01-01 00:00:00.000000001 UTC' etc/deep
        touch -h -d '2001-09-09 01:46:40.5 UTC' etc/link
    "#;
    let changes = r"
        mkdir -p etc var/lib/old srv usr/bin home
        : > etc/.wh.dangling; : > srv/.wh.gone; : > home/.wh.large.2
        : > var/lib/old/.wh..wh..opq; echo new > var/lib/old/new
        echo now a file > srv/replaced
        echo upper > usr/bin/large.1
        chmod 700 home; chown 5:6 home
        touch -d '2010-01-01 UTC' home etc usr srv
    ";
    let again = r"
        mkdir -p srv/replaced srv/gone etc/empty etc/deep
        echo back > srv/gone/z; echo inside > etc/empty/inside
        : > etc/deep/.wh.setuid; chmod 711 etc/deep
        mkdir -p 'a/b/c/d/e/f'; echo deep > 'a/b/c/d/e/f/g'
    ";
    [base, changes, again].map(archive).to_vec()
}

#[track_caller]
fn check_same(oracle: &Path, mount: &Path) {
    let expected = snapshot(oracle).unwrap();
    let found = snapshot(mount).unwrap();
    let differences = differences(&expected, &found);
    assert!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_what_tar_and_overlay_make_of_it() {
    let archives = one_of_everything();
    let image = Published::new(&archives).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let oracle = Oracle::new(&archives);
        assert!(snapshot(&oracle.root).unwrap().len() > 30);
        check_same(&oracle.root, &mountpoint);
        // And again from what the kernel has kept.
        check_same(&oracle.root, &mountpoint);
    })
    .await;
    let stats = mounted.stop().await;
    assert!(
        stats.fs.bytes_fetched > 0 && stats.fs.requests > 0,
        "{stats:?}"
    );
}
