//! What the tests share: a small root to run in, and the driver that owns a container.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

const APPLETS: &[&str] = &[
    "awk", "cat", "chmod", "chown", "chroot", "cp", "cut", "dd", "df", "echo", "env", "false",
    "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount",
    "nc", "ping", "printf", "ps", "pwd", "readlink", "rm", "seq", "sh", "sleep", "sort", "stat",
    "stty", "su", "test", "touch", "tr", "true", "umount", "unshare", "wc", "wget",
];

/// A place with an image root and a run root; needs root and says so.
pub(crate) struct Place {
    pub(crate) top: TempDir,
    users: Users,
}

/// Whose ids containers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Users {
    Machine,
    Own,
}

/// Where the ids of containers with their own begin. Nobody else on the machine has them.
pub(crate) const FIRST_ID: u32 = 0x7180_0000;

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Users::Own)
    }

    /// With ids of its own the image has the owners that a mount would give it.
    pub(crate) fn with(users: Users) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests must run as root"
        );
        let top = tempfile::tempdir().unwrap();
        let place = Self { top, users };
        make_root(&place.lower());
        place.give_image();
        place
    }

    /// Shifts the owners of what a test has added to the image.
    pub(crate) fn give_image(&self) {
        if self.users == Users::Own {
            shift_owners(&self.lower());
        }
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.top.path().join("image")
    }

    pub(crate) fn run_root(&self) -> PathBuf {
        self.top.path().join("run")
    }

    /// The driver's command line for a container.
    pub(crate) fn driver(&self, options: &[&str], command: &[&str]) -> Command {
        let mut driver = Command::new(driver_path());
        driver.arg("run").arg(self.run_root()).arg(self.lower());
        if self.users == Users::Own {
            driver.arg(format!("ids={FIRST_ID}"));
        }
        driver.args(options).arg("--").args(command);
        driver
    }

    /// Runs a container to its end, without input.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        self.start(options, command, Stdio::null()).finish()
    }

    /// Runs a shell script in a container.
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> Ran {
        self.run(options, &["sh", "-c", script])
    }

    pub(crate) fn start(&self, options: &[&str], command: &[&str], input: Stdio) -> Started {
        let socket = self.top.path().join("report.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let report = format!("report={}", socket.display());
        let mut all = vec![report.as_str()];
        all.extend(options);
        let mut driver = self.driver(&all, command);
        driver
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = driver.spawn().unwrap();
        // The driver connects before it does anything else.
        let (stream, _) = listener.accept().unwrap();
        Started {
            child,
            events: Events(BufReader::new(stream)),
        }
    }
}

/// A container that runs, or its failure.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) events: Events,
}

impl Started {
    /// Waits for the end.
    pub(crate) fn finish(self) -> Ran {
        let output = self.child.wait_with_output().unwrap();
        let mut events = self.events;
        let mut last = Value::Null;
        while let Some(event) = events.next() {
            last = event;
        }
        Ran::new(&output, last)
    }
}

pub(crate) struct Events(BufReader<UnixStream>);

impl Events {
    /// The next event, `None` when the driver is gone.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}

/// A container that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) last: Value,
}

impl Ran {
    fn new(output: &Output, last: Value) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            last,
        }
    }

    /// What it printed, if it went well.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.trim_end()
    }

    /// Why it did not start.
    #[track_caller]
    pub(crate) fn message(&self) -> &str {
        assert_eq!(self.last["event"], "error", "{self:?}");
        self.last["message"].as_str().unwrap()
    }
}

pub(crate) fn driver_path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_container-driver"))
}

fn make_root(root: &Path) {
    for name in ["bin", "etc", "tmp", "home/app", "srv", "var"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let busybox = fs::copy(BUSYBOX, root.join("bin/busybox"));
    busybox.unwrap_or_else(|error| panic!("{BUSYBOX}: {error}: apt-get install busybox-static"));
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\napp:x:1001:\naudio:x:29:app\n",
    )
    .unwrap();
    symlink("/run", root.join("var/run")).unwrap();
    let script = |name: &str, text: &str, mode| {
        let path = root.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    script("no-interpreter", "#!/usr/bin/nothing\n", 0o755);
    script("no-program", "just text\n", 0o755);
    script("no-execute", "#!/bin/sh\n", 0o644);
}

/// Every owner below a directory becomes one of the range, as the mount of an image shows them.
fn shift_owners(path: &Path) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.uid() < FIRST_ID {
        let (user, group) = (meta.uid() + FIRST_ID, meta.gid() + FIRST_ID);
        lchown(path, Some(user), Some(group)).unwrap();
        if !meta.is_symlink() {
            // Changing the owner takes the set-id bits away.
            fs::set_permissions(path, meta.permissions()).unwrap();
        }
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            shift_owners(&entry.unwrap().path());
        }
    }
}

/// What is mounted at or below a directory.
pub(crate) fn mounts_below(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    let below = points.filter(|point| Path::new(OsStr::new(point)).starts_with(directory));
    below.map(str::to_owned).collect()
}

/// Control groups by a container's name.
pub(crate) fn groups_of(id: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let mut roots: Vec<PathBuf> = hierarchies.map(|entry| entry.path()).collect();
    roots.push(PathBuf::from("/sys/fs/cgroup"));
    let groups = roots.iter().map(|root| root.join("holdfast").join(id));
    groups.filter(|path| path.exists()).collect()
}
