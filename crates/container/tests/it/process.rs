//! What runs: exit codes, output, environment, user, working directory, failures to execute.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::fixture::Place;

#[test]
fn the_exit_code_is_the_programs() {
    let place = Place::new();
    for code in [0, 1, 42, 125, 126, 127, 255] {
        let ran = place.sh(&[], &format!("exit {code}"));
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.last["event"], "ended");
    }
}

#[test]
fn a_program_ended_by_a_signal_exits_with_128_and_its_number() {
    let place = Place::new();
    // A shell that is process 1 is immune to its own signals, so its child shows the number.
    let ran = place.sh(&[], "sh -c 'kill -9 $$'; echo $?");
    assert_eq!(ran.ok(), "137");
}

#[test]
fn output_errors_and_input_are_apart() {
    let place = Place::new();
    let ran = place.sh(&[], "echo out; echo err >&2; cat");
    assert_eq!((ran.ok(), ran.stderr.as_str()), ("out", "err\n"));
    let script = ["sh", "-c", "tr a-z A-Z; echo done"];
    let mut started = place.start(&["stdin=1"], &script, Stdio::piped());
    let mut input = started.child.stdin.take().unwrap();
    input.write_all(b"hello ").unwrap();
    drop(input);
    assert_eq!(started.finish().ok(), "HELLO done");
}

#[test]
fn much_output_arrives_whole() {
    let place = Place::new();
    let ran = place.sh(&[], "seq 1 200000; echo last >&2");
    assert_eq!(ran.ok().lines().count(), 200_000);
    assert_eq!(ran.ok().lines().last(), Some("200000"));
    assert_eq!(ran.stderr, "last\n");
}

#[test]
fn a_reader_that_leaves_ends_the_writer() {
    let place = Place::new();
    let script = ["sh", "-c", "while echo y; do :; done; exit 9"];
    let mut started = place.start(&[], &script, Stdio::null());
    let mut output = started.child.stdout.take().unwrap();
    let mut start = [0; 2];
    output.read_exact(&mut start).unwrap();
    drop(output);
    let ran = started.finish();
    assert!(matches!(ran.code, Some(9 | 141)), "{ran:?}");
}

#[test]
fn one_file_for_both_outputs_keeps_their_order() {
    let place = Place::new();
    let path = place.top.path().join("both");
    let file = std::fs::File::create(&path).unwrap();
    let script = "for i in $(seq 1 500); do echo $i; echo $i >&2; done";
    let mut driver = place.driver(&[], &["sh", "-c", script]);
    driver
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    assert!(driver.status().unwrap().success());
    let numbers: Vec<String> = (1..=1000)
        .map(|line| i32::midpoint(line, 1).to_string())
        .collect();
    let expected = numbers.join("\n") + "\n";
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn the_callers_environment_does_not_leak() {
    let place = Place::new();
    let options = ["env=A=1", "hostname=box"];
    let mut driver = place.driver(&options, &["env"]);
    driver.env("SECRET_OF_THE_CALLER", "x").stdin(Stdio::null());
    let output = driver.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["A=1", "HOME=/root", "HOSTNAME=box", path]);
}

#[test]
fn users_are_the_images() {
    let place = Place::new();
    let table = [
        ("user=", "0 0 0 /root"),
        ("user=app", "1000 1001 1001 29 /home/app"),
        ("user=app:audio", "1000 29 29 /home/app"),
        ("user=4242:4343", "4242 4343 4343 /"),
    ];
    for (user, expected) in table {
        let ran = place.sh(&[user], "echo $(id -u) $(id -g) $(id -G) $HOME");
        assert_eq!(ran.ok(), expected, "{user}");
    }
    let ran = place.run(&["user=nobody"], &["true"]);
    assert_eq!(ran.code, Some(125));
    assert_eq!(
        ran.message(),
        "user `nobody` is not in the image's /etc/passwd"
    );
}

#[test]
fn a_users_outputs_can_be_opened_again() {
    let place = Place::new();
    let ran = place.sh(
        &["user=app"],
        "echo out > /dev/stdout; echo err > /dev/stderr",
    );
    assert_eq!((ran.ok(), ran.stderr.as_str()), ("out", "err\n"));
}

#[test]
fn the_working_directory_is_made_inside_the_root() {
    let place = Place::new();
    assert_eq!(place.run(&["cwd=/srv/a/b"], &["pwd"]).ok(), "/srv/a/b");
    assert_eq!(
        place.run(&["cwd=/var/run/x"], &["pwd", "-P"]).ok(),
        "/run/x"
    );
    assert!(
        !place.lower().join("srv/a").exists(),
        "the image was written to"
    );
    let ran = place.run(&["cwd=/etc/passwd"], &["pwd"]);
    assert_eq!(ran.code, Some(125));
    assert!(
        ran.message()
            .starts_with("cannot make working directory /etc/passwd"),
        "{ran:?}"
    );
    let ran = place.run(&["cwd=/proc/self/fd/7"], &["pwd"]);
    assert_eq!(
        ran.message(),
        "working directory `/proc/self/fd/7` leads into /proc"
    );
}

#[test]
fn failures_to_execute_are_told_as_shells_do() {
    let place = Place::new();
    let table = [
        ("nothing", 127, "`nothing` is not in the image"),
        ("/bin/nothing", 127, "`/bin/nothing` is not in the image"),
        (
            "no-interpreter",
            127,
            "`/bin/no-interpreter` needs `/usr/bin/nothing`, which is not in the image",
        ),
        (
            "/bin/no-execute",
            126,
            "`/bin/no-execute` cannot be executed: permission denied",
        ),
        ("/etc", 126, "`/etc` cannot be executed: permission denied"),
        (
            "no-program",
            126,
            "`/bin/no-program` cannot be executed: not a program of this machine",
        ),
    ];
    for (program, code, message) in table {
        let ran = place.run(&[], &[program]);
        assert_eq!((ran.code, ran.message()), (Some(code), message));
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("", ""),
            "{program}"
        );
    }
}

#[test]
fn a_program_behind_a_volume_is_left_to_the_runtime() {
    let place = Place::new();
    let tools = place.top.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::copy("/bin/busybox", tools.join("echo")).unwrap();
    let volume = format!("volume={}:/tools", tools.display());
    assert_eq!(place.run(&[&volume], &["/tools/echo", "hi"]).ok(), "hi");
    let ran = place.run(&[&volume], &["/tools/nothing"]);
    assert_eq!(
        (ran.code, ran.message()),
        (Some(127), "`/tools/nothing` is not in the image")
    );
    assert_eq!(ran.stderr, "", "the runtime's own words are not shown");
}
