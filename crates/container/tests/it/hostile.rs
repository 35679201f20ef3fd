//! Images and configurations that want out: each ends in an error with a name or in a contained
//! run, and leaves nothing mounted, nothing running and no file of the machine changed.
//!
//! Every row runs with the container's own ids and with the machine's, which protect differently.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::fixture::{Place, Ran, Users, mounts_below};

/// What becomes of a row.
enum Ends {
    /// It runs and prints this.
    Prints(&'static str),
    /// It does not start, for a reason that begins so.
    Refused(&'static str),
}

use Ends::{Prints, Refused};

/// A machine's side of a test: an image to spoil, and files that must stay as they are.
struct Stage {
    place: Place,
    before: Vec<(PathBuf, String)>,
}

impl Stage {
    fn new(users: Users) -> Self {
        let place = Place::with(users);
        let outside = place.top.path().join("outside");
        fs::create_dir(&outside).unwrap();
        // Anybody may write here, so that only the root's borders protect it.
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(outside.join("secret"), "the machine's\n").unwrap();
        fs::write(outside.join("passwd"), "app:x:0:0::/:/bin/sh\n").unwrap();
        fs::set_permissions(place.top.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let before = machine(&place);
        Self { place, before }
    }

    fn image(&self, path: &str) -> PathBuf {
        let path = self.place.lower().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).unwrap();
        }
        path
    }

    fn outside(&self) -> PathBuf {
        self.place.top.path().join("outside")
    }

    fn link(&self, path: &str, target: impl AsRef<Path>) {
        symlink(target, self.image(path)).unwrap();
    }

    fn node(&self, path: &str, kind: FileType, numbers: (u32, u32)) {
        let device = makedev(numbers.0, numbers.1);
        let path = self.image(path);
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o666), device).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    }

    fn fifo(&self, path: &str) {
        self.node(path, FileType::Fifo, (0, 0));
    }

    /// Runs in the image as it is now, with an image configuration.
    fn run(&self, config: &Value, options: &[&str], command: &[&str]) -> Ran {
        self.place.give_image();
        let file = self.place.top.path().join("config.json");
        fs::write(&file, json!({ "config": config }).to_string()).unwrap();
        let option = format!("config={}", file.display());
        let mut all = vec![option.as_str()];
        all.extend(options);
        self.place.run(&all, command)
    }

    #[track_caller]
    fn check(&self, what: &str, ran: &Ran, ends: &Ends) {
        match ends {
            Prints(text) => assert_eq!(ran.ok(), *text, "{what}"),
            Refused(reason) => {
                assert!(ran.message().starts_with(reason), "{what}: {ran:?}");
                assert_eq!(ran.stdout, "", "{what}");
            }
        }
        self.nothing_stays(what);
    }

    #[track_caller]
    fn nothing_stays(&self, what: &str) {
        let left = fs::read_dir(self.place.run_root()).into_iter().flatten();
        let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| name == ".lock"), "{what}: {left:?}");
        let top = self.place.top.path();
        assert_eq!(mounts_below(top), Vec::<String>::new(), "{what}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(top.to_str().unwrap()), "{what}: {mounts}");
        assert_eq!(machine(&self.place), self.before, "{what}");
    }
}

/// Files of the machine that images go for, with all that would show a change.
fn machine(place: &Place) -> Vec<(PathBuf, String)> {
    let names = ["passwd", "group", "hosts", "hostname", "resolv.conf"];
    let mut paths: Vec<PathBuf> = names
        .iter()
        .map(|name| Path::new("/etc").join(name))
        .collect();
    paths.extend(["/", "/etc", "/dev/ptmx", "/dev/fd", "/dev/null"].map(PathBuf::from));
    let outside = place.top.path().join("outside");
    paths.extend([
        outside.clone(),
        outside.join("secret"),
        outside.join("passwd"),
    ]);
    paths.push(container::Runtime::find().unwrap().program().to_owned());
    let describe = |path: PathBuf| {
        let seen = path.symlink_metadata().map(|meta| {
            let kept = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.size());
            let times = (meta.mtime(), meta.mtime_nsec());
            // The owner and mode of a device are told above; terminals are written all the time.
            let is_device = meta.file_type().is_char_device();
            format!("{kept:?} {:?}", (!is_device).then_some(times))
        });
        (path, seen.unwrap_or_else(|error| error.to_string()))
    };
    paths.into_iter().map(describe).collect()
}

