//! The oracle of the exactness tests: layers unpacked by `tar`, their whiteouts translated by a
//! script, and stacked by the kernel. Nothing of ours takes part.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::compare::{differences, snapshot, snapshot_of_overlay};
use crate::support::{Unmount, shell};

/// What the layers leave when they are unpacked by `tar`, their whiteouts translated by a script,
/// and stacked by the kernel.
pub(crate) struct Oracle {
    pub(crate) root: PathBuf,
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

/// A directory that an archive implies without listing it was made just now: it stays what the
/// layers below (`LOWER`, the topmost first) make of it.
const IMPLIED: &str = r#"
find . -type d -newer ../before -print0 | while IFS= read -r -d '' implied; do
    for lower in $LOWER; do
        if [ -d "$lower/$implied" ]; then
            chown --reference="$lower/$implied" "$implied"
            chmod --reference="$lower/$implied" "$implied"
            touch --reference="$lower/$implied" "$implied"
            break
        fi
    done
done
"#;

impl Oracle {
    /// Archives may be compressed: `tar` sees by itself.
    pub(crate) fn new(archives: &[Vec<u8>]) -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        // The topmost first, as the kernel takes them.
        let mut lower: Vec<String> = Vec::new();
        for (number, archive) in archives.iter().enumerate() {
            let layer = directory.path().join(format!("layer-{number}"));
            fs::create_dir(&layer).unwrap();
            fs::write(directory.path().join("tar"), archive).unwrap();
            shell(
                &layer,
                "touch ../before
                 tar --extract --file=../tar --preserve-permissions --same-owner \
                     --numeric-owner --xattrs --xattrs-include='*' --delay-directory-restore",
            );
            shell(&layer, &format!("LOWER='{}'\n{IMPLIED}", lower.join(" ")));
            shell(&layer, TRANSLATE);
            lower.insert(0, layer.display().to_string());
        }
        // It takes two at least.
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

/// Fails with a line for every path that is not the same in both.
#[track_caller]
pub(crate) fn check_same(oracle: &Path, mount: &Path) {
    let expected = snapshot_of_overlay(oracle).unwrap();
    let found = snapshot(mount).unwrap();
    let differences = differences(&expected, &found);
    assert!(
        differences.is_empty(),
        "{} differ\n{}",
        differences.len(),
        differences.join("\n")
    );
}
