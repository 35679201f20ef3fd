//! What a container cannot do, and what it sees.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::{FIRST_ID, Place, Users};

#[test]
fn the_process_has_no_more_than_dockers_rights() {
    for users in [Users::Own, Users::Machine] {
        has_no_more_than_dockers_rights(&Place::with(users));
    }
}

fn has_no_more_than_dockers_rights(place: &Place) {
    let fields = "^(CapEff|CapPrm|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp):";
    let status = format!("grep -E '{fields}' /proc/self/status | awk '{{print $1 $2}}'");
    let root = place.sh(&[], &status);
    let expected = "CapInh:0000000000000000\nCapPrm:00000000a80425fb\nCapEff:00000000a80425fb\n\
                    CapBnd:00000000a80425fb\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2";
    assert_eq!(root.ok(), expected);
    let user = place.sh(&["user=app"], &status);
    let expected = "CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\n\
                    CapBnd:00000000a80425fb\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2";
    assert_eq!(user.ok(), expected);
}

#[test]
fn what_docker_refuses_is_refused() {
    let refused = [
        "mount -t tmpfs x /tmp",
        "umount /proc",
        "unshare -n true",
        "unshare -U true",
        "mknod /tmp/disk b 254 0 && cat /tmp/disk",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /sys/kernel/uevent_helper",
        "echo b > /proc/sysrq-trigger",
        "head -c 1 /proc/kcore | grep .",
        "hostname other",
        "ip link set lo down",
        "cat /proc/1/root/proc/keys | grep .",
        "ls /sys/firmware | grep .",
        "mkdir /sys/fs/cgroup/memory/x",
    ];
    for users in [Users::Own, Users::Machine] {
        let place = Place::with(users);
        for command in refused {
            let ran = place.sh(&[], &format!("if {command}; then echo allowed; fi"));
            assert_eq!(ran.ok(), "", "{users:?}: {command}: {ran:?}");
        }
    }
}

#[test]
fn docker_allows_what_it_allows() {
    let place = Place::with(Users::Machine);
    let allowed = [
        "chroot / true",
        "mknod /tmp/null c 1 3",
        "chmod 4755 /bin/busybox",
        "touch /new && rm /new",
        "echo x > /tmp/file && test -s /tmp/file",
        "ping -c 1 -W 1 127.0.0.1",
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=8",
        "test -c /dev/ptmx && test -d /dev/mqueue && test -c /dev/null",
    ];
    for command in allowed {
        let ran = place.sh(&[], command);
        assert_eq!(ran.code, Some(0), "{command}: {ran:?}");
    }
    assert!(
        !place.lower().join("new").exists(),
        "the image was written to"
    );
}

#[test]
fn namespaces_are_its_own() {
    let place = Place::new();
    let names = ["mnt", "pid", "ipc", "uts", "net", "cgroup"];
    for name in names {
        let inside = place.run(&[], &["readlink", &format!("/proc/self/ns/{name}")]);
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside.ok(), outside.to_str().unwrap(), "{name}");
    }
    assert_eq!(
        place
            .sh(&["hostname=box"], "hostname; cat /etc/hostname")
            .ok(),
        "box\nbox"
    );
    assert_eq!(place.sh(&[], "cat /proc/1/comm; true").ok(), "sh");
    assert_eq!(place.sh(&[], "ls /sys/class/net").ok(), "lo");
    assert_eq!(
        place
            .sh(&[], "cut -d: -f3 /proc/self/cgroup | sort -u")
            .ok(),
        "/"
    );
}

#[test]
fn the_roots_attributes_are_the_images() {
    let place = Place::new();
    let stat = ["stat", "-c", "%a %u %g", "/"];
    assert_eq!(place.run(&[], &stat).ok(), "755 0 0");
    std::os::unix::fs::chown(place.lower(), Some(FIRST_ID + 5), Some(FIRST_ID + 6)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1711);
    fs::set_permissions(place.lower(), mode).unwrap();
    assert_eq!(place.run(&[], &stat).ok(), "1711 5 6");
}

#[test]
fn shared_memory_has_the_asked_size() {
    let place = Place::new();
    let size = "df -k /dev/shm | awk 'NR == 2 {print $2}'";
    assert_eq!(place.sh(&[], size).ok(), "65536");
    assert_eq!(place.sh(&["shm=2m"], size).ok(), "2048");
}