fn both(test: impl Fn(&Stage, Users)) {
    for users in [Users::Own, Users::Machine] {
        test(&Stage::new(users), users);
    }
}

#[test]
fn working_directories_stay_inside() {
    both(|stage, _| {
        let outside = stage.outside();
        stage.link("out", &outside);
        stage.link("up", "../../../../../..");
        stage.link("descriptor", "/proc/self/fd/7");
        stage.link("by-device", "/dev/fd/7");
        stage.link("sideways", "../proc/../proc/self/cwd");
        stage.link("loop", "loop");
        stage.fifo("fifo");
        let long = "x".repeat(5000);
        let deep = "/d".repeat(2500);
        let rows = [
            ("/../../../tmp/../../x", Prints("/x")),
            ("srv/../etc", Prints("/etc")),
            ("/missing/of/old", Prints("/missing/of/old")),
            ("/up/up/y", Prints("/y")),
            ("/a\nb", Prints("/a\nb")),
            ("", Prints("/")),
            (
                "/proc/self/fd/7",
                Refused("working directory `/proc/self/fd/7` leads into /proc"),
            ),
            (
                "/x/../proc/1/root",
                Refused("working directory `/proc/1/root` leads into /proc"),
            ),
            (
                "/descriptor",
                Refused("working directory /descriptor leads into /proc"),
            ),
            (
                "/dev/fd/7",
                Refused("working directory `/dev/fd/7` leads into /proc"),
            ),
            (
                "/by-device",
                Refused("working directory /by-device leads into /proc"),
            ),
            ("/descriptor/..", Prints("/")),
            (
                "/sideways/x",
                Refused("working directory /sideways/x leads into /proc"),
            ),
            (
                "/loop",
                Refused("cannot make working directory /loop in the container"),
            ),
            (
                "/fifo",
                Refused("cannot make working directory /fifo in the container"),
            ),
            (&long, Refused("cannot make working directory /xxxx")),
            (&deep, Refused("cannot make working directory /d/d")),
            (
                "/a\0b",
                Refused("working directory `/a\\0b` is not an absolute path"),
            ),
        ];
        for (cwd, ends) in rows {
            let ran = stage.run(&json!({ "WorkingDir": cwd }), &[], &["pwd", "-P"]);
            stage.check(&cwd.escape_debug().to_string(), &ran, &ends);
        }
        let ran = stage.run(&json!({ "WorkingDir": "/out" }), &[], &["ls", "-A"]);
        stage.check("a link out", &ran, &Prints(""));
    });
}

/// The runtime once kept a directory of the machine open under a number that a link could name.
#[test]
fn descriptors_of_the_runtime_are_no_working_directory() {
    let stage = Stage::new(Users::Machine);
    let shared = stage.place.top.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let secret = stage.outside().join("secret");
    for number in 3..16 {
        let link = shared.join(number.to_string());
        symlink(format!("/proc/self/fd/{number}"), link).unwrap();
        let volume = format!("volume={}:/shared", shared.display());
        let cwd = format!("cwd=/shared/{number}");
        let path = format!("../../../../../../..{}", secret.display());
        let ran = stage.run(&json!({}), &[&volume, &cwd], &["cat", &path]);
        assert_ne!(ran.code, Some(0), "{number}: {ran:?}");
        assert_eq!(ran.stdout, "", "{number}");
        stage.nothing_stays(&cwd);
    }
}

