//! When a packet leaves the other end of a link: pure, time comes in as an argument.
//!
//! A packet waits for the link, which carries one at a time, and for its connection where those
//! have a cap of their own; then it is under way for the one-way delay. A packet that finds the
//! queue full is dropped. A capped connection's wait takes no time from the link.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use super::Shape;
use super::packet::Flow;

/// What the smallest queue holds: a few of the largest packets that a kernel hands over.
const MIN_QUEUE_BYTES: u64 = 256 << 10;
/// Connections whose cap is remembered; beyond it those that are idle are forgotten.
const MAX_FLOWS: usize = 4096;

#[derive(Debug)]
pub(super) struct Pacing {
    shape: Shape,
    free_at: Instant,
    flows: HashMap<Flow, Instant>,
}

impl Pacing {
    pub(super) fn new(shape: Shape, now: Instant) -> Self {
        Self {
            shape,
            free_at: now,
            flows: HashMap::new(),
        }
    }

    /// When a packet that came now arrives at the other end; None when it is dropped.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        flow: Option<Flow>,
        bytes: u64,
    ) -> Option<Instant> {
        let waits = self.free_at.saturating_duration_since(now);
        if waits > takes(queue_bytes(self.shape), self.shape.bytes_per_second) {
            return None;
        }
        self.free_at = self.free_at.max(now) + takes(bytes, self.shape.bytes_per_second);
        let leaves = self.free_at.max(self.capped(now, flow, bytes));
        Some(leaves + self.shape.round_trip / 2)
    }

    fn capped(&mut self, now: Instant, flow: Option<Flow>, bytes: u64) -> Instant {
        let (Some(flow), Some(cap)) = (flow, self.shape.flow_bytes_per_second) else {
            return now;
        };
        if self.flows.len() >= MAX_FLOWS {
            self.flows.retain(|_, free_at| *free_at > now);
        }
        let free_at = self.flows.entry(flow).or_insert(now);
        *free_at = (*free_at).max(now) + takes(bytes, cap);
        *free_at
    }
}

fn takes(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1))
}

/// Twice what is under way on a full link, so that one connection can fill it.
fn queue_bytes(shape: Shape) -> u64 {
    let round_trip = u64::try_from(shape.round_trip.as_micros()).unwrap_or(u64::MAX);
    let under_way = shape.bytes_per_second.saturating_mul(round_trip) / 1_000_000;
    (2 * under_way).max(MIN_QUEUE_BYTES)
}

/// Packets under way, the next to arrive first; those that arrive together in order.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    heap: BinaryHeap<Reverse<Due>>,
    count: u64,
}

impl UnderWay {
    /// True when this packet is now the next to arrive.
    pub(super) fn push(&mut self, arrives: Instant, bytes: Vec<u8>) -> bool {
        self.count += 1;
        let number = self.count;
        let due = Due {
            arrives,
            number,
            bytes,
        };
        self.heap.push(Reverse(due));
        self.heap.peek().is_some_and(|next| next.0.number == number)
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.heap.peek().map(|next| next.0.arrives)
    }

    /// The next packet, if it has arrived.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        if self.next_arrival()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| (due.arrives, due.bytes))
    }
}

#[derive(Debug)]
struct Due {
    arrives: Instant,
    number: u64,
    bytes: Vec<u8>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use super::{MIN_QUEUE_BYTES, Pacing, UnderWay, queue_bytes};
    use crate::bench::coldstart::shaper::Shape;

    const SHAPE: Shape = Shape {
        bytes_per_second: 1_000_000,
        round_trip: Duration::from_millis(20),
        flow_bytes_per_second: None,
    };

    fn milliseconds(
        pacing: &mut Pacing,
        start: Instant,
        at: u64,
        port: u16,
        bytes: u64,
    ) -> Option<u128> {
        let flow = (Ipv4Addr::LOCALHOST, port, Ipv4Addr::LOCALHOST, 80);
        let arrives = pacing.admit(start + Duration::from_millis(at), Some(flow), bytes);
        arrives.map(|arrives| arrives.duration_since(start).as_millis())
    }

    #[test]
    fn packets_follow_each_other_at_the_rate_and_arrive_after_the_delay() {
        let start = Instant::now();
        let mut pacing = Pacing::new(SHAPE, start);
        let mut at = |at, bytes| milliseconds(&mut pacing, start, at, 1, bytes);
        assert_eq!(at(0, 1000), Some(11), "1 ms on the link, 10 ms under way");
        assert_eq!(at(0, 2000), Some(13), "it waits for the first");
        assert_eq!(at(100, 1000), Some(111), "an idle link saves nothing up");
    }

    #[test]
    fn a_full_queue_drops_and_takes_again_when_it_has_drained() {
        let start = Instant::now();
        let mut pacing = Pacing::new(SHAPE, start);
        let mut carried = 0;
        while milliseconds(&mut pacing, start, 0, 1, 1500).is_some() {
            carried += 1500;
        }
        assert_eq!(queue_bytes(SHAPE), MIN_QUEUE_BYTES);
        assert!(
            (MIN_QUEUE_BYTES..MIN_QUEUE_BYTES + 3000).contains(&carried),
            "{carried}"
        );
        assert!(milliseconds(&mut pacing, start, 3, 1, 1500).is_some());
        let long = Shape {
            bytes_per_second: 25_000_000,
            ..SHAPE
        };
        assert_eq!(queue_bytes(long), 1_000_000);
    }

    #[test]
    fn a_cap_holds_each_connection_by_itself() {
        let start = Instant::now();
        let shape = Shape {
            flow_bytes_per_second: Some(100_000),
            ..SHAPE
        };
        let mut pacing = Pacing::new(shape, start);
        let mut at = |port, bytes| milliseconds(&mut pacing, start, 0, port, bytes);
        assert_eq!(at(1, 1000), Some(20));
        assert_eq!(at(1, 1000), Some(30));
        assert_eq!(at(2, 1000), Some(20), "another one does not wait for it");
    }

    #[test]
    fn what_arrives_first_comes_first_and_ties_keep_their_order() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut under_way = UnderWay::default();
        assert!(under_way.push(at(5), vec![1]));
        assert!(!under_way.push(at(5), vec![2]));
        assert!(under_way.push(at(3), vec![3]));
        assert!(under_way.pop(at(2)).is_none());
        let mut order = Vec::new();
        while let Some((_, bytes)) = under_way.pop(at(5)) {
            order.extend(bytes);
        }
        assert_eq!(order, [3, 1, 2]);
        assert!(under_way.next_arrival().is_none());
    }
}
