//! How much is fetched at once, for whom: every bound of it in one place, each with its reason.

use std::time::Duration;

/// Compressed bytes that are fetched needlessly rather than by a second request of a reader. At
/// 200 Mbit/s they take 5 ms, a quarter of a short round trip.
pub(crate) const MAX_GAP: u64 = 128 * 1024;

/// Longest request that is made of several runs. Longer ones hold memory and delay the first byte
/// without saving anything: the round trip is paid by then on any link we know.
pub(crate) const MAX_RANGE: u64 = 4 * 1024 * 1024;

/// A reader's request is filled up to so much with missing neighbours while nothing is known of
/// the link: a round trip of 20 ms costs as much time as this many bytes at 200 Mbit/s.
pub(crate) const FIRST_UNIT: u64 = 512 * 1024;

/// And at least up to this once it is known, whatever a round trip brings: a span or two, and as
/// much as is fetched needlessly rather than by a second request.
pub(crate) const LEAST_UNIT: u64 = MAX_GAP;

/// The latest requests that say what the link gives: some seconds of a start. A link that changes
/// is known anew after as many.
pub(crate) const SAMPLES: usize = 16;

/// Fewer say nothing: the first have a connection made, and a token fetched.
pub(crate) const ENOUGH_SAMPLES: usize = 4;

/// Bytes after the first ones that make a rate: fewer come at once, out of a buffer.
pub(crate) const SAMPLED_BYTES: u64 = 64 * 1024;

/// Shortest time that a rate is made of: clocks and threads are no finer under load.
pub(crate) const MIN_TIMED: Duration = Duration::from_millis(1);

/// Highest rate that is believed, in bytes a second: above any network card, and far from where
/// arithmetic ends.
pub(crate) const FASTEST: u64 = 1 << 36;

/// Bytes of one request when a run is longer. What has come and is not decoded lies in memory.
pub(crate) const CHUNK: u64 = 4 * 1024 * 1024;

/// Requests of one flight at once: as many as of the rest of a layer. The second sets out when the
/// first bytes are there, which somebody may wait for, and each of the others after one has come.
pub(crate) const FLIGHT_REQUESTS: usize = 4;

/// Bytes for one turn of a decoder. They are what has come meanwhile: few on a slow link, where the
/// first span is waited for, and as many as this where a turn's cost would count.
pub(crate) const MAX_TURN: usize = 1024 * 1024;

/// How long a request may take to end whose bytes are all used. A connection that is read to its
/// end serves the next request; one that is not has to be made again.
pub(crate) const TAIL_MOST: Duration = Duration::from_secs(1);

/// New bytes for which a try that broke off counts as progress, and who waits goes on waiting.
pub(crate) const MIN_PROGRESS: u64 = 64 * 1024;

/// Connections that are left to readers who wait, by all that nobody waits for.
pub(crate) const DEMAND_CONNECTIONS: usize = 2;

/// First window of a stream, in compressed bytes.
pub(crate) const FIRST_WINDOW: u64 = 512 * 1024;

/// Widest window of a stream by its steps alone: more than a fast link holds in flight.
pub(crate) const WIDEST_WINDOW: u64 = 4 * 1024 * 1024;

/// Widest window of a stream that has come a long way, of which half is fetched ahead at most:
/// four of the longest requests side by side, for links of which one flow gets a part only.
pub(crate) const LONG_WINDOW: u64 = 16 * 1024 * 1024;

/// A request that nobody waits for the beginning of is so many times as long as what a round trip
/// brings: it then costs a ninth of the time.
pub(crate) const STRETCH_UNITS: u64 = 8;

/// And at least as long as this, however near the source is, since each is a checkpoint to enter;
/// where that takes no longer than `STRETCH_TIME`, as a reader may want what comes last in it.
pub(crate) const LEAST_STRETCH: u64 = 2 * 1024 * 1024;
pub(crate) const STRETCH_TIME: Duration = Duration::from_millis(500);

/// Of a layer so much is wanted, in hundredths of its decoded bytes, that the rest is fetched
/// without being asked for: what is fetched for nothing is at most one and a half times that.
pub(crate) const REST_PERCENT: u64 = 40;

/// Requests at once for the rest of layers: of the connections that readers can spare, two are left
/// to read-ahead.
pub(crate) const REST_REQUESTS: usize = 4;

/// Longest single request. A source has finer limits; this one holds if it has none.
pub(crate) const ATTEMPT_MOST: Duration = Duration::from_mins(1);

/// How long a request is looked at before it is compared with what others get: longer than a lost
/// packet takes to be sent again.
pub(crate) const LAG_PERIOD: Duration = Duration::from_secs(1);

