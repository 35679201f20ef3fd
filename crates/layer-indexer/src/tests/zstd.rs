//! Layers of zstd: one frame or many, entered at blocks where that can be.

use ::zstd::stream::raw::CParameter;
use layer_index::DecodeError;

use super::*;

/// How a frame is written.
#[derive(Clone, Copy, Debug)]
struct Setting {
    level: i32,
    window_log: u32,
    has_checksum: bool,
    /// Blocks are ended after so many bytes.
    flushed_bytes: usize,
}

impl Setting {
    fn of(level: i32) -> Self {
        Self {
            level,
            window_log: 0,
            has_checksum: false,
            flushed_bytes: usize::MAX,
        }
    }
}

/// One frame whose size is not said.
fn frame(content: &[u8], setting: Setting) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), setting.level).expect("an encoder");
    for parameter in [
        CParameter::ChecksumFlag(setting.has_checksum),
        CParameter::WindowLog(setting.window_log),
    ] {
        encoder.set_parameter(parameter).expect("a parameter");
    }
    let (part_bytes, is_flushed) = match setting.flushed_bytes {
        usize::MAX => (64 << 10, false),
        bytes => (bytes, true),
    };
    for part in content.chunks(part_bytes) {
        encoder.write_all(part).expect("memory takes everything");
        if is_flushed {
            encoder.flush().expect("memory takes everything");
        }
    }
    encoder.finish().expect("memory takes everything")
}

fn checkpoints(index: &LayerIndex) -> usize {
    index
        .spans()
        .last()
        .map_or(0, |span| span.checkpoint as usize + 1)
}

#[test]
fn one_frame_is_entered_at_many_places() {
    let archive = archive(16);
    let settings = [
        Setting::of(1),
        Setting::of(3),
        Setting::of(9),
        Setting {
            has_checksum: true,
            ..Setting::of(3)
        },
        Setting {
            window_log: 18,
            ..Setting::of(3)
        },
        Setting {
            window_log: 24,
            ..Setting::of(3)
        },
        Setting {
            flushed_bytes: 5000,
            ..Setting::of(3)
        },
        Setting::of(-5),
    ];
    for setting in settings {
        let layer = frame(&archive, setting);
        let index = check_every_span(&layer, &archive);
        let found = checkpoints(&index);
        println!(
            "{setting:?}: {found} checkpoints, {} bytes",
            index.file_bytes()
        );
        assert!(found > 2, "{setting:?}: {found} checkpoints");
        check_size(&index, &layer);
    }
}

#[track_caller]
fn check_size(index: &LayerIndex, layer: &[u8]) {
    let limit = layer.len() as u64 / 25 + (16 << 10);
    let bytes = index.file_bytes();
    assert!(bytes <= limit, "an index of {bytes} bytes, not {limit}");
}

#[test]
fn slow_levels_are_entered_too() {
    let archive = archive(6);
    let layer = frame(&archive, Setting::of(19));
    let index = check_every_span(&layer, &archive);
    check_size(&index, &layer);
    assert!(checkpoints(&index) > 1);
}

#[test]
fn a_window_that_is_too_large_is_decoded_from_its_start() {
    let archive = archive(4);
    for window_log in [25, 27] {
        let setting = Setting {
            window_log,
            ..Setting::of(3)
        };
        let index = check_every_span(&frame(&archive, setting), &archive);
        assert_eq!(checkpoints(&index), 1);
        assert!(index.spans().len() > 10);
    }
}

