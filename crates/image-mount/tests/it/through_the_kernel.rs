//! A mounted image is what `tar` and the kernel's overlay make of the same layers.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, PermissionsExt};

use registry_sim::{Layer, Options};

use crate::oracle::{Oracle, check_same, count};
use crate::support::{Published, Unmount, archive, blocking, shell};

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
        echo a > var/lib/old/a; echo b > var/lib/old/b; mkdir var/lib/old/d
        echo c > var/lib/old/d/c
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_what_tar_and_overlay_make_of_it() {
    let archives = one_of_everything();
    let image = Published::new(&archives).await;
    let mounted = image.mount().await;
    let mountpoint = image.request.mountpoint.clone();
    blocking(move || {
        let oracle = Oracle::new(&archives);
        assert!(count(&oracle) > 30);
        check_same(&oracle, &mountpoint);
        // And again from what the kernel has kept.
        check_same(&oracle, &mountpoint);
    })
    .await;
    let stats = mounted.stop().await;
    assert!(
        stats.fs.bytes_fetched > 0 && stats.fs.requests > 0,
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_of_every_compression_mount() {
    let archive = archive("seq 300000 > a; mkdir d; head -c 1500000 /dev/urandom > d/b");
    let zstd = zstd::bulk::compress(&archive, 3).unwrap();
    let kind = |suffix| format!("application/vnd.oci.image.layer.v1.tar{suffix}");
    for layer in [
        Layer::compressed(&kind(""), archive.clone(), &archive),
        Layer::compressed(&kind("+zstd"), zstd, &archive),
        Layer::gzip_of(&archive),
    ] {
        let image = Published::of_layers(Options::default(), [layer]).await;
        let mounted = image.mount().await;
        let (mountpoint, archive) = (image.request.mountpoint.clone(), archive.clone());
        blocking(move || check_same(&Oracle::new(&[archive]), &mountpoint)).await;
        mounted.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_and_huge_files_have_their_exact_length() {
    let script = "truncate -s 0 empty; truncate -s 5000000001 huge; printf z >> huge";
    let image = Published::new(&[archive(script)]).await;
    let mounted = image.mount().await;
    let (empty, huge) = (image.path("empty"), image.path("huge"));
    blocking(move || {
        assert_eq!(fs::read(empty).unwrap(), b"");
        let file = fs::File::open(huge).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5_000_000_002);
        let mut end = [9; 4];
        assert_eq!(file.read_at(&mut end, 5_000_000_000).unwrap(), 2);
        assert_eq!(end, [0, b'z', 9, 9]);
        assert_eq!(file.read_at(&mut end, 5_000_000_002).unwrap(), 0);
        assert_eq!(file.read_at(&mut end, 4_294_967_294).unwrap(), 4);
        assert_eq!(end, [0; 4]);
    })
    .await;
    mounted.stop().await;
}

/// More entries than one reply of the kernel's holds.
const MANY: usize = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_has_each_name_once_and_inodes_are_stable() {
    let script = format!(
        "mkdir many; cd many; seq -f name-%g {MANY} | xargs touch; mkdir sub; ln -s x link"
    );
    let image = Published::new(&[archive(&script)]).await;
    let mounted = image.mount().await;
    let many = image.path("many");
    blocking(move || {
        let list = || -> Vec<(std::ffi::OsString, u64, fs::FileType)> {
            let entries = fs::read_dir(&many).unwrap().map(Result::unwrap);
            entries
                .map(|entry| (entry.file_name(), entry.ino(), entry.file_type().unwrap()))
                .collect()
        };
        let entries = list();
        let names: BTreeSet<_> = entries.iter().map(|entry| &entry.0).collect();
        let inodes: BTreeSet<_> = entries.iter().map(|entry| entry.1).collect();
        let count = MANY + 2;
        assert_eq!(
            (entries.len(), names.len(), inodes.len()),
            (count, count, count)
        );
        for (name, inode, kind) in &entries {
            let metadata = many.join(name).symlink_metadata().unwrap();
            assert_eq!(
                (metadata.ino(), metadata.file_type()),
                (*inode, *kind),
                "{name:?}"
            );
        }
        assert_eq!(list(), entries);
        assert!(!many.join("name-0").exists());
    })
    .await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_the_modification_time_and_blocks_count_as_full() {
    let image = Published::new(&[archive("truncate -s 8193 a; touch -d @1234567890.5 a")]).await;
    let mounted = image.mount().await;
    let path = image.path("a");
    blocking(move || {
        fs::read(&path).unwrap();
        let metadata = path.metadata().unwrap();
        let time = (1_234_567_890, 500_000_000);
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), time);
        assert_eq!((metadata.atime(), metadata.atime_nsec()), time);
        assert_eq!((metadata.ctime(), metadata.ctime_nsec()), time);
        assert_eq!((metadata.blocks(), metadata.blksize()), (17, 4096));
        let whole = rustix::fs::statvfs(&path).unwrap();
        assert_eq!((whole.f_bfree, whole.f_files), (0, 2));
        assert!(whole.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    })
    .await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_is_read_only_and_an_overlay_takes_what_is_written() {
    let script = "mkdir d; seq 100000 > d/changed; echo 1 > d/removed; echo 2 > d/kept
        chown 7:8 d/changed; chmod 4755 d/changed; setfattr -n user.note -v x d/changed";
    let image = Published::new(&[archive(script)]).await;
    let mounted = image.mount().await;
    let (mountpoint, directory) = (image.request.mountpoint.clone(), image.directory.path());
    let work = directory.to_owned();
    blocking(move || {
        let refused = [
            fs::write(mountpoint.join("d/kept"), "3"),
            fs::write(mountpoint.join("new"), "3"),
            fs::remove_file(mountpoint.join("d/removed")),
            fs::create_dir(mountpoint.join("dir")),
            fs::rename(mountpoint.join("d"), mountpoint.join("e")),
            fs::set_permissions(mountpoint.join("d"), fs::Permissions::from_mode(0o700)),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        }
        let _guard = Unmount(work.join("merged"));
        shell(
            &work,
            "mkdir upper work merged
             mount -t overlay c -o lowerdir=image,upperdir=upper,workdir=work merged
             cd merged/d; echo more >> changed; rm removed; echo new > new; mv kept moved
             [ \"$(tail -n 2 changed | tr '\\n' ' ')\" = '100000 more ' ]
             [ \"$(stat -c '%u %g %a' changed)\" = '7 8 4755' ]
             [ \"$(getfattr --only-values -n user.note changed)\" = x ]
             [ \"$(echo *)\" = 'changed moved new' ]
             cd ../../image/d; [ \"$(echo *)\" = 'changed kept removed' ]
             [ \"$(tail -n 1 changed)\" = 100000 ]",
        );
    })
    .await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_run_with_the_set_id_bits_and_capabilities_of_the_image() {
    let script = "cp /usr/bin/id id; chown 1234:5678 id; chmod 6755 id
        cp /usr/bin/grep grep; setcap cap_net_bind_service+ep grep; mknod null c 1 3
        chmod 666 null";
    let image = Published::new(&[archive(script)]).await;
    let mounted = image.mount().await;
    let directory = image.directory.path().to_owned();
    blocking(move || {
        let _guard = Unmount(directory.join("merged"));
        shell(
            &directory,
            "chmod 755 .; mkdir -m 755 upper work merged
             mount -t overlay c -o lowerdir=image,upperdir=upper,workdir=work merged
             for root in image merged; do
                 [ \"$($root/id -u) $($root/id -g)\" = '1234 5678' ]
                 setpriv --reuid 65534 --regid 65534 --clear-groups $root/grep \
                     -q '^CapEff:.0*400$' /proc/self/status
                 echo gone > $root/null
             done",
        );
    })
    .await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_reads_what_read_reads() {
    let script = "head -c 2500000 /dev/urandom > a; cp a b";
    let image = Published::new(&[archive(script)]).await;
    let mounted = image.mount().await;
    let directory = image.directory.path().to_owned();
    blocking(move || {
        shell(
            &directory,
            "python3 -c \"
import mmap
with open('image/a', 'rb') as a, open('image/b', 'rb') as b:
    mapped = mmap.mmap(a.fileno(), 0, prot=mmap.PROT_READ)
    assert mapped[2499990:] == b.read()[2499990:]
    b.seek(0)
    assert mapped[:] == b.read()
\"",
        );
    })
    .await;
    mounted.stop().await;
}