/// A request lags that gets less than one part in so many of what is usual, or of what the others
/// get at the time. Flows to one store differ twentyfold; shares of a link among fair ones hardly
/// twofold.
pub(crate) const LAG_SHARE: u64 = 8;

/// How often a request that lags is asked for anew. Where the second one lags as well it is not the
/// flow that is slow, and the third is left alone.
pub(crate) const MAX_LAGS: usize = 2;

/// How often bytes that do not match are fetched again: once for a bad transfer, once more for a
/// bad cache on the way.
pub(crate) const MAX_CORRUPT: usize = 3;

/// Longest request of what is foretold that is made of several spans. Shorter than a reader's: the
/// first of them are wanted now, and with all requests under way these are more than a round trip
/// on any link holds.
pub(crate) const MAX_FORETOLD_RANGE: u64 = 1024 * 1024;

/// Compressed bytes that are fetched needlessly rather than by another request of what is foretold.
/// Less than nearly any span: while others are under way nobody waits a round trip for one more,
/// and its bytes come later for each that nobody reads. Of an import of numpy, 128 KiB would save
/// nine requests of fifty for a twentieth more bytes.
pub(crate) const MAX_FORETOLD_GAP: u64 = 32 * 1024;

/// How much of what is foretold is under way, in the time that the link takes for it: a reader that
/// comes then gets its own share of the link, and after this all of it.
pub(crate) const FORETOLD_TIME: Duration = Duration::from_millis(500);

/// The same while a reader waits, who has the link first: enough that it does not run dry between
/// two requests, and less than a person notices.
pub(crate) const HASTE_TIME: Duration = Duration::from_millis(125);

/// A reader that waited until so short a time ago will soon ask for more, as likely as not: what is
/// sent for in between would be in front of it.
pub(crate) const LINGER: Duration = Duration::from_millis(200);

/// And beside both, as many round trips' worth: with less in flight a link is not used, and no
/// higher rate would ever be seen of it.
pub(crate) const FLIGHT_ROUND_TRIPS: u64 = 2;

/// How much of what is foretold is under way while nothing is known of the link, in bytes. Twice
/// what one of 200 Mbit/s and 20 ms holds, and two seconds of one of 4 Mbit/s.
pub(crate) const FIRST_FORETOLD: u64 = 1024 * 1024;

/// Parts of what may be under way, of which each request of what is foretold is one: while the last
/// of one comes, others are begun.
pub(crate) const FORETOLD_PARTS: u64 = 4;

/// How much of the rest of layers is under way, in the time that the link takes for it: four
/// requests of the longest on links that need as many, and no minute of a slow one.
pub(crate) const REST_TIME: Duration = Duration::from_secs(2);

/// How far a reader in order is fetched ahead for, in the time that the link takes for it. It
/// cannot read faster.
pub(crate) const AHEAD_TIME: Duration = Duration::from_secs(3);

/// How long a reader's first requests take at most, beside the wait for their first bytes, as far
/// as it is known what the link brings.
pub(crate) const UNIT_TIME: Duration = Duration::from_millis(200);

/// How long the bytes of all requests are counted for one sample of what the link brings: some
/// packets of a slow one, and soon enough after the start of a fast one.
pub(crate) const PACE_PERIOD: Duration = Duration::from_millis(50);

/// Fewer of these say nothing: the first one may be a buffer that runs empty.
pub(crate) const ENOUGH_PACES: usize = 2;

/// Requests at once for what is foretold. Two fewer than readers may have, who share the link with
/// them.
pub(crate) const FORETOLD_REQUESTS: usize = 6;

/// Nothing was read for so long: then what nobody has read is fetched. A start that computes for
/// longer between two reads has the link to itself again when it reads on.
pub(crate) const FILL_AFTER: Duration = Duration::from_secs(5);

/// Longest request for what nobody has read: a reader who needs something else ends it, and all
/// that has come of it and is not a whole span is fetched again. Only layers that can be entered
/// nowhere are longer.
pub(crate) const MAX_FILL_RUN: u64 = 64 * 1024 * 1024;

/// Decoded bytes for which room is asked at once: the cache is measured for it.
pub(crate) const FILL_ROOM_STEP: u64 = 64 * 1024 * 1024;

/// When a process looks again at a layer that another one fills: that one may have ended.
pub(crate) const FILL_TURN_EVERY: Duration = Duration::from_mins(1);

/// Decoded bytes that are brought together of an image that somebody wants whole, and how many such
/// portions at once: with what neighbours bring along, as many requests as for the rest of a layer.
pub(crate) const WHOLE_PORTION: u64 = 8 * 1024 * 1024;
pub(crate) const WHOLE_PORTIONS: usize = 4;