#[test]
fn users_of_any_kind_are_numbers_or_refused() {
    both(|stage, users| {
        let rows = [
            ("-1", Refused("user `-1` is not in the image's /etc/passwd")),
            (
                "0:-5",
                Refused("group `-5` is not in the image's /etc/group"),
            ),
            (
                "4294967295",
                Refused("id `4294967295` is not between 0 and 2147483647"),
            ),
            (
                "4294967296",
                Refused("id `4294967296` is not between 0 and 2147483647"),
            ),
            (
                "99999999999999999999",
                Refused("id `99999999999999999999` is not between"),
            ),
            (
                "0x0",
                Refused("user `0x0` is not in the image's /etc/passwd"),
            ),
            (
                "app\nroot",
                Refused("user `app\\nroot` is not of the form USER or USER:GROUP"),
            ),
            (
                "app\0",
                Refused("user `app\\0` is not of the form USER or USER:GROUP"),
            ),
            (
                "../../etc/shadow",
                Refused("user `../../etc/shadow` is not in the image's"),
            ),
            ("65535:65535", Prints("65535 65535")),
        ];
        for (user, ends) in rows {
            let ran = stage.run(
                &json!({ "User": user }),
                &[],
                &["sh", "-c", "echo $(id -u) $(id -g)"],
            );
            stage.check(&user.escape_debug().to_string(), &ran, &ends);
        }
        let ran = stage.run(&json!({ "User": "65536" }), &[], &["id", "-u"]);
        let ends = match users {
            Users::Own => Refused("user or group id 65536 is beyond the 65536 ids"),
            Users::Machine => Prints("65536"),
        };
        stage.check("an id past the range", &ran, &ends);
    });
}

#[test]
fn account_files_of_any_kind_are_read_or_refused() {
    both(|stage, _| {
        let unknown = || Refused("user `app` is not in the image's /etc/passwd");
        let special = || Refused("cannot read /etc/passwd of the image: not a regular file");
        let check = |what: &str, ends: &Ends| {
            let ran = stage.run(&json!({ "User": "app" }), &[], &["id", "-u"]);
            stage.check(what, &ran, ends);
        };
        stage.link("etc/passwd", stage.outside().join("passwd"));
        check("a link to the machine's", &unknown());
        stage.link("etc/passwd", "../../../../../../etc/passwd");
        check(
            "a link to itself",
            &Refused("cannot read /etc/passwd of the image: "),
        );
        stage.link("etc/passwd", "/proc/1/environ");
        check("a link into /proc", &unknown());
        fs::File::create(stage.image("etc/passwd"))
            .unwrap()
            .set_len(100 << 20)
            .unwrap();
        check(
            "100 MB",
            &Refused("cannot read /etc/passwd of the image: larger than"),
        );
        stage.fifo("etc/passwd");
        check("a pipe", &special());
        stage.node("etc/passwd", FileType::CharacterDevice, (1, 5));
        check("/dev/zero", &special());
        fs::create_dir(stage.image("etc/passwd")).unwrap();
        check("a directory", &special());
        fs::remove_dir(stage.place.lower().join("etc/passwd")).unwrap();
        fs::write(
            stage.image("etc/passwd"),
            b"app:x:1:1:\xff:/\0:/\napp:x:7:7::/:\n",
        )
        .unwrap();
        check("bytes", &Prints("7"));
        stage.fifo("etc/group");
        check(
            "groups in a pipe",
            &Refused("cannot read /etc/group of the image: not a regular"),
        );
    });
}

