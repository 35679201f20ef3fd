//! The bytes of a run as they come: requests for its stretches in their order, the next one under
//! way while one is read. No more lies in memory than what they ask for.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backlog::Load;
use super::connections::Connection;
use super::request::Question;
use super::{Fetcher, Lane};
use crate::error::ReadError;
use crate::limits::{CHUNK, MAX_TURN, TAIL_MOST};

/// What is fetched, for whom, and how long it is tried.
pub(super) struct Errand {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) lane: Lane,
    pub(super) layer: usize,
    pub(super) deadline: Instant,
    /// Of the first request.
    pub(super) load: Option<Load>,
}

pub(super) struct Arrivals {
    errand: Errand,
    /// What nobody has asked for yet.
    rest: Range<u64>,
    under_way: VecDeque<UnderWay>,
    /// Requests at once: as long as nothing has come, one.
    most: usize,
}

/// A request. Dropping it ends it.
struct UnderWay {
    /// Where it does not go over the flight's own.
    _connection: Option<Connection>,
    pieces: mpsc::UnboundedReceiver<Bytes>,
    request: JoinHandle<Result<(), ReadError>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.request.abort();
    }
}

impl Arrivals {
    pub(super) fn new(errand: Errand, range: Range<u64>) -> Self {
        Self {
            errand,
            rest: range,
            under_way: VecDeque::new(),
            most: 1,
        }
    }

    /// What has come of the next bytes, as soon as there are any. Nothing after the last.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, ReadError>> {
        loop {
            self.ask();
            let first = self.under_way.front_mut()?;
            if let Some(piece) = first.pieces.recv().await {
                self.most = self.most.max(2).min(self.errand.lane.requests());
                return Some(Ok(with_more(piece, &mut first.pieces)));
            }
            match (&mut first.request).await {
                Ok(Ok(())) => {
                    self.under_way.pop_front();
                    self.most = (self.most + 1).min(self.errand.lane.requests());
                }
                Ok(Err(error)) => return Some(Err(error)),
                Err(_) => {
                    let Errand { fetcher, layer, .. } = &self.errand;
                    return Some(Err(fetcher.internal(*layer, "a request was abandoned")));
                }
            }
        }
    }

    /// Nothing more is needed: lets what is under way come to its end, if that is soon.
    pub(super) async fn end(mut self) {
        let ended = async {
            for under_way in &mut self.under_way {
                let _ = (&mut under_way.request).await;
            }
        };
        let _ = tokio::time::timeout(TAIL_MOST, ended).await;
    }

    fn ask(&mut self) {
        while self.under_way.len() < self.most && !self.rest.is_empty() {
            let spare = self.errand.fetcher.connections.spare();
            let connection = spare.filter(|_| !self.under_way.is_empty());
            if connection.is_none() && !self.under_way.is_empty() {
                return;
            }
            let end = self.rest.start.saturating_add(CHUNK).min(self.rest.end);
            let range = self.rest.start..end;
            self.rest.start = end;
            let deadline = self.errand.deadline;
            self.under_way
                .push_back(self.errand.request(range, deadline, connection));
            self.errand.renew();
        }
    }
}

impl Errand {
    /// The next request has the whole patience: what moves is not given up.
    fn renew(&mut self) {
        if self.lane == Lane::Reader {
            let renewed = Instant::now() + self.fetcher.read_deadline;
            self.deadline = self.deadline.max(renewed);
        }
    }

    fn request(
        &mut self,
        range: Range<u64>,
        deadline: Instant,
        connection: Option<Connection>,
    ) -> UnderWay {
        let fetcher = Arc::clone(&self.fetcher);
        let question = Question {
            lane: self.lane,
            layer: self.layer,
            rest: range,
            lags: 0,
            load: self.load.take(),
        };
        let (sender, pieces) = mpsc::unbounded_channel();
        let request = async move {
            // Who has gone needs no bytes, and ends this.
            let mut take = |piece| drop(sender.send(piece));
            fetcher.request(question, deadline, &mut take).await
        };
        let request = self.fetcher.runtime.spawn(request);
        UnderWay {
            _connection: connection,
            pieces,
            request,
        }
    }
}

/// The piece, and what else is there already, up to one turn of a decoder. As one: a source that
/// gives single bytes is not to cost a step for each.
fn with_more(piece: Bytes, pieces: &mut mpsc::UnboundedReceiver<Bytes>) -> Bytes {
    if pieces.is_empty() {
        return piece;
    }
    let mut all = BytesMut::from(piece);
    while all.len() < MAX_TURN
        && let Ok(piece) = pieces.try_recv()
    {
        all.extend_from_slice(&piece);
    }
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_one_piece_up_to_a_turn() {
        let (sender, mut pieces) = mpsc::unbounded_channel();
        let next = |pieces: &mut mpsc::UnboundedReceiver<Bytes>| {
            let first = pieces.try_recv().unwrap();
            with_more(first, pieces)
        };
        for piece in ["a", "bc", "", "d"] {
            sender.send(Bytes::from_static(piece.as_bytes())).unwrap();
        }
        assert_eq!(next(&mut pieces), "abcd");
        let half = Bytes::from(vec![7; MAX_TURN / 2]);
        for _ in 0..3 {
            sender.send(half.clone()).unwrap();
        }
        assert_eq!(next(&mut pieces).len(), MAX_TURN);
        assert_eq!(next(&mut pieces), half);
    }
}
