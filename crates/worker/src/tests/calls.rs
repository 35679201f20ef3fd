//! Calls of the real runner, started as a process: functions of Python's own library are called.

use std::process::Command;
use std::sync::Arc;

use worker_protocol::call_result::Outcome;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message as Up;
use worker_protocol::output::Stream;
use worker_protocol::to_worker::Message as Down;
use worker_protocol::{Cancel, Code, Start, Stop};

use super::control_plane::{NONCE, Plane, Stock};
use super::machines::Processes;
use super::starts::{CONTAINER, delivery, probe, with_setup};

async fn plane(stock: Stock) -> (Plane, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::new(Processes::new(directory.path()));
    (Plane::start(machine, stock).await, directory)
}

fn stop(grace_ms: u64) -> Down {
    Down::Stop(Stop {
        delivery: Some(delivery(1)),
        grace_ms,
    })
}

#[tokio::test]
async fn calls_return_and_raise() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    let ready = plane.ready(with_setup("math:sqrt", 1)).await;
    assert_eq!(ready.interpreter, "python3");
    assert!(ready.python_version.starts_with("3."));
    let phases: Vec<_> = ready.phases.iter().map(|phase| &*phase.name).collect();
    assert_eq!(phases, ["code", "python", "load"]);
    plane.call("t/1", "[16]").await;
    let result = plane.result().await;
    assert_eq!(
        (result.attempt.as_str(), &*result.nonce),
        ("t/1", &NONCE[..])
    );
    assert_eq!(
        (result.outcome(), &*result.payload),
        (Outcome::Returned, &b"4.0"[..])
    );
    assert!(result.exception.is_none());
    plane.call("t/2", "[-1]").await;
    let result = plane.result().await;
    assert_eq!(result.outcome(), Outcome::Raised);
    assert_eq!(result.exception.unwrap().r#type, "ValueError");
    plane.command(stop(60_000)).await;
    let ended = plane.ended().await;
    assert_eq!((ended.cause(), ended.exit_code), (Cause::Stopped, 0));
    plane.hang_up().await;
}

#[tokio::test]
async fn what_a_call_wrote_is_there_before_its_result() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.ready(with_setup("builtins:print", 1)).await;
    for number in 0..20 {
        let attempt = format!("t/{number}");
        plane.call(&attempt, r#"["hello"]"#).await;
        plane.result().await;
        assert_eq!(
            plane.written(&attempt, Stream::Stdout),
            "hello\n",
            "{attempt}"
        );
    }
    assert_eq!(plane.written("", Stream::Stdout), "");
    plane.hang_up().await;
}

#[tokio::test]
async fn output_of_several_calls_carries_their_attempts() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.ready(with_setup("builtins:print", 4)).await;
    for attempt in ["t/1", "t/2", "t/3"] {
        plane.call(attempt, r#"["hello"]"#).await;
    }
    for _ in 0..3 {
        let attempt = plane.result().await.attempt;
        assert_eq!(plane.written(&attempt, Stream::Stdout), "hello\n");
    }
    plane.hang_up().await;
}

#[tokio::test]
async fn a_call_is_cancelled() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.ready(with_setup("time:sleep", 1)).await;
    plane.call("t/1", "[600]").await;
    let cancel = Cancel {
        container: CONTAINER.to_owned(),
        attempt: "t/1".to_owned(),
    };
    plane.command(Down::Cancel(cancel)).await;
    let result = plane.result().await;
    assert_eq!(
        (result.attempt.as_str(), result.outcome()),
        ("t/1", Outcome::Cancelled)
    );
    plane.hang_up().await;
}

#[tokio::test]
async fn a_container_that_does_not_stop_is_killed() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.ready(with_setup("time:sleep", 1)).await;
    plane.call("t/1", "[600]").await;
    plane.command(stop(100)).await;
    let ended = plane.ended().await;
    assert_eq!((ended.cause(), ended.exit_code), (Cause::Stopped, 137));
    plane.hang_up().await;
}

#[tokio::test]
async fn a_program_that_ends_says_with_what() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.ready(with_setup("os:_exit", 1)).await;
    plane.call("t/1", "[7]").await;
    let ended = plane.ended().await;
    assert_eq!((ended.cause(), ended.exit_code), (Cause::Exited, 7));
    assert_eq!(ended.reason, "the container's program ended with 7");
    plane.hang_up().await;
}