#[test]
fn volumes_show_host_paths() {
    let place = Place::new();
    let data = place.top.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "content\n").unwrap();
    let path = data.display();
    let both = format!("volume={path}:/deep/er/data");
    let ran = place.sh(
        &[&both],
        "cat /deep/er/data/file; echo new > /deep/er/data/made",
    );
    assert_eq!(ran.ok(), "content");
    assert_eq!(fs::read_to_string(data.join("made")).unwrap(), "new\n");
    let read_only = format!("volume={path}:/data:ro");
    let ran = place.sh(
        &[&read_only],
        "cat /data/made; echo x > /data/x || echo refused",
    );
    assert_eq!(ran.ok(), "new\nrefused");
    let one = format!("volume={path}/file:/etc/one.conf");
    assert_eq!(
        place.run(&[&one], &["cat", "/etc/one.conf"]).ok(),
        "content"
    );
    let ran = place.run(&["volume=/nowhere/at/all:/x"], &["true"]);
    assert!(
        ran.message()
            .starts_with("cannot use volume source /nowhere/at/all"),
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(125));
}

#[test]
fn read_only_reaches_mounts_below_the_source() {
    let place = Place::new();
    let data = place.top.path().join("data");
    fs::create_dir_all(data.join("below")).unwrap();
    let below = data.join("below");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("test", &below, "tmpfs", flags, None).unwrap();
    let volume = format!("volume={}:/data:ro", data.display());
    let ran = place.sh(&[&volume], "echo x > /data/below/x || echo refused");
    rustix::mount::unmount(&below, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(ran.ok(), "refused");
}

#[test]
fn links_of_the_image_do_not_lead_a_volume_out() {
    let place = Place::new();
    let data = place.top.path().join("data");
    let outside = place.top.path().join("outside");
    fs::create_dir(&data).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, place.lower().join("link")).unwrap();
    symlink("../../../../../../..", place.lower().join("srv/up")).unwrap();
    let path = data.display();
    let options = [
        format!("volume={path}:/link/a"),
        format!("volume={path}:/srv/up/b"),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let ran = place.sh(&options, "ls -d /link/a /srv/up/b /b");
    assert_eq!(ran.ok(), "/b\n/link/a\n/srv/up/b");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let ran = place.run(&["cwd=/link/cwd"], &["pwd", "-P"]);
    assert_eq!(ran.ok(), format!("{}/cwd", outside.display()));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn account_files_of_the_image_are_not_followed_out() {
    let place = Place::new();
    let secret = place.top.path().join("secret");
    fs::write(&secret, "app:x:0:0::/:/bin/sh\n").unwrap();
    let passwd = place.lower().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink(&secret, &passwd).unwrap();
    let ran = place.run(&["user=app"], &["id"]);
    assert_eq!(
        ran.message(),
        "user `app` is not in the image's /etc/passwd"
    );
    fs::remove_file(&passwd).unwrap();
    fs::File::create(&passwd).unwrap().set_len(5 << 20).unwrap();
    let ran = place.run(&["user=app"], &["id"]);
    let expected = "cannot read /etc/passwd of the image: larger than 4194304 bytes";
    assert_eq!(ran.message(), expected);
}

#[test]
fn memory_beyond_the_limit_ends_the_program_and_is_told() {
    let place = Place::new();
    let fill = ["dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"];
    let ran = place.run(&["memory=16m"], &fill);
    assert_eq!(ran.code, Some(137), "{ran:?}");
    let expected =
        "out of memory: the kernel killed 1 process at the container's limit of 16777216 bytes";
    assert_eq!(ran.last["memory"], expected);
    let ran = place.run(&["memory=128m"], &fill);
    assert_eq!(
        (ran.code, ran.last["memory"].as_str()),
        (Some(0), None),
        "{ran:?}"
    );
}

#[test]
fn processes_beyond_the_limit_are_refused() {
    let place = Place::new();
    let script = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 100 & done; echo all";
    let ran = place.sh(&["pids=16"], script);
    assert!(!ran.stdout.contains("all"), "{ran:?}");
    assert!(ran.stderr.contains("can't fork"), "{ran:?}");
    let ran = place.sh(&["pids=15"], "echo started");
    assert_eq!(
        ran.message(),
        "a limit of 15 processes leaves no room to start one: at least 16"
    );
}

#[test]
fn processor_time_is_shared_as_asked() {
    let place = Place::new();
    let read = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us \
                2>/dev/null || cat /sys/fs/cgroup/cpu.max";
    let ran = place.sh(&["cpus=0.5"], read);
    let numbers: Vec<&str> = ran.ok().split_whitespace().collect();
    assert_eq!(numbers, ["50000", "100000"]);
    let ran = place.sh(&["cpus=-1"], "true");
    assert_eq!(
        ran.message(),
        "a limit of -1 processors is not a positive number"
    );
}