#[test]
fn generated_files_are_mounted_over_whatever_the_image_has() {
    both(|stage, _| {
        let outside = stage.outside();
        let script =
            "cat /etc/hostname; grep -c box /etc/hosts; test -f /etc/resolv.conf && echo is";
        let run = || stage.run(&json!({}), &["hostname=box"], &["sh", "-c", script]);
        let good = || Prints("box\n1\nis");
        for name in ["etc/hostname", "etc/hosts", "etc/resolv.conf"] {
            stage.link(name, outside.join("secret"));
            stage.check("a link to a file outside", &run(), &good());
            stage.link(name, outside.join("made"));
            stage.check("a link to nothing outside", &run(), &good());
            stage.link(name, "../../../../../../made/by/link");
            stage.check("a link upwards", &run(), &good());
            stage.fifo(name);
            stage.check("a pipe", &run(), &good());
            stage.node(name, FileType::CharacterDevice, (1, 5));
            stage.check("a device", &run(), &good());
            fs::create_dir(stage.image(name)).unwrap();
            let ends = Refused("cannot make /etc/");
            stage.check("a directory", &run(), &ends);
            fs::remove_dir(stage.place.lower().join(name)).unwrap();
            stage.link(name, name.rsplit('/').next().unwrap());
            stage.check("a loop", &run(), &ends);
            fs::remove_file(stage.place.lower().join(name)).unwrap();
            stage.check("missing", &run(), &good());
        }
        fs::remove_dir_all(stage.place.lower().join("etc")).unwrap();
        stage.check("no /etc", &run(), &good());
        stage.link("etc", &outside);
        stage.check("/etc outside", &run(), &good());
        stage.link("etc", "../../../../..");
        let ran = stage.run(&json!({}), &["hostname=box"], &["cat", "/hostname"]);
        stage.check("/etc above the root", &ran, &Prints("box"));
    });
}

#[test]
fn kernel_filesystems_are_mounted_on_directories_alone() {
    both(|stage, _| {
        let outside = stage.outside();
        let check = |what: &str, ends: &Ends| {
            let ran = stage.run(
                &json!({}),
                &[],
                &["sh", "-c", "test -c /dev/null && echo runs"],
            );
            stage.check(what, &ran, ends);
        };
        for (name, refused) in [
            ("proc", "/proc of the image is not a directory"),
            ("sys", "/sys of the image is not a directory"),
            ("dev", "/dev of the image is not a directory"),
        ] {
            check("missing", &Prints("runs"));
            stage.link(name, &outside);
            check("a link out", &Refused(refused));
            stage.link(name, format!("/{name}"));
            check("a link to the machine's", &Refused(refused));
            stage.link(name, "../../../..");
            check("a link upwards", &Refused(refused));
            stage.fifo(name);
            check("a pipe", &Refused(refused));
            stage.node(name, FileType::CharacterDevice, (1, 3));
            check("a device", &Refused(refused));
            fs::remove_file(stage.place.lower().join(name)).unwrap();
        }
        for name in [
            "dev/shm",
            "dev/pts",
            "dev/mqueue",
            "dev/null",
            "dev/ptmx",
            "dev/fd",
        ] {
            stage.link(name, &outside);
            check(name, &Prints("runs"));
        }
        stage.link("sys/fs", &outside);
        check("sys/fs", &Prints("runs"));
    });
}

#[test]
fn volume_targets_land_inside() {
    both(|stage, _| {
        let outside = stage.outside();
        let data = stage.place.top.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), "shared\n").unwrap();
        stage.link("to-etc", "/etc");
        stage.link("to-proc", "/proc");
        stage.link("to-self", "/proc/self/attr");
        stage.link("to-dev", "srv/../dev");
        stage.link("to-shm", "/dev/shm");
        stage.link("out", &outside);
        stage.link("up", "../../../../../..");
        stage.fifo("fifo");
        let out = format!("{}/x/file", outside.display());
        let rows = [
            ("/to-etc", "/etc/file", Prints("shared")),
            ("/to-etc/below", "/etc/below/file", Prints("shared")),
            ("/out/x", out.as_str(), Prints("shared")),
            ("/up/tmp", "/tmp/file", Prints("shared")),
            (
                "/to-proc",
                "",
                Refused("volume target /to-proc leads to /proc,"),
            ),
            (
                "/to-self",
                "",
                Refused("volume target /to-self leads to /proc/"),
            ),
            (
                "/to-dev",
                "",
                Refused("volume target /to-dev leads to /dev,"),
            ),
            (
                "/to-shm/x",
                "",
                Refused("volume target /to-shm/x leads to /dev/"),
            ),
            ("/fifo", "", Refused("cannot make /fifo in the container")),
        ];
        for (target, file, ends) in rows {
            let volume = format!("volume={}:{target}", data.display());
            let ran = stage.run(&json!({}), &[&volume], &["cat", file]);
            stage.check(target, &ran, &ends);
        }
        let listed: Vec<_> = fs::read_dir(&data).unwrap().flatten().collect();
        assert_eq!(
            listed
                .iter()
                .filter(|entry| entry.file_name() == "file")
                .count(),
            1
        );
    });
}

