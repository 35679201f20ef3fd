//! Streams of many settings are followed as a decoder follows them, and entered wherever it is said
//! that they can be.

use std::io::Write;

use zstd::stream::raw::{CParameter, DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::*;

/// Nothing but a seed decides what is tested.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }
}

/// Text, noise, runs of one byte, and copies of what was before, near and far.
fn content(random: &mut Random, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + (64 << 10));
    while bytes.len() < length {
        let part = 1 + random.below(8 << 10);
        match random.below(8) {
            0 => (0..part * 8).for_each(|_| bytes.push(random.next().to_le_bytes()[3])),
            1 => bytes.resize(bytes.len() + part * 20, random.next().to_le_bytes()[1]),
            2 | 3 if bytes.len() > part => {
                let from = random.below(bytes.len() - part);
                bytes.extend_from_within(from..from + part);
            }
            _ => (0..part / 16).for_each(|_| {
                let line = format!("{} of {}\n", random.below(500), random.below(20));
                bytes.extend_from_slice(line.as_bytes());
            }),
        }
    }
    bytes.truncate(length);
    bytes
}

/// How a frame is written.
#[derive(Clone, Copy, Debug)]
struct Setting {
    level: i32,
    window_log: Option<u32>,
    has_checksum: bool,
    has_size: bool,
    /// How often a block is ended early.
    flushes: usize,
}

fn frame(content: &[u8], setting: Setting) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), setting.level).expect("an encoder");
    encoder
        .set_parameter(CParameter::ChecksumFlag(setting.has_checksum))
        .expect("a flag");
    if let Some(log) = setting.window_log {
        encoder.window_log(log).expect("a window");
        encoder.long_distance_matching(true).expect("a flag");
    }
    if setting.has_size {
        let size = Some(content.len() as u64);
        encoder.set_pledged_src_size(size).expect("a size");
    }
    for part in content.chunks(content.len() / (setting.flushes + 1) + 1) {
        encoder.write_all(part).expect("memory takes everything");
        if setting.flushes > 0 {
            encoder.flush().expect("memory takes everything");
        }
    }
    encoder.finish().expect("memory takes everything")
}

/// A place between two blocks, and what was found out about it.
struct Mark {
    compressed: usize,
    uncompressed: usize,
    entrance: Entrance,
    watch: TableWatch,
    /// Which of the bytes before it the rest of the frame takes.
    referred: Vec<Referred>,
}

/// What a stream's frames are, and where they can be entered.
#[derive(Default)]
struct Followed {
    bytes: usize,
    /// Marks of each frame, and where its blocks and its output end.
    frames: Vec<(Vec<Mark>, Ends)>,
    kinds: Vec<BlockKind>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    compressed: usize,
    uncompressed: usize,
}

/// Follows a stream that comes in pieces of `piece` bytes.
fn follow(stream: &[u8], piece: usize) -> Result<Followed, FormatError> {
    let mut walker = Walker::new();
    let mut followed = Followed::default();
    let mut frame = None;
    let (mut at, mut start) = (0, 0);
    while at < stream.len() {
        let end = stream.len().min(at + piece);
        let walked = walker.walk(&stream[at..end])?;
        at += walked.consumed;
        match walked.unit {
            Some(Unit::Header(header)) => {
                frame = Some(Frame::new(header));
                start = followed.bytes;
                followed.frames.push((Vec::new(), Ends::default()));
            }
            Some(Unit::Block(block)) => {
                let frame = frame.as_mut().expect("a header comes first");
                let (marks, end) = followed.frames.last_mut().expect("a frame");
                follow_block(frame, &block, marks, start)?;
                followed.bytes = start + usize::try_from(frame.position()).expect("short");
                followed.kinds.push(block.kind);
                *end = Ends {
                    compressed: at,
                    uncompressed: followed.bytes,
                };
                if !block.is_last {
                    marks.push(Mark {
                        compressed: at,
                        uncompressed: followed.bytes,
                        entrance: frame.entrance().expect("a window as large"),
                        watch: TableWatch::new(),
                        referred: Vec::new(),
                    });
                }
            }
            None => {}
        }
    }
    Ok(followed)
}

