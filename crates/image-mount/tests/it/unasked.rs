//! What the kernel knows already it does not ask the mount process again: shown by one that is
//! stopped, and so answers nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Mounted, Published, archive, blocking, shell};

/// Longest wait for something that nobody is asked for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Small files and a larger one, links and folders.
const FILES: &str = "mkdir -p a/b/c empty; seq 200000 > a/large; ln a/large a/b/same
    for number in $(seq 40); do echo $number > a/b/c/$number; done
    ln -s a/large link; truncate -s 0 empty/nothing";

fn signal(mounted: &Mounted, signal: Signal) {
    let pid = Pid::from_raw(mounted.process.pid().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// All there is to be known of a tree: names, attributes, targets and bytes.
fn read_all(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let mut bytes = format!("{metadata:?}").into_bytes();
        if metadata.is_dir() {
            all.extend(read_all(&path));
        } else if metadata.is_symlink() {
            bytes.extend(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes());
        } else {
            bytes.extend(fs::read(&path).unwrap());
        }
        all.push((path, bytes));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_pass_over_an_image_asks_nothing() {
    let image = Published::new(&[archive(FILES)]).await;
    let mounted = image.mount().await;
    let pass = || {
        let mountpoint = image.request.mountpoint.clone();
        blocking(move || read_all(&mountpoint))
    };
    let first = pass().await;
    assert!(first.len() > 45);
    let reads = mounted.process.stats().await.unwrap().fs.reads;
    signal(&mounted, Signal::STOP);
    let second = tokio::time::timeout(PATIENCE, pass()).await;
    signal(&mounted, Signal::CONT);
    assert!(second.expect("nobody is asked") == first);
    assert_eq!(mounted.stop().await.fs.reads, reads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_has_attributes_the_kernel_asks_once() {
    const NAME: &str = "user.note";
    let with = format!("{FILES}; setfattr -n {NAME} -v kept empty/nothing");
    let cases = [(FILES, Errno::OPNOTSUPP), (&with, Errno::NODATA)];
    for (files, expected) in cases {
        let image = Published::new(&[archive(files)]).await;
        let mounted = image.mount().await;
        let (path, directory) = (image.path("a/large"), image.directory.path().to_owned());
        let asked = blocking(move || {
            assert_eq!(llistxattr(&path, &mut [0_u8; 0]), Ok(0));
            let asked = lgetxattr(&path, NAME, &mut [0_u8; 8]);
            // Who copies attributes along is content with either.
            shell(
                &directory,
                "cp -a --preserve=xattr image copy; diff -r image copy",
            );
            asked
        });
        assert_eq!(asked.await, Err(expected));
        mounted.stop().await;
    }
}
