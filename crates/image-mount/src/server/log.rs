//! Notices of the filesystem on their way into the container's log: bounded, and the same thing
//! said once in a while. Never waits: a log line is not worth a read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image_fs::{Notice, NoticeKind, NoticeSink};
use tokio::sync::mpsc;

use crate::wire::{self, Frame, ToParent, WireLog};

/// A message that is the same as its kind's last one is repeated after this.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

pub(super) fn sink(frames: mpsc::WeakSender<Frame>) -> NoticeSink {
    let said = Mutex::new(Said::default());
    Arc::new(move |notice: Notice| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.is_news(&notice, Instant::now()) {
            return;
        }
        drop(said);
        let message = ToParent::Log(WireLog::new(notice.kind, &notice.message));
        if let (Ok(frame), Some(frames)) = (wire::encode(&message), frames.upgrade()) {
            let _ = frames.try_send(frame);
        }
    })
}

/// The last message of each kind.
#[derive(Default)]
struct Said(HashMap<NoticeKind, (String, Instant)>);

impl Said {
    fn is_news(&mut self, notice: &Notice, now: Instant) -> bool {
        let is_news = self.0.get(&notice.kind).is_none_or(|(message, at)| {
            *message != notice.message || now.saturating_duration_since(*at) >= REPEAT_AFTER
        });
        if is_news {
            self.0.insert(notice.kind, (notice.message.clone(), now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_said_once_in_a_while() {
        let start = Instant::now();
        let cases = [
            (NoticeKind::Failed, "a", 0, true),
            (NoticeKind::Failed, "a", 1, false),
            (NoticeKind::Waiting, "a", 1, true),
            (NoticeKind::Failed, "b", 2, true),
            (NoticeKind::Failed, "b", 31, false),
            (NoticeKind::Failed, "b", 32, true),
        ];
        let mut said = Said::default();
        for (kind, message, second, expected) in cases {
            let notice = Notice {
                kind,
                message: message.to_owned(),
            };
            let now = start + Duration::from_secs(second);
            assert_eq!(
                said.is_news(&notice, now),
                expected,
                "{kind:?} {message} at {second}"
            );
        }
    }
}