fn follow_block(
    frame: &mut Frame,
    block: &Block,
    marks: &mut [Mark],
    start: usize,
) -> Result<(), FormatError> {
    let mut referred = Vec::new();
    let watches = marks.iter_mut().map(|mark| &mut mark.watch);
    frame.block(block, watches, |range| referred.push(range))?;
    for mark in marks {
        let place = (mark.uncompressed - start) as u64;
        let before = referred.iter().filter(|range| range.start < place);
        let before = before.map(|range| range.start..range.end.min(place));
        let in_stream = |range: Referred| range.start + start as u64..range.end + start as u64;
        mark.referred.extend(before.map(in_stream));
    }
    Ok(())
}

fn decode(mut decoder: Decoder<'static>, parts: &[&[u8]], length: usize) -> Vec<u8> {
    decoder
        .set_parameter(DParameter::WindowLogMax(27))
        .expect("a window");
    let mut output = vec![0; length];
    let mut filled = 0;
    for part in parts {
        let mut input = InBuffer::around(part);
        while input.pos() < part.len() && filled < length {
            let mut room = OutBuffer::around(&mut output[filled..]);
            decoder.run(&mut input, &mut room).expect("decodes");
            filled += room.pos();
        }
    }
    output.truncate(filled);
    output
}

/// Decodes from a mark to the end of its frame, with nothing but what it refers to.
fn check_mark(mark: &Mark, stream: &[u8], ends: Ends, plain: &[u8]) {
    let dictionary = dictionary_of(mark, plain);
    let decoder = Decoder::with_dictionary(&dictionary).expect("a dictionary");
    let header = mark.entrance.frame_header();
    let blocks = &stream[mark.compressed..ends.compressed];
    let expected = &plain[mark.uncompressed..ends.uncompressed];
    let found = decode(decoder, &[&header, blocks], expected.len());
    assert!(found == expected, "at {}", mark.compressed);
}

fn dictionary_of(mark: &Mark, plain: &[u8]) -> Vec<u8> {
    let first = mark.referred.iter().map(|range| range.start).min();
    let first = first.map_or(mark.uncompressed, |first| {
        usize::try_from(first).expect("short")
    });
    mark.entrance
        .dictionary(mark.uncompressed - first, |window| {
            let start = mark.uncompressed as u64 - window.len().min(mark.uncompressed) as u64;
            let shift = window.len() - (mark.uncompressed - usize::try_from(start).expect("short"));
            for range in &mark.referred {
                let place = |at: u64| usize::try_from(at).expect("short");
                let (from, to) = (place(range.start), place(range.end));
                let offset = shift + from - place(start);
                window[offset..offset + to - from].copy_from_slice(&plain[from..to]);
            }
        })
}

/// Checks everything about a stream. Says how many marks there were, and how many could be entered.
fn check(stream: &[u8], plain: &[u8]) -> (usize, usize, Followed) {
    let followed = follow(stream, usize::MAX / 2).expect("understood");
    assert_eq!(followed.bytes, plain.len());
    let again = follow(stream, 7).expect("understood");
    let (mut marks, mut entered) = (0, 0);
    for (frame, same) in followed.frames.iter().zip(&again.frames) {
        let (frame, ends) = frame;
        assert_eq!((frame.len(), ends), (same.0.len(), &same.1));
        marks += frame.len();
        for mark in frame.iter().filter(|mark| !mark.watch.is_broken()) {
            check_mark(mark, stream, *ends, plain);
            entered += 1;
        }
    }
    (marks, entered, followed)
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = std::env::var("ZSTD_SEED").ok().map_or_else(
        || u64::from(now.expect("after 1970").subsec_nanos()),
        |text| text.parse().expect("ZSTD_SEED is a number"),
    );
    println!("ZSTD_SEED={seed}");
    seed | 1 << 40
}

