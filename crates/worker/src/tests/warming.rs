//! An image that is to be warmed: how far it is, how it ends, and that it is ended.

use std::sync::Arc;

use launch::{MountLog, MountStats, NoticeKind};
use tokio::sync::mpsc;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message as Up;
use worker_protocol::to_worker::Message as Down;
use worker_protocol::{Ended, Stop, Warm, Warming};

use super::control_plane::{Plane, Stock, within};
use super::machines::{Played, PlayedWarming};
use super::starts::{delivery, probe};
use crate::container::end::End;

fn warm() -> Warm {
    Warm {
        delivery: Some(delivery(1)),
        image: probe().image,
    }
}

async fn warming(warm: Warm) -> (Plane, mpsc::UnboundedReceiver<PlayedWarming>) {
    let (machine, played) = Played::with_cache();
    let mut plane = Plane::start(Arc::new(machine), Stock::default()).await;
    plane.command(Down::Warm(warm)).await;
    assert!(matches!(plane.hear().await, Up::Taken(_)));
    (plane, played)
}

/// The next one of which so much is said.
async fn reached(plane: &mut Plane, spans_present: u64) -> Warming {
    loop {
        match plane.hear().await {
            Up::Warming(warming) if warming.spans_present == spans_present => return warming,
            Up::Warming(_) => {}
            other => panic!("how far it is, not {other:?}"),
        }
    }
}

async fn end_of(plane: &mut Plane) -> Ended {
    loop {
        match plane.hear().await {
            Up::Ended(ended) => return ended,
            Up::Warming(_) => {}
            other => panic!("its end, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn how_far_it_is_is_said_and_that_it_is_whole() {
    let (mut plane, mut played) = warming(warm()).await;
    let PlayedWarming { order, end } = within(played.recv()).await.unwrap();
    assert_eq!(order.image.repository, "team/app");
    let stats = |spans_present| MountStats {
        spans: 9,
        spans_present,
        ..MountStats::default()
    };
    order.progress.send_replace(stats(3));
    let heard = reached(&mut plane, 3).await;
    assert_eq!((heard.spans, heard.delivery), (9, Some(delivery(1))));
    order.progress.send_replace(stats(9));
    end.send(Ok(())).unwrap();
    reached(&mut plane, 9).await;
    let ended = end_of(&mut plane).await;
    assert_eq!(ended.cause(), Cause::Warmed, "{}", ended.reason);
    plane.hang_up().await;
}

#[tokio::test]
async fn why_it_is_not_whole_is_said() {
    for (heard, ends, expected) in [
        (None, Cause::NoRoom, Cause::NoRoom),
        (None, Cause::Mount, Cause::Mount),
        (Some(NoticeKind::Denied), Cause::Mount, Cause::Denied),
        (Some(NoticeKind::Denied), Cause::NoRoom, Cause::NoRoom),
        (Some(NoticeKind::Waiting), Cause::Mount, Cause::Mount),
    ] {
        let (mut plane, mut played) = warming(warm()).await;
        let PlayedWarming { order, end } = within(played.recv()).await.unwrap();
        if let Some(kind) = heard {
            let message = "the registry's words".to_owned();
            order.logs.send(MountLog { kind, message }).await.unwrap();
        }
        end.send(Err(End::new(ends, "because"))).unwrap();
        let ended = end_of(&mut plane).await;
        assert_eq!(ended.cause(), expected, "{heard:?}: {}", ended.reason);
        plane.hang_up().await;
    }
}

#[tokio::test]
async fn one_that_is_stopped_or_left_ends_with_its_work() {
    let (mut plane, mut played) = warming(warm()).await;
    let mut stopped = within(played.recv()).await.unwrap();
    let stop = Stop {
        delivery: Some(delivery(1)),
        grace_ms: 0,
    };
    plane.command(Down::Stop(stop)).await;
    assert_eq!(end_of(&mut plane).await.cause(), Cause::Stopped);
    within(stopped.end.closed()).await;

    let again = Warm {
        delivery: Some(delivery(2)),
        ..warm()
    };
    plane.command(Down::Warm(again)).await;
    let mut left = within(played.recv()).await.unwrap();
    plane.hang_up().await;
    within(left.end.closed()).await;
}

#[tokio::test]
async fn what_is_no_image_is_not_warmed() {
    let nothing = Warm {
        image: None,
        ..warm()
    };
    let mut spoiled = warm();
    spoiled.image.as_mut().unwrap().layers.clear();
    for warm in [nothing, spoiled] {
        let (mut plane, mut played) = warming(warm).await;
        let ended = end_of(&mut plane).await;
        assert_eq!(ended.cause(), Cause::Machine, "{}", ended.reason);
        assert!(played.try_recv().is_err());
        plane.hang_up().await;
    }
}
