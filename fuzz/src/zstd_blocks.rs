//! What is read of zstd streams without decoding them: as a decoder sees them, and enough to enter
//! them between blocks.

use std::io::Write;
use std::ops::Range;

use layer_index::SparseWindow;
use zstd::stream::raw::{CParameter, DParameter, Decoder, InBuffer, Operation, OutBuffer};
use zstd_resume::{Entrance, FormatError, Frame, TableWatch, Unit, Walker};

/// Output kept of one stream.
const OUTPUT_MAX_BYTES: usize = 512 << 10;

/// Entrances looked at in one frame. Each is decoded from to the frame's end.
const ENTRANCES_MAX: usize = 12;

/// The largest window that is decoded here: the memory that a hostile header costs.
const WINDOW_LOG_MAX: u32 = 23;

/// The first byte says what the rest is: a stream as it is, content to be compressed, or the window
/// of a checkpoint before it is packed.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 3 {
        0 => check_stream(rest),
        1 => check_content(rest),
        _ => check_window(rest),
    }
}

/// A window from a disk: its runs are in order and within it, and it is written as it was read.
fn check_window(raw: &[u8]) {
    let frame = zstd::bulk::compress(raw, 1).expect("memory takes everything");
    let Ok(window) = SparseWindow::unpack(&frame) else {
        return;
    };
    let mut end = usize::try_from(window.entrance().window_bytes()).expect("in memory");
    for (distance, bytes) in window.runs() {
        assert!(distance <= end && bytes.len() <= distance);
        end = distance - bytes.len();
    }
    let packed = window.pack().expect("what was read is written");
    assert!(SparseWindow::unpack(&packed).expect("and read") == window);
}

/// Level, kind of frame, length of a block, and the content.
fn check_content(rest: &[u8]) {
    let [level, flags, block, content @ ..] = rest else {
        return;
    };
    let level = i32::from(level % 20) - 4;
    let mut encoder = zstd::Encoder::new(Vec::new(), level).expect("a level");
    let window_log = 10 + u32::from(flags >> 4) % 8;
    for parameter in [
        CParameter::ChecksumFlag(flags & 1 == 1),
        CParameter::WindowLog(window_log),
    ] {
        encoder.set_parameter(parameter).expect("a parameter");
    }
    if flags & 2 == 2 {
        let size = Some(content.len() as u64);
        encoder.set_pledged_src_size(size).expect("a size");
    }
    for part in content.chunks((usize::from(*block) + 1) * 8) {
        encoder.write_all(part).expect("memory takes everything");
        encoder.flush().expect("memory takes everything");
    }
    let stream = encoder.finish().expect("memory takes everything");
    let followed = follow(&stream, usize::MAX).expect("what an encoder wrote is understood");
    assert_eq!(followed.produced, content.len() as u64);
    check_stream(&stream);
}

/// A place between two blocks, and what the rest of its frame needs of before.
struct Mark {
    compressed: usize,
    uncompressed: u64,
    entrance: Entrance,
    watch: TableWatch,
    referred: Vec<Range<u64>>,
}

/// The first frame of a stream, and how long all are.
#[derive(Default)]
struct Followed {
    marks: Vec<Mark>,
    produced: u64,
    /// The first frame is complete: where its blocks end, and its output.
    first: Option<(usize, u64)>,
}