/// Frames of all sizes, with something to pass over and empty ones between them.
#[test]
fn frames_and_blocks_are_entered_alike() {
    let archive = archive(12);
    let (mut layer, mut rest) = (Vec::new(), archive.as_slice());
    for (number, length) in [4 << 20, 1000, 100_000, 300_000, 5 << 20]
        .into_iter()
        .enumerate()
    {
        let (part, after) = rest.split_at(length);
        rest = after;
        let has_checksum = number % 2 == 0;
        let setting = Setting {
            has_checksum,
            ..Setting::of(3)
        };
        layer.extend(frame(part, setting));
        layer.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        layer.extend(frame(b"", setting));
    }
    layer.extend(::zstd::bulk::compress(rest, 3).expect("memory takes everything"));
    let index = check_every_span(&layer, &archive);
    check_size(&index, &layer);
    let found = checkpoints(&index);
    assert!(found > 5, "{found} checkpoints");
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// An archive with one file.
fn archive_of(content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    builder
        .append_data(&mut header, "file", content)
        .expect("appends");
    builder.into_inner().expect("ends")
}

/// Noise refers to nothing, and zeros to the byte before: any place among them is free.
#[test]
fn what_refers_to_nothing_is_entered_anywhere() {
    let mut content = noise(12 << 20);
    content.resize(content.len() + (6 << 20), 0);
    let archive = archive_of(&content);
    let index = check_every_span(&frame(&archive, Setting::of(3)), &archive);
    let found = checkpoints(&index);
    assert!(found > 8, "{found} checkpoints");
}

/// Noise that comes again far later: whoever enters between needs more of it than is kept.
#[test]
fn a_window_that_is_used_too_much_is_given_up() {
    let mut content = noise(20 << 20);
    content.extend_from_within(13 << 20..);
    let archive = archive_of(&content);
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
    encoder.window_log(23).expect("a window");
    encoder.long_distance_matching(true).expect("a flag");
    encoder
        .write_all(&archive)
        .expect("memory takes everything");
    let layer = encoder.finish().expect("memory takes everything");
    assert!(layer.len() < 21 << 20, "it is not taken from before");
    let index = check_every_span(&layer, &archive);
    check_size(&index, &layer);
    // Those from which the noise that comes again is decoded on the way.
    let found = checkpoints(&index);
    assert!((10..15).contains(&found), "{found} checkpoints");
}

/// From one checkpoint over the next ones, as a long read does, and from each one alone.
#[test]
fn decoding_goes_on_over_checkpoints() {
    let archive = archive(12);
    let setting = Setting {
        has_checksum: true,
        ..Setting::of(3)
    };
    let layer = [
        frame(&archive[..9 << 20], setting),
        frame(&archive[9 << 20..], setting),
    ]
    .concat();
    let index = index(&layer);
    let last = index.spans().len() - 1;
    for first in [0, last / 3, last / 2, last] {
        for piece in [usize::MAX, 1000] {
            let mut decoder = index.span_decoder(first, last).expect("a decoder");
            let range = index.compressed_range(first, last);
            let start = usize::try_from(range.start).expect("short");
            let (mut next, mut decoded) = (None, Vec::new());
            for part in layer[start..].chunks(piece.min(layer.len())) {
                let each = &mut |number: usize, bytes: &[u8]| {
                    assert!(next.is_none_or(|next| next == number));
                    next = Some(number + 1);
                    decoded.extend_from_slice(bytes);
                    Ok(())
                };
                decoder.push(part, each).expect("decodes");
            }
            decoder.finish().expect("all of it");
            assert!(archive.ends_with(&decoded), "from {first}");
            assert_eq!(next, Some(last + 1));
        }
    }
}

#[test]
fn damage_never_gives_other_bytes() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = std::env::var("ZSTD_SEED").ok().map_or_else(
        || u64::from(now.expect("after 1970").subsec_nanos()),
        |text| text.parse().expect("ZSTD_SEED is a number"),
    );
    println!("ZSTD_SEED={seed}");
    let mut state = seed | 1 << 40;
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % end as u64).expect("less than a usize")
    };
    let archive = archive(8);
    let layer = frame(&archive, Setting::of(3));
    let index = index(&layer);
    let spans = index.spans();
    let mut refused = 0;
    for _ in 0..60 {
        let span = below(spans.len());
        let range = index.compressed_range(span, span);
        let place = |at| usize::try_from(at).expect("short");
        let mut damaged = layer[place(range.start)..place(range.end)].to_vec();
        let at = below(damaged.len());
        damaged[at] ^= 1 << below(8);
        let result = index.decode_spans(span, span, &damaged, |number, bytes| {
            let start = place(spans[number].uncompressed_offset);
            assert!(archive[start..].starts_with(bytes), "span {number}");
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(
                DecodeError::Mismatch { .. }
                | DecodeError::Undecodable { .. }
                | DecodeError::Truncated { .. },
            ) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 20, "{refused} of 60");
}

/// A layer whose bytes are damaged has no index, and the threads that looked at it end.
#[test]
fn damaged_frames_have_no_index() {
    let archive = archive(4);
    let setting = Setting {
        has_checksum: true,
        ..Setting::of(3)
    };
    let layer = frame(&archive, setting);
    for at in [5, 7, 100, layer.len() / 2, layer.len() - 2] {
        let mut damaged = layer.clone();
        damaged[at] ^= 0x41;
        assert!(index_bytes(&damaged).is_err(), "at {at}");
    }
}