#[test]
fn device_nodes_of_an_image_do_not_open() {
    both(|stage, users| {
        let disk = disk();
        for place in ["dev", "srv"] {
            stage.node(&format!("{place}/disk"), FileType::BlockDevice, disk);
            stage.node(&format!("{place}/mem"), FileType::CharacterDevice, (1, 1));
            stage.node(&format!("{place}/kmsg"), FileType::CharacterDevice, (1, 11));
            stage.node(
                &format!("{place}/fuse"),
                FileType::CharacterDevice,
                (10, 229),
            );
            stage.node(
                &format!("{place}/tun"),
                FileType::CharacterDevice,
                (10, 200),
            );
        }
        let script = "for place in dev srv; do for name in disk mem kmsg fuse tun; do \
                      (exec < /$place/$name) 2> /dev/null && echo read $place $name; \
                      (exec 1<> /$place/$name) 2> /dev/null && test $place = srv && \
                      echo written $place $name; done; done; echo tried";
        // The runtime lets that one node through. Without the right to change networks, which no
        // container has, nothing can be made of it.
        let expected = match users {
            Users::Own => "tried",
            Users::Machine => "read srv tun\nwritten srv tun\ntried",
        };
        for options in [&[][..], &["user=app"]] {
            let ran = stage.run(&json!({}), options, &["sh", "-c", script]);
            stage.check("devices", &ran, &Prints(expected));
        }
    });
}

/// A disk of the machine; where it has none, a number that is one everywhere.
fn disk() -> (u32, u32) {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok());
    let mut parsed = numbers.filter_map(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    parsed.next().unwrap_or((8, 0))
}

#[test]
fn set_id_programs_gain_nothing() {
    both(|stage, _| {
        let program = stage.image("gain/busybox");
        fs::copy("/bin/busybox", &program).unwrap();
        stage.place.give_image();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
        let script = "stat -c %a /gain/busybox; /gain/busybox id -u; \
                      /gain/busybox grep -E '^(Uid|CapEff)' /proc/self/status";
        let ran = stage.run(&json!({ "User": "app" }), &[], &["sh", "-c", script]);
        let seen: Vec<&str> = ran.ok().split_whitespace().collect();
        let expected = ["6755", "1000", "Uid:", "1000", "1000", "1000", "1000"];
        assert_eq!(seen[..7], expected);
        assert_eq!(seen[7..], ["CapEff:", "0000000000000000"]);
        stage.nothing_stays("set-id");
    });
}