fn follow(stream: &[u8], piece: usize) -> Result<Followed, FormatError> {
    let (mut walker, mut followed) = (Walker::new(), Followed::default());
    let (mut frame, mut before, mut at) = (None::<Frame>, 0, 0);
    while at < stream.len() {
        let end = stream.len().min(at.saturating_add(piece));
        let walked = walker.walk(&stream[at..end])?;
        assert!(walked.consumed > 0 && walked.consumed <= end - at);
        at += walked.consumed;
        match walked.unit {
            Some(Unit::Header(header)) => {
                before = followed.produced;
                frame = Some(Frame::new(header));
            }
            Some(Unit::Block(block)) => {
                let frame = frame.as_mut().expect("a header comes first");
                let marks = match followed.first {
                    None => followed.marks.as_mut_slice(),
                    Some(_) => &mut [],
                };
                let mut referred = Vec::new();
                let start = frame.position();
                let watches = marks.iter_mut().map(|mark| &mut mark.watch);
                let size = frame.block(&block, watches, |range| referred.push(range))?;
                assert_eq!(frame.position(), start + size.bytes as u64);
                for range in &referred {
                    assert!(range.start < range.end && range.end <= frame.position());
                }
                for mark in marks {
                    mark.referred.extend(referred.iter().cloned());
                }
                followed.produced = before + frame.position();
                if followed.first.is_none() {
                    mark_end(&mut followed, frame, at, block.is_last);
                }
            }
            None => {}
        }
    }
    Ok(followed)
}

fn mark_end(followed: &mut Followed, frame: &Frame, at: usize, is_last: bool) {
    if is_last {
        followed.first = Some((at, frame.position()));
        return;
    }
    let entrance = frame.entrance();
    if let Some(entrance) = entrance.filter(|_| followed.marks.len() < ENTRANCES_MAX) {
        followed.marks.push(Mark {
            compressed: at,
            uncompressed: frame.position(),
            entrance,
            watch: TableWatch::new(),
            referred: Vec::new(),
        });
    }
}

fn check_stream(stream: &[u8]) {
    let whole = follow(stream, usize::MAX);
    let again = follow(stream, 5);
    assert_eq!(whole.as_ref().err(), again.as_ref().err());
    let Ok(followed) = whole else {
        return;
    };
    let Some((end, produced)) = followed.first else {
        return;
    };
    let decoder = Decoder::new().expect("memory for a decoder");
    let Some(plain) = decode(decoder, &[&stream[..end]]) else {
        return;
    };
    if plain.len() >= OUTPUT_MAX_BYTES {
        return;
    }
    assert_eq!(plain.len() as u64, produced, "another size");
    for mark in followed.marks.iter().filter(|mark| !mark.watch.is_broken()) {
        check_mark(mark, &stream[mark.compressed..end], &plain);
    }
}

fn check_mark(mark: &Mark, blocks: &[u8], plain: &[u8]) {
    if mark.entrance.window_bytes() > 1 << WINDOW_LOG_MAX {
        return;
    }
    let place = |at: u64| usize::try_from(at).expect("in memory");
    let position = place(mark.uncompressed);
    let dictionary = mark.entrance.dictionary(position, |window| {
        let start = window.len() - position;
        for range in &mark.referred {
            let (from, to) = (place(range.start), place(range.end).min(position));
            if from < to {
                window[start + from..start + to].copy_from_slice(&plain[from..to]);
            }
        }
    });
    let decoder = Decoder::with_dictionary(&dictionary).expect("a dictionary");
    let found = decode(decoder, &[&mark.entrance.frame_header(), blocks]);
    let found = found.expect("blocks that were decoded before");
    assert!(found == plain[position..], "other bytes after {position}");
}

/// The output of one frame as far as it is kept. Nothing if it does not decode.
fn decode(mut decoder: Decoder<'static>, parts: &[&[u8]]) -> Option<Vec<u8>> {
    decoder
        .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
        .expect("a window");
    let mut output = vec![0; OUTPUT_MAX_BYTES];
    let mut filled = 0;
    for part in parts {
        let mut input = InBuffer::around(part);
        loop {
            let before = (input.pos(), filled);
            let mut room = OutBuffer::around(&mut output[filled..]);
            decoder.run(&mut input, &mut room).ok()?;
            filled += room.pos();
            if filled == OUTPUT_MAX_BYTES || before == (input.pos(), filled) {
                break;
            }
        }
    }
    output.truncate(filled);
    Some(output)
}
