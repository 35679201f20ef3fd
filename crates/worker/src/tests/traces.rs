//! What a container has read in its start is said to the control plane, once and before its end.

use std::sync::Arc;

use image_store::{Touch, pack_touches, unpack_touches};
use tokio::sync::mpsc;
use worker_protocol::from_worker::Message as Up;
use worker_protocol::{Start, Trace};

use super::control_plane::{Plane, Stock};
use super::machines::{Played, Program};
use super::starts::{delivery, with_setup};
use crate::container::end::LaunchEnd;

fn touch(span: u32) -> Touch {
    Touch {
        layer: 0,
        span,
        at_ms: span,
    }
}

async fn launched(start: Start) -> (Plane, mpsc::UnboundedReceiver<Program>) {
    let (machine, programs) = Played::new();
    let mut plane = Plane::start(Arc::new(machine), Stock::default()).await;
    plane.start_container(start).await;
    (plane, programs)
}

async fn check_touched(plane: &mut Plane, expected: &[Touch]) {
    let Up::Touched(touched) = plane.next().await else {
        panic!("what it touched");
    };
    assert_eq!(touched.delivery, Some(delivery(1)));
    assert_eq!(touched.interpreter, "python3");
    let touches = unpack_touches(&touched.trace.unwrap().touches);
    assert_eq!(touches.as_deref(), Some(expected));
}

#[tokio::test]
async fn what_is_touched_is_said_while_it_runs() {
    let (mut plane, mut programs) = launched(with_setup("app:main", 1)).await;
    let mut program = programs.recv().await.unwrap();
    program.be_ready().await;
    assert!(matches!(plane.next().await, Up::Ready(_)));
    let touches = vec![touch(3), touch(9)];
    program.touched.send(touches.clone()).await.unwrap();
    check_touched(&mut plane, &touches).await;
    plane.hang_up().await;
}

#[tokio::test]
async fn what_is_touched_is_said_before_its_end() {
    let (mut plane, mut programs) = launched(with_setup("app:main", 1)).await;
    let mut program = programs.recv().await.unwrap();
    program.begin();
    program.touched.send(vec![touch(3)]).await.unwrap();
    program.end(LaunchEnd::Exited {
        code: 1,
        memory_note: None,
    });
    check_touched(&mut plane, &[touch(3)]).await;
    assert_eq!(plane.ended().await.exit_code, 1);
    plane.hang_up().await;
}

#[tokio::test]
async fn a_start_is_launched_with_what_is_foretold() {
    let start = Start {
        foretold: Some(Trace {
            touches: pack_touches(&[touch(5)]).into(),
        }),
        ..with_setup("app:main", 1)
    };
    let (plane, mut programs) = launched(start).await;
    let program = programs.recv().await.unwrap();
    assert_eq!(program.order.plan.foretold, [touch(5)]);
    plane.hang_up().await;
}
