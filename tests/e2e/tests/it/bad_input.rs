//! What bad input gets: one line, a documented code, nothing half-stored.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use e2e::image::busybox;
use e2e::{Finished, Home, home};
use registry_sim::{Entry, ImageBuilder, Layer, Options, RegistrySim};

use crate::serving::WITHOUT_WORKER;
use crate::support::{SmallDisk, Stage, files_below, noise};

const NOBODY: u32 = 65534;

#[test]
fn malformed_input_is_named() {
    let home = Home::new();
    for (words, code, says) in [
        (
            vec!["run", "UPPER/Case:tag!", "true"],
            125,
            "UPPER/Case:tag!",
        ),
        (vec!["run", "https://ghcr.io/a/b", "true"], 125, "https"),
        (
            vec!["run", "--shm-size", "lots", "a/b", "true"],
            125,
            "lots",
        ),
        (vec!["run", "--network", "moon", "a/b", "true"], 125, "moon"),
        (vec!["run", "--userns", "moon", "a/b", "true"], 125, "moon"),
        (
            vec!["run", "--network", "host", "a/b", "true"],
            125,
            "--userns host",
        ),
        (
            vec!["run", "-v", "nonsense", "a/b", "true"],
            125,
            "nonsense",
        ),
        (vec!["run", "-p", "99999:1", "a/b", "true"], 125, "99999"),
        (vec!["run", "--gpus", "all", "a/b", "true"], 125, "--gpus"),
        (vec!["run", "-d", "a/b", "true"], 125, "--detach"),
        (vec!["run", "--cpus", "0", "a/b", "true"], 125, "processors"),
        (
            vec!["run", "--privileged", "a/b", "true"],
            125,
            "--privileged",
        ),
        (vec!["reference", "a//b"], 3, "a//b"),
        (vec!["image", "inspect", ""], 3, "empty"),
        (vec!["logout", "nowhere.example"], 5, "nowhere.example"),
        (vec!["stop", "nobody"], 5, "nobody"),
        (vec!["cache", "prune", "--keep", "much"], 3, "much"),
        (vec!["frobnicate"], 2, "frobnicate"),
    ] {
        let run = home.run(&words);
        assert_eq!(run.code, code, "{words:?}: {}", run.stderr);
        assert!(
            run.stderr.contains(says),
            "{words:?}: {says:?} not in {:?}",
            run.stderr
        );
        assert!(
            !run.stderr.contains("panicked"),
            "{words:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn errors_are_json_when_asked_for() {
    let home = Home::new();
    let run = home.run(&["reference", "a//b", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON on stderr");
    assert_eq!(error["error"]["kind"], "invalid");
    assert!(
        error["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("a//b"))
    );
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn a_registry_that_is_not_there_is_told() {
    let home = Home::new();
    // Port 1 of the loopback has no listener on any machine that runs these tests.
    let words = [
        "run",
        "--credential",
        "none",
        "127.0.0.1:1/acme/fn:v1",
        "true",
    ];
    home.run(&words).fails(125, "127.0.0.1:1");
    home.login("127.0.0.1:1", "alice", "pw")
        .fails(6, "127.0.0.1:1");
    assert_eq!(
        home.run(&["credentials", "list", "--json"])
            .ok()
            .stdout
            .trim(),
        "[]"
    );
}

#[test]
fn the_configuration_file_is_read_and_checked() {
    let home = Home::new();
    let file = home.path().join("holdfast.toml");
    let path = file.to_str().expect("a temporary path is UTF-8");
    let list = ["--config", path, "credentials", "list"];
    home.run(&list).fails(3, path);
    for (text, says) in [
        ("dail = 1", "dail"),
        ("[dial]\nallow = [\"10.0.0.0/99\"]", "10.0.0.0/99"),
        ("cache_limit = \"much\"", "much"),
        ("userns = \"moon\"", "moon"),
    ] {
        std::fs::write(&file, text).expect("writes");
        home.run(&list).fails(3, says);
    }
    std::fs::write(
        &file,
        "[dial]\nallow = [\"192.0.2.0/24\", \"registry.internal\"]",
    )
    .expect("writes");
    home.run(&list).ok();
}

/// Reads one request and gives its first line.
fn first_line_of_a_request(listener: &TcpListener) -> String {
    let (connection, _) = listener.accept().expect("a connection");
    let mut line = String::new();
    BufReader::new(connection)
        .read_line(&mut line)
        .expect("a line");
    line
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let home = Home::new();
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = proxy.local_addr().expect("an address");
    let line = std::thread::spawn(move || first_line_of_a_request(&proxy));
    let run = home
        .command(&[
            "run",
            "--credential",
            "none",
            "registry.invalid/acme/fn:v1",
            "true",
        ])
        .env("HTTPS_PROXY", format!("http://{address}"))
        .output()
        .expect("the binary starts");
    assert_eq!(run.status.code(), Some(125));
    let line = line.join().expect("the proxy was asked");
    assert!(
        line.starts_with("CONNECT registry.invalid:443 "),
        "{line:?}"
    );
}

#[test]
fn an_image_that_is_not_there_is_told() {
    let stage = Stage::logged_in(busybox());
    let image = format!("{}/acme/other:v9", stage.registry.host());
    stage
        .home
        .run(&["run", &image, "true"])
        .fails(125, "acme/other");
    stage
        .home
        .run(&["image", "index", &image])
        .fails(5, "acme/other");
}

/// Refused with code and words, and nothing of it is left.
#[track_caller]
fn refuses_to_index(stage: &Stage, says: &str) {
    let image = &stage.image;
    stage.home.run(&["image", "index", image]).fails(8, says);
    stage.home.run(&["run", image, "true"]).fails(125, says);
    for place in ["indexes", "cache/layers", "cache/incoming"] {
        let left: Vec<_> = files_below(&stage.home.data_dir().join(place));
        assert!(left.is_empty(), "{left:?}");
    }
    let listed = stage.home.run(&["image", "list", "--json"]).ok().stdout;
    assert_eq!(listed.trim(), "[]");
}

#[test]
fn a_layer_that_is_not_the_promised_one_is_refused() {
    let promised = ImageBuilder::new().layer(Layer::gzip(&[Entry::file("a", "promised")]));
    let blob = promised.clone().build().layers.remove(0);
    let lying = Layer::compressed(&blob.media_type, blob.bytes, b"another archive");
    let lying = ImageBuilder::new().layer(lying);
    let stage = Stage::logged_in(lying.clone());
    refuses_to_index(&stage, "uncompressed digest");

    // Also where an honest image has brought the same layer here before.
    let honest = stage.push("honest", promised.clone());
    stage.home.run(&["image", "index", &honest]).ok();
    let again = stage.home.run(&["image", "index", &stage.image]);
    again.fails(8, "uncompressed digest");

    // Another time in the gzip header: it decodes to the same, and is another layer all the same.
    let stage = Stage::logged_in(promised);
    stage.registry.tamper(&blob.digest, |bytes| bytes[4] ^= 1);
    refuses_to_index(&stage, "digest");
}

#[test]
fn a_root_key_that_is_gone_is_never_replaced() {
    let stage = Stage::logged_in(busybox());
    std::fs::remove_file(stage.home.root_key()).expect("the root key was made");
    stage
        .home
        .run(&["credentials", "list"])
        .fails(11, "root key");
    assert!(!stage.home.root_key().exists());
}

/// Runs in a mount namespace where `script` has taken something from the machine.
fn without(stage: &Stage, script: &str) -> Finished {
    let script = format!("{script}; exec \"$0\" \"$@\"");
    let starter = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        &script,
    ];
    let unshare = stage
        .home
        .command_by(&starter, &["run", &stage.image, "true"]);
    home::finish(home::spawn(unshare), "")
}

#[test]
fn what_the_machine_lacks_is_told() {
    let stage = Stage::logged_in(busybox());
    let devices = "mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/urandom c 1 9";
    without(&stage, devices).fails(125, "/dev/fuse");
    let hide = "for name in runc crun; do for place in /usr/local/sbin /usr/local/bin /usr/sbin \
        /usr/bin; do [ ! -e $place/$name ] || mount --bind /dev/null $place/$name; done; done";
    without(&stage, hide).fails(125, "apt-get install runc");
    stage.home.run(&["run", &stage.image, "true"]).ok();
}

#[test]
fn a_registry_that_resets_in_mid_layer_is_read_on_or_told() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sim = runtime.block_on(RegistrySim::start(Options::default()));
    let noise = Entry::file("noise", noise(3, 3 << 20));
    let image = busybox().layer(Layer::gzip(&[noise])).build();
    sim.push("acme/fn", "v1", &image);
    let name = format!("{}/acme/fn:v1", sim.host());
    let words = ["image", "index", "--credential", "none", &name];
    let home = Home::new();
    sim.faults(|faults| faults.reset_after = Some(0));
    home.run(&words).fails(6, sim.host());
    let left = files_below(&home.data_dir().join("cache/incoming"));
    assert!(left.is_empty(), "{left:?}");
    sim.faults(|faults| (faults.reset_after, faults.break_times) = (Some(1 << 20), Some(2)));
    home.run(&words).ok();
}

#[test]
fn a_disk_without_room_for_the_databases_is_told() {
    let home = Home::new();
    std::fs::create_dir(home.data_dir()).expect("creates");
    let disk = SmallDisk::mount(&home.data_dir(), "100k");
    let run = home.login("127.0.0.1:1/acme", "alice", "pw");
    assert_eq!(run.code, 10, "{}", run.stderr);
    assert!(run.stderr.contains("hint: make room"), "{}", run.stderr);
    drop(disk);
}

#[test]
fn without_root_the_error_says_so() {
    let home = Home::new();
    let containers = "needs root\nhint: sudo holdfast ";
    // What is not there is no secret of anybody's.
    assert_eq!(home.run(&["ps"]).ok().stdout.lines().count(), 1);
    let run_dir = home.run_dir().join("containers");
    let unreadable = format!("{}: Permission denied", run_dir.display());
    std::fs::create_dir_all(&run_dir).expect("we are root");
    std::fs::set_permissions(&run_dir, Permissions::from_mode(0o700)).expect("it is ours");
    for (words, code, says) in [
        (vec!["ps"], 10, &*unreadable),
        (vec!["stop", "web2"], 10, &unreadable),
        (vec!["run", "127.0.0.1:1/a/b", "true"], 125, containers),
        (vec!["serve", "--listen", "127.0.0.1:0"], 10, containers),
        (vec!["worker", "run", "127.0.0.1:1"], 10, containers),
    ] {
        let output = home.command(&words).uid(NOBODY).output();
        let output = output.expect("the binary is executable by anyone");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(says), "{words:?}: {stderr}");
    }
}

#[test]
fn a_gateway_without_a_worker_needs_no_root() {
    let home = Home::new();
    chown(home.path(), Some(NOBODY), Some(NOBODY)).expect("we are root");
    let mut gateway = home.command(&WITHOUT_WORKER);
    gateway.uid(NOBODY).gid(NOBODY).stdout(Stdio::piped());
    let mut gateway = gateway.spawn().expect("the binary is executable by anyone");
    let mut line = String::new();
    let mut stdout = BufReader::new(gateway.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("UTF-8");
    gateway.kill().expect("it runs");
    gateway.wait().expect("it ended");
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
}
