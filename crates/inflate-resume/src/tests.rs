//! Every checkpoint of streams by several encoders resumes byte for byte.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Text-like bytes that compress about threefold and refer far back.
fn sample(length: usize) -> Vec<u8> {
    let words = [
        "layer", "index", "span ", "window", "\n", "registry", "0123", "mount",
    ];
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = words[usize::try_from(state % 8).expect("small")];
        bytes.extend_from_slice(word.as_bytes());
        if state.is_multiple_of(5) {
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(length);
    bytes
}

struct Mark {
    compressed: usize,
    uncompressed: usize,
    bits: u8,
    window: Option<Box<Window>>,
}

/// Walks the stream once; returns the output and every place where decoding can start.
fn walk(compressed: &[u8]) -> Result<(Vec<u8>, Vec<Mark>), InflateError> {
    let mut inflate = Inflate::at_member();
    let (mut at, mut output, mut buffer) = (0, Vec::new(), vec![0; 64 << 10]);
    let mut marks = vec![Mark {
        compressed: 0,
        uncompressed: 0,
        bits: 0,
        window: None,
    }];
    while at < compressed.len() {
        let end = compressed.len().min(at + 10_000);
        let step = inflate.step(&compressed[at..end], &mut buffer)?;
        at += step.consumed;
        output.extend_from_slice(&buffer[..step.produced]);
        let (place, bits, window) = match step.place {
            Place::Inside => continue,
            Place::MemberEnd => (at, 0, None),
            Place::Block { unused_bits: 0 } => (at, 0, Some(inflate.window())),
            Place::Block { unused_bits } => (at - 1, 8 - unused_bits, Some(inflate.window())),
        };
        marks.push(Mark {
            compressed: place,
            uncompressed: output.len(),
            bits,
            window,
        });
    }
    if inflate.may_end() {
        Ok((output, marks))
    } else {
        Err(error_of_truncation())
    }
}

fn error_of_truncation() -> InflateError {
    Inflate::at_member()
        .step(b"no gzip", &mut [0; 16])
        .expect_err("no header")
}

fn resume(mark: &Mark, compressed: &[u8], length: usize) -> Vec<u8> {
    let mut input = &compressed[mark.compressed..];
    if input.is_empty() {
        return Vec::new();
    }
    let mut inflate = match &mark.window {
        None => Inflate::at_member(),
        Some(window) => {
            let mut window = window.clone();
            referenced(mark.bits, input)
                .expect("decodes")
                .sparsify(&mut window);
            Inflate::at_block(mark.bits, input[0], &window)
        }
    };
    if mark.bits > 0 {
        input = &input[1..];
    }
    let (mut output, mut filled) = (vec![0; length], 0);
    while filled < length {
        let step = inflate.step(input, &mut output[filled..]).expect("resumes");
        input = &input[step.consumed..];
        filled += step.produced;
        assert!(
            step.consumed + step.produced > 0 || step.place != Place::Inside,
            "stuck"
        );
    }
    output
}

#[track_caller]
fn check(compressed: &[u8], expected: &[u8], marks_at_least: usize) {
    let (output, marks) = walk(compressed).expect("decodes");
    assert!(output == expected, "the walk gives other bytes");
    assert!(marks.len() >= marks_at_least, "only {} marks", marks.len());
    for mark in &marks {
        let length = (expected.len() - mark.uncompressed).min(100_000);
        let resumed = resume(mark, compressed, length);
        let original = &expected[mark.uncompressed..mark.uncompressed + length];
        assert!(resumed == original, "differs after {}", mark.uncompressed);
    }
}

fn gzip(level: u32, bytes: &[u8]) -> Vec<u8> {
    filter(
        Command::new("gzip").args(["-n", "-c", &format!("-{level}")]),
        bytes,
    )
}

fn filter(command: &mut Command, bytes: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("writes").expect("writes");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn gzip_streams_resume_at_every_block() {
    let bytes = sample(3 << 20);
    for level in [1, 6, 9] {
        check(&gzip(level, &bytes), &bytes, 10);
    }
}

#[test]
fn members_resume_without_a_window() {
    let bytes = sample(1 << 20);
    let mut compressed = Vec::new();
    for part in bytes.chunks(100_000) {
        compressed.extend(gzip(6, part));
    }
    check(&compressed, &bytes, 11);
}

#[test]
fn extremes_resume() {
    let zeros = vec![0; 5 << 20];
    check(&gzip(6, &zeros), &zeros, 1);
    let incompressible: Vec<u8> = (0..300_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).rotate_left(11).to_le_bytes()[2])
        .collect();
    check(&gzip(1, &incompressible), &incompressible, 2);
    check(&gzip(6, b""), b"", 1);
}

#[test]
fn damage_is_an_error() {
    let bytes = sample(200_000);
    let good = gzip(6, &bytes);
    let mut wrong_checksum = good.clone();
    let at = wrong_checksum.len() - 6;
    wrong_checksum[at] ^= 1;
    let garbage = [good.clone(), b"garbage".to_vec()].concat();
    let padding = [good.clone(), vec![0; 512]].concat();
    let truncated = good[..good.len() - 1].to_vec();
    for damaged in [wrong_checksum, garbage, padding, truncated] {
        assert!(walk(&damaged).is_err());
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let good = gzip(6, &sample(50_000));
    for at in 0..good.len().min(600) {
        let mut mutated = good.clone();
        mutated[at] = mutated[at].wrapping_add(0x55);
        let _ = walk(&mutated);
        let _ = referenced(u8::try_from(at % 8).expect("small"), &mutated[at..]);
    }
}