fn settings() -> Vec<Setting> {
    let plain = |level| Setting {
        level,
        window_log: None,
        has_checksum: false,
        has_size: false,
        flushes: 0,
    };
    let levels = [1, 3, 9, 19];
    let mut settings: Vec<_> = levels.into_iter().map(plain).collect();
    settings.extend(levels.into_iter().map(|level| Setting {
        has_checksum: true,
        has_size: true,
        flushes: 30,
        ..plain(level)
    }));
    settings.extend([10, 16, 27].into_iter().map(|log| Setting {
        window_log: Some(log),
        has_checksum: true,
        ..plain(3)
    }));
    settings
}

#[test]
fn streams_are_entered_wherever_no_table_of_before_is_taken() {
    let mut random = Random(seed());
    for setting in settings() {
        let plain = content(&mut random, 1500 << 10);
        let stream = frame(&plain, setting);
        let (marks, entered, _) = check(&stream, &plain);
        assert!(
            marks >= 10 && entered > 0,
            "{entered} of {marks}: {setting:?}"
        );
    }
}

#[test]
fn frames_follow_each_other() {
    let mut random = Random(seed());
    let (mut stream, mut plain) = (Vec::new(), Vec::new());
    for setting in settings() {
        let part = content(&mut random, 300 << 10);
        stream.extend(frame(&part, setting));
        stream.extend([0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]);
        stream.extend(b"short");
        stream.extend(frame(b"", setting));
        plain.extend(part);
    }
    let (_, entered, followed) = check(&stream, &plain);
    assert!(entered > 0);
    assert_eq!(followed.frames.len(), 2 * settings().len());
}

#[test]
fn every_kind_of_block_is_followed() {
    let mut random = Random(seed());
    let noise: Vec<u8> = (0..300 << 10)
        .map(|_| random.next().to_le_bytes()[2])
        .collect();
    let mut plain = noise.clone();
    plain.resize(plain.len() + (500 << 10), 0);
    plain.extend(content(&mut random, 300 << 10));
    plain.extend(&noise);
    let setting = settings()[1];
    let (_, entered, followed) = check(&frame(&plain, setting), &plain);
    assert!(entered > 0);
    for kind in [BlockKind::Raw, BlockKind::Repeated, BlockKind::Compressed] {
        assert!(followed.kinds.contains(&kind), "{kind:?}");
    }
}

/// Small blocks of the same text take the tables of those before.
#[test]
fn blocks_that_take_tables_of_before_are_no_entrance() {
    let mut random = Random(seed());
    let mut plain = Vec::new();
    while plain.len() < 400 << 10 {
        let line = format!("{:x} {}\n", random.next(), random.below(1000));
        plain.extend_from_slice(line.as_bytes());
    }
    let setting = Setting {
        flushes: 100,
        ..settings()[1]
    };
    let (marks, entered, _) = check(&frame(&plain, setting), &plain);
    assert!(entered < marks, "{entered} of {marks}");
}

#[test]
fn damage_is_an_error_or_another_stream_and_never_a_panic() {
    let mut random = Random(seed());
    let plain = content(&mut random, 200 << 10);
    let streams: Vec<_> = settings()
        .into_iter()
        .map(|setting| frame(&plain, setting))
        .collect();
    for _ in 0..600 {
        let mut damaged = streams[random.below(streams.len())].clone();
        for _ in 0..=random.below(3) {
            let at = match random.below(2) {
                0 => random.below(damaged.len()),
                _ => random.below(64),
            };
            damaged[at] ^= 1 << random.below(8);
        }
        damaged.truncate(damaged.len() - random.below(2) * random.below(1000));
        let _ = follow(&damaged, 1 << 20);
    }
}

#[test]
fn what_was_written_of_an_entrance_is_not_trusted() {
    let good = Entrance::from_parts(0, true, [1, 4, 1024]).expect("good");
    assert_eq!(good.window_bytes(), 1024);
    assert_eq!(good.frame_header(), [0x28, 0xb5, 0x2f, 0xfd, 0, 0]);
    for repeats in [[0, 4, 8], [1, 4, 1025], [1, u32::MAX, 8]] {
        assert!(
            Entrance::from_parts(0, true, repeats).is_err(),
            "{repeats:?}"
        );
    }
}
