//! A runner that is user code by now: whatever it says is its own container's end.

use std::io::Write;
use std::sync::Arc;

use launch::{MountLog, NoticeKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use worker_protocol::Ended;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message as Up;
use worker_protocol::output::Stream;

use super::control_plane::{Plane, Stock};
use super::machines::{Played, Program, nonce, result_of};
use super::starts::{probe, with_setup};
use crate::container::end::LaunchEnd;

async fn plane() -> (Plane, mpsc::UnboundedReceiver<Program>) {
    let (machine, programs) = Played::new();
    (
        Plane::start(Arc::new(machine), Stock::default()).await,
        programs,
    )
}

/// A container that is ready, and the program in it.
async fn ready(concurrency: u32) -> (Plane, Program) {
    let (mut plane, mut programs) = plane().await;
    plane
        .start_container(with_setup("app:main", concurrency))
        .await;
    let mut program = programs.recv().await.unwrap();
    program.be_ready().await;
    assert!(matches!(plane.next().await, Up::Ready(_)));
    (plane, program)
}

/// The end of a container that was killed for what it said.
fn check_malformed(ended: &Ended, what: &Value) {
    assert_eq!(
        (ended.cause(), ended.exit_code),
        (Cause::Malformed, 137),
        "{what}"
    );
    assert!(
        ended.reason.starts_with("the runner sent "),
        "{what}: {}",
        ended.reason
    );
}

#[tokio::test]
async fn results_that_were_not_asked_for() {
    let other = "f".repeat(32);
    for header in [
        result_of("t/1", &other),
        result_of("t/2", &nonce()),
        result_of("t/1", "hunter2"),
        json!({"type": "output", "attempt": "t/1", "stream": "stdout"}),
        json!({"type": "ready"}),
        json!({"type": "fly"}),
    ] {
        let (mut plane, mut program) = ready(1).await;
        plane.call("t/1", "[]").await;
        let (call, payload) = program.hear().await;
        assert_eq!(
            (&call["attempt"], &call["nonce"]),
            (&json!("t/1"), &json!(nonce()))
        );
        assert_eq!(payload, br#"{"args": [], "kwargs": {}}"#);
        program.say(&header, b"").await;
        check_malformed(&plane.ended().await, &header);
        plane.hang_up().await;
    }
}

#[tokio::test]
async fn a_second_result() {
    let (mut plane, mut program) = ready(1).await;
    plane.call("t/1", "[]").await;
    program.hear().await;
    for _ in 0..2 {
        program.say(&result_of("t/1", &nonce()), b"1").await;
    }
    assert_eq!(&*plane.result().await.payload, b"1");
    check_malformed(&plane.ended().await, &Value::Null);
    plane.hang_up().await;
}

#[tokio::test]
async fn a_result_that_is_too_long() {
    let (mut plane, mut program) = ready(1).await;
    plane.call("t/1", "[]").await;
    program.hear().await;
    program
        .say(&result_of("t/1", &nonce()), &vec![0; (1 << 20) + 1])
        .await;
    check_malformed(&plane.ended().await, &Value::Null);
    plane.hang_up().await;
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    for bytes in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\x02\0\0\0\0\0\0\0[]",
    ] {
        let (mut plane, mut programs) = plane().await;
        plane.start_container(with_setup("app:main", 1)).await;
        let mut program = programs.recv().await.unwrap();
        program.begin();
        program.say_bytes(bytes).await;
        check_malformed(&plane.ended().await, &Value::Null);
        plane.hang_up().await;
    }
}

#[tokio::test]
async fn something_else_than_hello_first() {
    for header in [json!({"type": "ready"}), result_of("t/1", &nonce())] {
        let (mut plane, mut programs) = plane().await;
        plane.start_container(with_setup("app:main", 1)).await;
        let mut program = programs.recv().await.unwrap();
        program.begin();
        program.say(&header, b"").await;
        check_malformed(&plane.ended().await, &header);
        plane.hang_up().await;
    }
}

#[tokio::test]
async fn a_program_that_ends_in_the_middle_of_a_message() {
    let (mut plane, mut program) = ready(1).await;
    plane.call("t/1", "[]").await;
    program.hear().await;
    program.stdout.write_all(b"last words").unwrap();
    program.say_bytes(b"\x05\0\0").await;
    program.end(LaunchEnd::Exited {
        code: 137,
        memory_note: Some("out of memory".to_owned()),
    });
    let ended = plane.ended().await;
    assert_eq!((ended.cause(), ended.exit_code), (Cause::OutOfMemory, 137));
    assert_eq!(plane.written("t/1", Stream::Stdout), "last words");
    plane.hang_up().await;
}

#[tokio::test]
async fn what_was_said_before_the_end_counts() {
    let (mut plane, mut program) = ready(1).await;
    plane.call("t/1", "[]").await;
    program.hear().await;
    program.stdout.write_all(b"words").unwrap();
    program.say(&result_of("t/1", &nonce()), b"1").await;
    program.end(LaunchEnd::Exited {
        code: 3,
        memory_note: None,
    });
    assert_eq!(plane.result().await.attempt, "t/1");
    assert_eq!(plane.written("t/1", Stream::Stdout), "words");
    let ended = plane.ended().await;
    assert_eq!((ended.cause(), ended.exit_code), (Cause::Exited, 3));
    plane.hang_up().await;
}

#[tokio::test]
async fn an_attempt_that_is_none_of_the_calls() {
    let (mut plane, mut program) = ready(2).await;
    plane.call("t/1", "[]").await;
    program.hear().await;
    for attempt in [json!("t/1"), json!("other/1"), Value::Null] {
        let header = json!({"type": "output", "attempt": attempt, "stream": "stderr"});
        program.say(&header, b"x").await;
    }
    program.say(&result_of("t/1", &nonce()), b"").await;
    plane.result().await;
    let written = |attempt| plane.written(attempt, Stream::Stderr);
    assert_eq!(
        [written("t/1"), written("other/1"), written("")],
        ["x", "", "xx"]
    );
    plane.hang_up().await;
}

#[tokio::test]
async fn a_python_that_is_too_old() {
    let (mut plane, mut programs) = plane().await;
    plane.start_container(probe()).await;
    let mut program = programs.recv().await.unwrap();
    program.begin();
    let hello = json!({"type": "hello", "version": 1, "python": "3.6.9", "implementation": "c"});
    program.say(&hello, b"").await;
    let ended = plane.ended().await;
    assert_eq!(ended.cause(), Cause::NoPython);
    assert_eq!(ended.reason, "Python 3.6.9 is older than 3.8");
    plane.hang_up().await;
}

#[tokio::test]
async fn a_damaged_image_ends_its_container() {
    let (mut plane, program) = ready(1).await;
    let log = |kind| MountLog {
        kind,
        message: "layer 1".to_owned(),
    };
    program.logs.send(log(NoticeKind::Waiting)).await.unwrap();
    program.logs.send(log(NoticeKind::Corrupt)).await.unwrap();
    let ended = plane.ended().await;
    assert_eq!(
        (ended.cause(), ended.reason.as_str()),
        (Cause::Index, "layer 1")
    );
    let notices = plane.written("", Stream::Notice);
    assert_eq!(notices, "waiting: layer 1\ncorrupt: layer 1\n");
    plane.hang_up().await;
}

#[tokio::test]
async fn a_start_that_takes_too_long_for_a_registry_that_denies() {
    for (kind, cause) in [
        (NoticeKind::Denied, Cause::Denied),
        (NoticeKind::Recovered, Cause::StartTimeout),
    ] {
        let (mut plane, mut programs) = plane().await;
        let mut start = with_setup("app:main", 1);
        start.start_timeout_ms = 300;
        plane.start_container(start).await;
        let program = programs.recv().await.unwrap();
        let message = "no".to_owned();
        program.logs.send(MountLog { kind, message }).await.unwrap();
        assert_eq!(plane.ended().await.cause(), cause);
        assert!(program.kill.is_cancelled());
        plane.hang_up().await;
    }
}
