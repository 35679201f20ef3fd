//! Containers with a user namespace of their own: what is root inside and nobody outside, and what
//! programs can still do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::fixture::{FIRST_ID, Place, Users};

fn place() -> Place {
    Place::with(Users::Own)
}

#[test]
fn root_inside_is_nobody_outside() {
    let place = place();
    let script = ["sh", "-c", "id -u; cat /proc/self/uid_map; sleep 1000"];
    let mut started = place.start(&[], &script, Stdio::null());
    let id = started.events.next().unwrap()["id"].to_string();
    let pid = place.run_root().join(id.trim_matches('"')).join("pid");
    let pid = fs::read_to_string(pid).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    for field in ["Uid:", "Gid:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let ids: Vec<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!(
            ids.join(" "),
            [FIRST_ID; 4].map(|id| id.to_string()).join(" "),
            "{field}"
        );
    }
    started.child.kill().unwrap();
    started.child.wait().unwrap();
    assert!(container::reap_stale(&place.run_root())[0].error.is_none());
}

#[test]
fn what_programs_of_a_distribution_do_works() {
    let place = place();
    let allowed = [
        "test $(stat -c %u:%g /bin/busybox) = 0:0",
        "touch /new && chown 65534:65534 /new && test $(stat -c %u:%g /new) = 65534:65534",
        "chown 100:101 /etc/group && test $(stat -c %u:%g /etc/group) = 100:101",
        "rm /etc/group && mkdir /etc/group && chmod 2755 /etc/group",
        "cp /bin/busybox /tmp/b && chmod 4755 /tmp/b && test $(stat -c %a /tmp/b) = 4755",
        "chroot / true",
        "echo x > /dev/shm/x && echo x > /dev/null && head -c 1 /dev/urandom > /dev/null",
        "echo 127.0.0.1 me >> /etc/hosts && grep -q me /etc/hosts",
        "ping -c 1 -W 1 127.0.0.1",
        "httpd -p 80 -h /etc && wget -q -O /dev/null http://127.0.0.1/passwd",
        "test -d /sys/class/net/lo && test -f /proc/version && test -d /sys/fs/cgroup",
        "test -c /dev/ptmx && test -d /dev/mqueue && test -d /dev/pts",
        "su -s /bin/sh app -c 'test $(id -u) = 1000'",
    ];
    for command in allowed {
        let ran = place.sh(&[], command);
        assert_eq!(ran.code, Some(0), "{command}: {ran:?}");
    }
    let ran = place.sh(&["user=app", "cwd=/made/here"], "id -u; pwd; stat -c %u .");
    assert_eq!(ran.ok(), "1000\n/made/here\n0");
    let ran = place.sh(
        &["user=app"],
        "echo out > /dev/stdout; echo err > /dev/stderr",
    );
    assert_eq!((ran.ok(), ran.stderr.as_str()), ("out", "err\n"));
}

#[test]
fn what_only_the_machines_root_may_is_refused() {
    let place = place();
    let refused = [
        "mknod /tmp/null c 1 3",
        "mknod /tmp/disk b 254 0",
        "chown 70000 /etc/group",
        "mount -t tmpfs x /tmp",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 0 > /proc/sys/net/ipv4/ip_forward",
        "echo x > /sys/kernel/uevent_helper",
    ];
    for command in refused {
        let ran = place.sh(&[], &format!("if {command}; then echo allowed; fi"));
        assert_eq!(ran.ok(), "", "{command}: {ran:?}");
    }
    let ran = place.run(&["user=65536"], &["true"]);
    let expected = "user or group id 65536 is beyond the 65536 ids of the container";
    assert_eq!((ran.code, ran.message()), (Some(125), expected));
    let ran = place.run(&["network=host"], &["true"]);
    let expected = "network host needs the machine's user namespace too";
    assert_eq!((ran.code, ran.message()), (Some(125), expected));
}

#[test]
fn volumes_keep_the_owners_that_they_have_outside() {
    let place = place();
    let data = place.top.path().join("data");
    fs::create_dir_all(data.join("below")).unwrap();
    fs::write(data.join("roots"), "root's").unwrap();
    fs::write(data.join("apps"), "app's").unwrap();
    std::os::unix::fs::chown(data.join("apps"), Some(1000), Some(1001)).unwrap();
    let volume = format!("volume={}:/data", data.display());
    let script = "cd /data; stat -c '%n %u:%g' roots apps; echo more >> roots; touch made; \
                  chown 1000 made; touch below/kept";
    let ran = place.sh(&[&volume], script);
    assert_eq!(ran.ok(), "roots 0:0\napps 1000:1001");
    let owner = |name: &str| {
        let meta = data.join(name).metadata().unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!((owner("made"), owner("below/kept")), ((1000, 0), (0, 0)));
    for target in ["/etc/one.conf", "/not/there/one.conf"] {
        let file = format!("volume={}/roots:{target}:ro", data.display());
        let script = format!("cat {target}; echo x > {target} || echo refused");
        for user in ["user=root", "user=app"] {
            let ran = place.sh(&[&file, user], &script);
            assert_eq!(ran.ok(), "root'smore\nrefused", "{target} {user}");
        }
    }
    let ran = place.run(&["volume=/proc/sys:/x"], &["true"]);
    let expected = "cannot show volume source /proc/sys with its owners in a user namespace: ";
    assert!(ran.message().starts_with(expected), "{ran:?}");
}

#[test]
fn a_kernel_without_user_namespaces_is_an_error_and_nothing_stays() {
    let place = place();
    let driver = place.driver(&["report=/dev/stderr"], &["true"]);
    // The switch counts for what is below a namespace, so the machine's own stays as it is.
    let mut shell = std::process::Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$0\" \"$@\"";
    shell.args(["--user", "--map-root-user", "sh", "-ec", script]);
    shell.arg(driver.get_program()).args(driver.get_args());
    let output = shell.output().expect("unshare: apt-get install util-linux");
    let errors = String::from_utf8_lossy(&output.stderr);
    let expected = "the kernel gives the container no user namespace of its own";
    assert!(errors.contains(expected), "{errors}");
    assert_eq!(output.status.code(), Some(125), "{errors}");
    let left: Vec<_> = fs::read_dir(place.run_root()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
}
