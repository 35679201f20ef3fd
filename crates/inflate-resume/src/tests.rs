//! Streams of several encoders, cut at every boundary.

use std::io::Write as _;
use std::process::{Command, Stdio};

use flate2::{Compression, GzBuilder};
use proptest::prelude::*;

use super::*;

/// Text-like data: words from a small vocabulary, with stretches of noise and of zeros.
fn sample(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = Vec::with_capacity(size + 512);
    while data.len() < size {
        match random() % 64 {
            0 => data.extend((0..400).map(|_| random().to_le_bytes()[3])),
            1 => data.resize(data.len() + (random() % 4000) as usize, 0),
            pick => {
                let word = random() % (50 + pick * 30);
                write!(data, "word{word:x}/{} ", pick % 7).unwrap();
            }
        }
    }
    data.truncate(size);
    data
}

fn encode(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzBuilder::new()
        .filename("layer.tar")
        .comment("a comment")
        .extra(vec![1, 2, 3, 4])
        .write(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn gzip_tool(data: &[u8], level: &str) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args([level, "-c", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is part of every Debian");
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&data).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

struct Found {
    boundary: Boundary,
    uncompressed_offset: usize,
    window: Box<[u8; WINDOW_SIZE]>,
    window_size: usize,
}

fn scan(compressed: &[u8], input_step: usize, output_step: usize) -> (Vec<u8>, Vec<Found>) {
    let mut inflater = Inflater::with_boundaries().unwrap();
    let mut output = vec![0; output_step];
    let (mut decoded, mut found) = (Vec::new(), Vec::new());
    for chunk in compressed.chunks(input_step) {
        let mut rest = chunk;
        loop {
            let progress = inflater.inflate(rest, &mut output).unwrap();
            rest = &rest[progress.consumed..];
            decoded.extend_from_slice(&output[..progress.produced]);
            match progress.stop {
                Stop::InputEmpty => break,
                Stop::OutputFull => {}
                Stop::Boundary(boundary) => {
                    let mut window = Box::new([0; WINDOW_SIZE]);
                    let window_size = inflater.copy_window(&mut window);
                    let uncompressed_offset = decoded.len();
                    found.push(Found {
                        boundary,
                        uncompressed_offset,
                        window,
                        window_size,
                    });
                }
            }
        }
    }
    inflater.finish().unwrap();
    (decoded, found)
}

fn resume(found: &Found, window: &[u8; WINDOW_SIZE], compressed: &[u8], size: usize) -> Vec<u8> {
    let window = (found.window_size > 0).then_some(window);
    let mut inflater = Inflater::resume(found.boundary.bits, window).unwrap();
    let start = usize::try_from(found.boundary.compressed_offset).unwrap();
    let mut decoded = vec![0; size];
    let mut done = 0;
    for chunk in compressed[start..].chunks(50_001) {
        let mut rest = chunk;
        while done < size {
            let progress = inflater.inflate(rest, &mut decoded[done..]).unwrap();
            rest = &rest[progress.consumed..];
            done += progress.produced;
            if progress.stop == Stop::InputEmpty {
                break;
            }
        }
    }
    decoded.truncate(done);
    decoded
}

fn sparse(found: &Found, compressed: &[u8]) -> Box<[u8; WINDOW_SIZE]> {
    let start = usize::try_from(found.boundary.compressed_offset).unwrap();
    let head = &compressed[start..compressed.len().min(start + HEAD_LIMIT)];
    let References::Ranges(ranges) = window_references(head, found.boundary.bits) else {
        panic!("an ordinary stream tells its references");
    };
    // What is not referred to gets a value that would show.
    let mut window = Box::new([0xa5; WINDOW_SIZE]);
    for range in ranges {
        let range = usize::from(range.start)..usize::from(range.end);
        window[range.clone()].copy_from_slice(&found.window[range]);
    }
    window
}

/// Decodes, then resumes at every boundary, with the full and with the sparse window.
fn check_every_boundary(name: &str, data: &[u8], compressed: &[u8]) -> usize {
    let (decoded, found) = scan(compressed, 10_007, 65_536);
    assert!(decoded == data, "{name}: decodes as a whole");
    for (number, place) in found.iter().enumerate() {
        let rest = &data[place.uncompressed_offset..];
        let size = rest.len().min(400_000);
        let again = resume(place, &place.window, compressed, size);
        assert!(again == rest[..size], "{name}: boundary {number} resumes");
        let again = resume(place, &sparse(place, compressed), compressed, size);
        assert!(
            again == rest[..size],
            "{name}: boundary {number} resumes with a sparse window"
        );
    }
    found.len()
}

#[test]
fn every_boundary_resumes() {
    let data = sample(1_500_000, 7);
    // The fastest level of zlib-rs writes one long block.
    for (level, least) in [(0, 4), (1, 1), (6, 4), (9, 4)] {
        let boundaries = check_every_boundary("zlib-rs", &data, &encode(&data, level));
        assert!(
            boundaries >= least,
            "level {level}: {boundaries} boundaries"
        );
    }
    for level in ["-1", "-6", "-9"] {
        let boundaries = check_every_boundary("gzip", &data, &gzip_tool(&data, level));
        assert!(boundaries > 3, "gzip {level}: {boundaries} boundaries");
    }
}

#[test]
fn members_are_boundaries_without_a_window() {
    let data = sample(700_000, 3);
    let compressed: Vec<u8> = data
        .chunks(100_000)
        .flat_map(|part| encode(part, 6))
        .collect();
    check_every_boundary("members", &data, &compressed);
    let (_, found) = scan(&compressed, compressed.len(), 1 << 20);
    let starts: Vec<_> = found
        .iter()
        .filter(|place| place.boundary.member_start)
        .collect();
    assert_eq!(starts.len(), 7);
    for (number, start) in starts.iter().enumerate() {
        assert_eq!(start.uncompressed_offset, number * 100_000);
        assert_eq!((start.window_size, start.boundary.bits), (0, 0));
    }
}

#[test]
fn one_byte_at_a_time_gives_the_same_boundaries() {
    let data = sample(150_000, 11);
    let compressed = [encode(&data, 6), encode(b"", 6), encode(&data, 1)].concat();
    let (whole, at_once) = scan(&compressed, compressed.len(), 1 << 20);
    let (pieces, bytewise) = scan(&compressed, 1, 1000);
    assert_eq!(whole, pieces);
    let places = |found: &[Found]| {
        found
            .iter()
            .map(|place| (place.boundary, place.uncompressed_offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(places(&at_once), places(&bytewise));
}

fn decode_all(compressed: &[u8]) -> Result<usize, InflateError> {
    let mut inflater = Inflater::new()?;
    let mut output = vec![0; 4096];
    let (mut rest, mut total) = (compressed, 0);
    loop {
        let progress = inflater.inflate(rest, &mut output)?;
        rest = &rest[progress.consumed..];
        total += progress.produced;
        if progress.stop == Stop::InputEmpty {
            inflater.finish()?;
            return Ok(total);
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let data = sample(50_000, 5);
    let good = encode(&data, 6);
    let size = good.len();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    assert_eq!(decode_all(&good), Ok(50_000));
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", Vec::new(), "cut short"),
        ("cut in the data", good[..size / 2].to_vec(), "cut short"),
        ("cut in the trailer", good[..size - 1].to_vec(), "cut short"),
        (
            "cut in the next header",
            [&good[..], &good[..5]].concat(),
            "cut short",
        ),
        (
            "length changed",
            changed(size - 1),
            "incorrect length check",
        ),
        (
            "checksum changed",
            changed(size - 5),
            "incorrect data check",
        ),
        (
            "zero padding",
            [&good[..], &[0; 512]].concat(),
            "incorrect header check",
        ),
        (
            "garbage after it",
            [&good[..], b"garbage"].concat(),
            "incorrect header check",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = decode_all(&bytes).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn header_checksum_is_verified() {
    // Flag 2 announces a CRC-16 of the header.
    let mut bytes = vec![0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 255, 0, 0];
    bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let error = decode_all(&bytes)
        .expect_err("wrong header checksum")
        .to_string();
    assert!(error.contains("header crc mismatch"), "{error}");
}

#[test]
fn resuming_with_the_wrong_bytes_is_an_error_or_other_bytes() {
    let data = sample(400_000, 9);
    let compressed = encode(&data, 6);
    let (_, found) = scan(&compressed, compressed.len(), 1 << 20);
    let place = &found[found.len() / 2];
    assert!(Inflater::resume(8, None).is_err());
    let mut inflater = Inflater::resume(3, None).unwrap();
    let start = usize::try_from(place.boundary.compressed_offset).unwrap() + 1;
    let mut output = vec![0; 10_000];
    let _ = inflater.inflate(&compressed[start..], &mut output);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        bits in 0u8..8,
    ) {
        let _ = decode_all(&bytes);
        let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0], &bytes[..]].concat();
        let _ = decode_all(&gzip);
        let _ = window_references(&bytes, bits);
        let mut inflater = Inflater::resume(bits, Some(&[1; WINDOW_SIZE])).unwrap();
        let mut output = vec![0; 100_000];
        let _ = inflater.inflate(&bytes, &mut output);
    }

    #[test]
    fn mutated_streams_are_survived(at in 0usize..20_000, value in any::<u8>()) {
        let data = sample(60_000, 21);
        let mut compressed = encode(&data, 6);
        let at = at % compressed.len();
        compressed[at] = value;
        let _ = decode_all(&compressed);
        let _ = window_references(&compressed[20..], 0);
    }
}
