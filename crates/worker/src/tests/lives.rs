//! The worker itself: what it takes, and that nothing outlives it.

use std::sync::Arc;

use credential::ExposeSecret;
use credential::auth::{AuthError, AuthScheme};
use tokio::sync::mpsc;
use worker_protocol::auth_answer::Answer;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message as Up;
use worker_protocol::registry_auth::Scheme;
use worker_protocol::to_worker::Message as Down;
use worker_protocol::{AuthAnswer, RegistryAuth, Stop};

use super::control_plane::{Plane, Stock, call, within};
use super::machines::{Played, Program};
use super::starts::{delivery, with_setup};
use crate::worker::WorkerError;

async fn plane(stock: Stock) -> (Plane, mpsc::UnboundedReceiver<Program>) {
    let (machine, programs) = Played::new();
    (Plane::start(Arc::new(machine), stock).await, programs)
}

/// A container that is ready, and the program in it.
async fn ready() -> (Plane, mpsc::UnboundedReceiver<Program>, Program) {
    let (mut plane, mut programs) = plane(Stock::default()).await;
    plane.start_container(with_setup("app:main", 1)).await;
    let mut program = programs.recv().await.unwrap();
    program.be_ready().await;
    assert!(matches!(plane.next().await, Up::Ready(_)));
    (plane, programs, program)
}

#[tokio::test]
async fn a_start_without_sense_is_taken_and_ended() {
    let (mut plane, _programs) = plane(Stock::default()).await;
    let mut start = with_setup("app:main", 1);
    start.image.as_mut().unwrap().layers[0].digest = "sha256:0".to_owned();
    plane.start_container(start).await;
    let ended = plane.ended().await;
    assert_eq!(ended.cause(), Cause::Machine);
    assert_eq!(ended.reason, "what to start: it has no usable layer");
    assert_eq!(ended.delivery, Some(delivery(1)));
    plane.hang_up().await;
}

#[tokio::test]
async fn a_broken_connection_ends_all_containers() {
    let (mut plane, _programs, program) = ready().await;
    plane.connection = None;
    let ended = within(plane.worker).await.unwrap();
    assert!(matches!(ended, Err(WorkerError::Broken(_))), "{ended:?}");
    assert!(program.kill.is_cancelled());
}

#[tokio::test]
async fn a_worker_that_is_shut_down_ends_all_containers() {
    let (mut plane, _programs, program) = ready().await;
    plane.shutdown.cancel();
    let ended = plane.ended().await;
    assert_eq!(ended.cause(), Cause::Stopped);
    assert!(program.kill.is_cancelled());
    within(plane.worker).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_later_delivery_ends_the_earlier_one() {
    let (mut plane, mut programs, program) = ready().await;
    let mut again = with_setup("app:main", 1);
    again.delivery = Some(delivery(2));
    plane.command(Down::Start(again)).await;
    let mut heard = [plane.next().await, plane.next().await];
    heard.sort_by_key(|message| matches!(message, Up::Ended(_)));
    assert!(matches!(&heard[0], Up::Taken(taken) if taken.delivery == Some(delivery(2))));
    assert!(matches!(&heard[1], Up::Ended(ended) if ended.delivery == Some(delivery(1))));
    within(program.kill.cancelled()).await;
    let mut program = programs.recv().await.unwrap();
    program.be_ready().await;
    assert!(matches!(plane.next().await, Up::Ready(ready) if ready.delivery == Some(delivery(2))));
    let stop = |number| {
        Down::Stop(Stop {
            delivery: Some(delivery(number)),
            grace_ms: 0,
        })
    };
    plane.command(stop(1)).await;
    plane.call("t/1", "[]").await;
    assert_eq!(
        program.hear().await.0["type"],
        "call",
        "a stop of the earlier one is none"
    );
    plane.command(stop(2)).await;
    assert_eq!(plane.ended().await.delivery, Some(delivery(2)));
    plane.hang_up().await;
}

#[tokio::test]
async fn calls_without_sense_end_the_container() {
    let spoilt = [
        |call: &mut worker_protocol::Call| call.attempt.clear(),
        |call: &mut worker_protocol::Call| call.attempt = "x".repeat(129),
        |call: &mut worker_protocol::Call| call.nonce.clear(),
        |call: &mut worker_protocol::Call| call.format = 0,
        |call: &mut worker_protocol::Call| call.task = "x".repeat(1 << 20),
    ];
    for spoil in spoilt {
        let (mut plane, _programs, program) = ready().await;
        let mut spoilt = call("t/1", "[]");
        spoil(&mut spoilt);
        plane.command(Down::Call(spoilt)).await;
        let ended = plane.ended().await;
        assert_eq!(ended.cause(), Cause::Machine, "{}", ended.reason);
        assert!(program.kill.is_cancelled());
        plane.hang_up().await;
    }
}

#[tokio::test]
async fn a_mount_asks_the_control_plane() {
    let auth = RegistryAuth {
        serial: 3,
        remaining_ms: None,
        scheme: Some(Scheme::Bearer("hunter2".to_owned())),
    };
    let auth = AuthAnswer {
        answer: Some(Answer::Auth(auth)),
    };
    let (mut plane, mut programs) = plane(Stock {
        auth,
        ..Stock::default()
    })
    .await;
    plane.start_container(with_setup("app:main", 1)).await;
    let program = programs.recv().await.unwrap();
    let auth = program.auth().await.unwrap();
    assert!(matches!(auth.scheme, AuthScheme::Bearer(token) if token.expose_secret() == "hunter2"));
    let question = plane.questions.recv().await.unwrap();
    assert_eq!(question.delivery, Some(delivery(1)));
    assert_eq!(question.registry, "registry.test:5000");
    plane.connection = None;
    let error = program.auth().await.unwrap_err();
    assert!(matches!(error, AuthError::Unreachable { .. }), "{error:?}");
}
