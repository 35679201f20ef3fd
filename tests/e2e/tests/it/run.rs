//! `holdfast run` on a private image: what a person types, sees, and gets back.

use std::process::{Command, Stdio};

use e2e::home;
use e2e::image::busybox;
use registry_sim::{Entry, Layer};
use serde_json::json;

use crate::support::{Stage, USER, leftovers, noise};

#[test]
fn a_private_image_runs_after_one_login() {
    let stage = Stage::logged_in(busybox());
    let run = stage
        .home
        .run(&["run", &stage.image, "--", "echo", "hello"])
        .ok();
    assert_eq!(run.stdout, "hello\n");
    let again = stage.home.run(&["run", &stage.image, "echo", "again"]).ok();
    assert_eq!(again.stdout, "again\n");
    assert!(
        !again.stderr.contains("indexing"),
        "indexed twice: {}",
        again.stderr
    );
}

#[test]
fn exit_codes_are_the_commands_own() {
    let stage = Stage::logged_in(busybox());
    for (command, code) in [
        (vec!["sh", "-c", "exit 7"], 7),
        (vec!["true"], 0),
        (vec!["/no/such/program"], 127),
        (vec!["/etc/passwd"], 126),
        (vec!["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
    ] {
        let mut words = vec!["run", &stage.image, "--"];
        words.extend(&command);
        let run = stage.home.run(&words);
        assert_eq!(run.code, code, "{command:?}: {}", run.stderr);
    }
}

/// Distributions share mounts between namespaces: what a container gives up goes nowhere else.
#[test]
fn volumes_take_no_mount_off_the_machine() {
    const SCRIPT: &str = "mount -t tmpfs none \"$0/below\"; echo kept > \"$0/below/file\"; \"$@\"; \
                          cat \"$0/below/file\"";
    let stage = Stage::logged_in(busybox());
    let source = stage.home.path().join("shared");
    std::fs::create_dir_all(source.join("below")).expect("a directory to share");
    let volume = format!("{}:/data", source.display());
    for userns in ["private", "host"] {
        let words = ["run", "--userns", userns, "-v", &volume, &stage.image];
        let command = stage
            .home
            .command(&[&words[..], &["cat", "/data/below/file"]].concat());
        let variables = command.get_envs();
        let run = Command::new("unshare")
            .args(["--mount", "--propagation", "shared", "sh", "-ec", SCRIPT])
            .arg(&source)
            .arg(command.get_program())
            .args(command.get_args())
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let run = home::finish(run.expect("unshare is there"), "").ok();
        assert_eq!(run.stdout, "kept\nkept\n", "{userns}: {}", run.stderr);
    }
}

#[test]
fn flags_reach_the_container() {
    let stage = Stage::logged_in(busybox());
    let host = stage.home.path().join("shared");
    std::fs::create_dir(&host).expect("a directory to share");
    std::fs::write(host.join("note"), "from the host").expect("a note");
    let volume = format!("{}:/mnt/shared:ro", host.display());
    for (flags, script, output) in [
        (vec!["-e", "GREETING=hi"], "echo $GREETING", "hi"),
        (vec!["-w", "/tmp"], "pwd", "/tmp"),
        (vec!["-u", "app"], "id -u", "1000"),
        (vec!["-u", "1234:5678"], "id -g", "5678"),
        (vec!["-v", &volume], "cat /mnt/shared/note", "from the host"),
        (
            vec!["-v", &volume],
            "echo x > /mnt/shared/note || echo refused",
            "refused",
        ),
        (vec!["--network", "none"], "ls /sys/class/net", "lo"),
        (
            vec![],
            "echo $(cat /proc/self/uid_map)",
            "0 1895825408 65536",
        ),
        (
            vec!["--userns", "host"],
            "echo $(cat /proc/self/uid_map)",
            "0 0 4294967295",
        ),
        (
            vec!["--userns", "host", "--network", "host"],
            "id -u > /tmp/id && cat /tmp/id",
            "0",
        ),
        (vec![], "set -- $(ls -ln /bin/busybox); echo $3 $4", "0 0"),
        (
            vec!["-v", &volume],
            "set -- $(ls -ln /mnt/shared/note); echo $3 $4",
            "0 0",
        ),
    ] {
        let mut words = vec!["run"];
        words.extend(&flags);
        words.extend([stage.image.as_str(), "--", "sh", "-c", script]);
        let run = stage.home.run(&words).ok();
        assert_eq!(run.stdout.trim_end(), output, "{flags:?}: {}", run.stderr);
    }
}

#[test]
fn the_image_configuration_decides_what_flags_leave_open() {
    let image = busybox()
        .config("Entrypoint", json!(["/bin/sh", "-c"]))
        .config("Cmd", json!(["id -u; pwd; cat data; echo \" $COLOR\""]))
        .config("Env", json!(["PATH=/bin", "COLOR=green"]))
        .config("User", json!("app"))
        .config("WorkingDir", json!("/srv"))
        .layer(Layer::gzip(&[Entry::file("srv/data", "in the image")]));
    let stage = Stage::logged_in(image);
    let run = stage.home.run(&["run", &stage.image]).ok();
    assert_eq!(run.stdout, "1000\n/srv\nin the image green\n");
    let run = stage
        .home
        .run(&["run", "-e", "COLOR=red", &stage.image, "--", "echo $COLOR"])
        .ok();
    assert_eq!(run.stdout, "red\n");
}

#[test]
fn standard_input_flows_only_when_asked_for() {
    let stage = Stage::logged_in(busybox());
    let run = stage
        .home
        .run_with_input(&["run", "-i", &stage.image, "cat"], "through")
        .ok();
    assert_eq!(run.stdout, "through");
    let run = stage
        .home
        .run_with_input(&["run", &stage.image, "cat"], "unheard")
        .ok();
    assert_eq!(run.stdout, "");
}

#[test]
fn a_wrong_password_is_told_and_nothing_is_stored() {
    let stage = Stage::new(busybox());
    stage
        .home
        .login(&stage.scope(), USER, "wrong")
        .fails(4, "error: ");
    let list = stage.home.run(&["credentials", "list", "--json"]).ok();
    assert_eq!(list.json(), json!([]));
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, "holdfast login");
}

#[test]
fn a_changed_password_needs_a_login_and_no_new_index() {
    let mut stage = Stage::logged_in(busybox());
    stage.home.run(&["run", &stage.image, "true"]).ok();
    stage.registry.set_password("the new one");
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, &format!("holdfast login {}`", stage.scope()));
    stage.home.login(&stage.scope(), USER, "the new one").ok();
    let run = stage.home.run(&["run", &stage.image, "echo", "back"]).ok();
    assert_eq!(run.stdout, "back\n");
    assert!(
        !run.stderr.contains("indexing"),
        "indexed again: {}",
        run.stderr
    );
}