#[tokio::test]
async fn a_probe_says_which_python_there_is() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    let interpreters = ["missing", "python3"].map(str::to_owned).to_vec();
    let start = Start {
        interpreters,
        ..probe()
    };
    let ready = plane.ready(start).await;
    assert_eq!(ready.interpreter, "python3");
    assert_eq!(plane.ended().await.cause(), Cause::Stopped);
    plane.hang_up().await;
}

#[tokio::test]
async fn without_a_python_nothing_starts() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    let start = Start {
        interpreters: vec!["missing".to_owned(); 2],
        ..probe()
    };
    plane.start_container(start).await;
    let ended = plane.ended().await;
    assert_eq!(ended.cause(), Cause::NoPython);
    assert!(
        ended.reason.contains("`missing` is not in the image"),
        "{}",
        ended.reason
    );
    plane.hang_up().await;
}

#[tokio::test]
async fn a_function_that_cannot_be_loaded_says_why() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.start_container(with_setup("nowhere:main", 1)).await;
    let ended = plane.ended().await;
    assert_eq!(ended.cause(), Cause::SetupFailed);
    assert_eq!(ended.exception.unwrap().r#type, "ModuleNotFoundError");
    plane.hang_up().await;
}

#[tokio::test]
async fn environment_and_code_arrive() {
    let source = "import os\ndef main(): return os.environ['TOKEN']\n";
    let code = zipped("app.py", source);
    let mut start = with_setup("app:main", 1);
    let environment = &mut start.setup.as_mut().unwrap().environment;
    environment.insert("TOKEN".to_owned(), "hunter2".to_owned());
    let size_bytes = code.len() as u64;
    start.code = Some(Code { size_bytes });
    let (mut plane, _directory) = plane(Stock {
        code: code.into(),
        ..Stock::default()
    })
    .await;
    plane.ready(start).await;
    plane.call("t/1", "[]").await;
    assert_eq!(&*plane.result().await.payload, br#""hunter2""#);
    plane.command(stop(0)).await;
    plane.ended().await;
    let left = std::fs::read_dir(plane.files.path().join("worker/code")).unwrap();
    assert_eq!(left.count(), 0, "the code goes with its container");
    plane.hang_up().await;
}

/// An archive with one file, made by Python.
fn zipped(name: &str, content: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), content).unwrap();
    let made = Command::new("python3")
        .args(["-m", "zipfile", "-c", "code.zip", name])
        .current_dir(&directory)
        .status();
    assert!(made.unwrap().success());
    std::fs::read(directory.path().join("code.zip")).unwrap()
}

#[tokio::test]
async fn code_of_another_length_is_not_used() {
    let code = zipped("app.py", "");
    let mut start = with_setup("app:main", 1);
    let size_bytes = code.len() as u64 - 1;
    start.code = Some(Code { size_bytes });
    let (mut plane, _directory) = plane(Stock {
        code: code.into(),
        ..Stock::default()
    })
    .await;
    plane.start_container(start).await;
    let ended = plane.ended().await;
    assert_eq!(ended.cause(), Cause::Machine);
    assert_eq!(
        ended.reason,
        "its code: it has another length than was said"
    );
    plane.hang_up().await;
}

#[tokio::test]
async fn many_megabytes_of_output_hold_up_no_other() {
    let (mut plane, _directory) = plane(Stock::default()).await;
    plane.ready(with_setup("os:system", 1)).await;
    plane.call("t/1", r#"["head -c 50000000 /dev/zero"]"#).await;
    let mut other = probe();
    other.delivery.as_mut().unwrap().container = "ctr-2".to_owned();
    plane.command(Down::Start(other)).await;
    let (mut received, mut other_ended) = (0, false);
    loop {
        match plane.hear().await {
            Up::Output(output) => received += output.data.len(),
            Up::Ended(ended) => other_ended = ended.delivery.unwrap().container == "ctr-2",
            Up::Result(result) => {
                assert_eq!(result.exception, None);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(received, 50_000_000);
    while !other_ended {
        other_ended = matches!(plane.next().await, Up::Ended(_));
    }
    plane.hang_up().await;
}