#[test]
fn programs_that_are_none_are_refused() {
    both(|stage, _| {
        stage.link(
            "bin/out",
            "/../../../../../../../../bin/bash-of-the-machine",
        );
        stage.link("bin/loop", "loop");
        stage.fifo("bin/pipe");
        stage.node("bin/device", FileType::CharacterDevice, (1, 5));
        for name in ["pipe", "device"] {
            let path = stage.place.lower().join("bin").join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let script = |name: &str, text: &str| {
            let path = stage.image(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("bin/empty", "");
        script("bin/nameless", "#!\n");
        script("bin/outside", "#!../../../../../bin/sh\necho inside\n");
        script("bin/to-directory", "#!/etc\n");
        let rows = [
            ("/etc", "`/etc` cannot be executed: permission denied"),
            ("/bin/out", "`/bin/out` is not in the image"),
            (
                "/bin/loop",
                "`/bin/loop` cannot be executed: too many symbolic links",
            ),
            (
                "/bin/pipe",
                "`/bin/pipe` cannot be executed: permission denied",
            ),
            (
                "/bin/device",
                "`/bin/device` cannot be executed: permission denied",
            ),
            (
                "/bin/empty",
                "`/bin/empty` cannot be executed: not a program of this machine",
            ),
            (
                "/bin/nameless",
                "`/bin/nameless` cannot be executed: not a program",
            ),
            (
                "/bin/no-interpreter",
                "`/bin/no-interpreter` needs `/usr/bin/nothing`",
            ),
            (
                "/bin/to-directory",
                "`/bin/to-directory` cannot be executed: permission denied",
            ),
        ];
        for (program, reason) in rows {
            let ran = stage.run(&json!({ "Entrypoint": [program] }), &[], &[]);
            stage.check(program, &ran, &Refused(reason));
            assert!(matches!(ran.code, Some(126 | 127)), "{program}: {ran:?}");
        }
        let ran = stage.run(&json!({ "Entrypoint": ["/bin/outside"] }), &[], &[]);
        stage.check("an interpreter upwards", &ran, &Prints("inside"));
    });
}

/// A program that asks to be run by whatever runs it gets a copy, never the machine's runtime.
#[test]
fn the_runtime_is_not_reached_through_itself() {
    both(|stage, _| {
        let path = stage.image("bin/again");
        fs::write(&path, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let ran = stage.run(&json!({ "Entrypoint": ["/bin/again"] }), &[], &[]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        stage.nothing_stays("the runtime as interpreter");
    });
}

/// Each ends as it should, with the image's configuration alone.
fn check_configurations(rows: Vec<(Value, Ends)>) {
    let stage = Stage::new(Users::Own);
    for (config, ends) in rows {
        let ran = stage.run(&config, &[], &[]);
        let what: String = config.to_string().chars().take(60).collect();
        stage.check(&what, &ran, &ends);
    }
}

#[test]
fn configurations_beyond_all_measure_are_refused() {
    let mebibyte = "x".repeat(1 << 20);
    let many: Vec<String> = (0..10_000).map(|number| format!("V{number}=1")).collect();
    let places = ["/nowhere:"; 13_000].concat();
    let too_long = || Refused("command and environment hold more than 2097152 bytes");
    let env = |entries: &[String]| json!({ "Cmd": ["true"], "Env": entries });
    let twice = [format!("A={mebibyte}"), format!("B={mebibyte}")];
    let all = json!({ "Env": many, "Cmd": ["sh", "-c", "env | grep -c ^V"] });
    let path = json!({ "Env": [format!("PATH={places}")], "Cmd": ["x"] });
    let one = Refused("the command or an environment entry is longer than 131071 bytes");
    let huge = Refused("image configuration is not valid: more than 8388608 bytes");
    check_configurations(vec![
        (env(&twice), too_long()),
        (json!({ "Cmd": ["true", mebibyte, mebibyte] }), too_long()),
        (json!({ "Cmd": ["true", mebibyte] }), one),
        (all, Prints("10000")),
        (path, Refused("`x` is not in the image")),
        (json!("x".repeat(9 << 20)), huge),
    ]);
}

#[test]
fn configurations_of_another_shape_are_refused() {
    let invalid = || Refused("image configuration is not valid: ");
    check_configurations(vec![
        (json!({ "Cmd": "sh" }), invalid()),
        (json!({ "Cmd": [["sh"]] }), invalid()),
        (json!({ "Cmd": ["true"], "Env": { "A": "b" } }), invalid()),
        (json!({ "Cmd": ["true"], "User": 0 }), invalid()),
        (json!({ "Cmd": ["true"], "WorkingDir": ["/"] }), invalid()),
        (json!([1, 2]), invalid()),
        (json!("sh"), invalid()),
        (json!(null), Refused("no command: ")),
        (json!({ "Cmd": [] }), Refused("no command: ")),
        (
            json!({ "Cmd": ["\0"] }),
            Refused("argument 0 of the command holds a zero byte"),
        ),
        (
            json!({ "Cmd": ["true"], "Env": ["=x"] }),
            Refused("environment entry `=x` has no name"),
        ),
        (
            json!({ "Cmd": ["true"], "Env": ["A=\0"] }),
            Refused("environment entry `A=\\0` has"),
        ),
    ]);
}