#[test]
fn logout_ends_the_right_to_start() {
    let stage = Stage::logged_in(busybox());
    stage.home.run(&["run", &stage.image, "true"]).ok();
    stage.home.run(&["logout", &stage.scope()]).ok();
    stage
        .home
        .run(&["run", &stage.image, "true"])
        .fails(125, "holdfast login");
    stage
        .home
        .run(&["logout", &stage.scope()])
        .fails(5, &stage.scope());
}

#[test]
fn the_anonymous_pull_is_explicit() {
    let stage = Stage::logged_in(busybox());
    let words = ["run", "--credential", "none", &stage.image, "true"];
    stage.home.run(&words).fails(125, "demands a login");
}

#[test]
fn the_mounted_tree_is_lazy() {
    let big = Entry::file("big", noise(1, 8 << 20));
    let stage = Stage::logged_in(busybox().layer(Layer::gzip(&[big])));
    stage.home.run(&["image", "index", &stage.image]).ok();
    stage.home.run(&["cache", "prune", "--all"]).ok();
    let timing = stage.home.path().join("timing.json");
    let words = [
        "run",
        "--timing-json",
        timing.to_str().expect("utf-8"),
        &stage.image,
        "true",
    ];
    stage.home.run(&words).ok();
    let text = std::fs::read_to_string(&timing).expect("the timing file");
    let timing: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let fetched = timing["bytes_fetched"].as_u64().expect("a number");
    let total = timing["bytes_total"].as_u64().expect("a number");
    assert!(
        fetched > 0 && fetched * 3 < total,
        "fetched {fetched} of {total}"
    );
    assert_eq!(timing["cold"], true);
    assert_eq!(timing["exit_code"], 0);
    assert!(timing["reads"].as_u64().is_some_and(|reads| reads > 0));
    assert!(timing["stall_p99_ms"].is_f64(), "{timing}");
    assert!(
        timing["phases"]
            .as_array()
            .is_some_and(|phases| !phases.is_empty())
    );
}

#[test]
fn a_tag_means_what_the_registry_says_now() {
    let marked = |text: &str| busybox().layer(Layer::gzip(&[Entry::file("mark", text)]));
    let stage = Stage::logged_in(marked("first"));
    let run = || {
        stage
            .home
            .run(&["run", &stage.image, "cat", "/mark"])
            .ok()
            .stdout
    };
    assert_eq!((&*run(), &*run()), ("first", "first"));
    stage.push("v1", marked("second"));
    assert_eq!((&*run(), &*run()), ("second", "second"));
    stage.push("v1", marked("first"));
    assert_eq!(run(), "first", "both are known here");
    assert_eq!(leftovers(&stage.home), Vec::<String>::new());
}

/// A start waits for what nobody has told it yet: the registry's word, and not for what it knows.
#[test]
fn a_start_asks_for_the_manifest_and_prepares_beside() {
    let stage = Stage::logged_in(busybox());
    let timing = stage.home.path().join("timing.json");
    let start = || -> serde_json::Value {
        let path = timing.to_str().expect("utf-8");
        let words = ["run", "--timing-json", path, &stage.image, "true"];
        stage.home.run(&words).ok();
        serde_json::from_slice(&std::fs::read(&timing).expect("a timing")).expect("JSON")
    };
    start();
    let known = start();
    let (phases, requests) = (&known["phases"], &known["requests"]);
    let phases = phases.as_array().expect("phases");
    let find = |name: &str| {
        let found = phases.iter().find(|phase| phase["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {known}"))
    };
    let begun = |name: &str| find(name)["start_ms"].as_f64().expect("a time");
    for beside in ["directory", "runtime", "mount process"] {
        assert!(begun(beside) < begun("resolve"), "{beside}: {known}");
    }
    for name in [
        "lease",
        "network",
        "mount",
        "container",
        "command",
        "unmount",
        "clean up",
    ] {
        find(name);
    }
    stage.push(
        "v1",
        busybox().layer(Layer::gzip(&[Entry::file("new", "1")])),
    );
    let changed = start();
    let more = changed["requests"].as_u64() > requests.as_u64();
    assert!(
        more,
        "another configuration is asked for: {known} {changed}"
    );
}
