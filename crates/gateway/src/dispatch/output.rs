//! What a call prints, as text, for as long as it is kept.
//!
//! Offsets count bytes of UTF-8 over both streams together, so that a reader whose connection broke
//! can say how far it came. Bytes become text once, when they arrive: a character that comes in two
//! pieces stays one, and what is no UTF-8 becomes U+FFFD. The newest text is kept; who asks for
//! what is gone gets the earliest that is there.

use std::collections::VecDeque;

/// Text that is kept of one call. Whoever follows a call gets it as it comes; what is beyond this
/// was printed faster than anybody read.
const KEPT_BYTES: usize = 4 << 20;
/// Text in one piece, so that many short lines do not become many allocations, and what is dropped
/// is little.
const PIECE_BYTES: usize = 16 << 10;
/// What a piece takes beside its text, counted so that many tiny ones are not free.
const PIECE_OVERHEAD_BYTES: usize = 96;

/// Where something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Some text and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) stream: Stream,
    pub(crate) text: String,
    /// The offset after it.
    pub(crate) offset: u64,
}

/// The output of one call.
#[derive(Debug, Default)]
pub(crate) struct OutputLog {
    /// Each with the offset after it.
    pieces: VecDeque<Piece>,
    kept_bytes: usize,
    offset: u64,
    stdout: Decoder,
    stderr: Decoder,
}

impl OutputLog {
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let text = match stream {
            Stream::Stdout => self.stdout.decode(bytes),
            Stream::Stderr => self.stderr.decode(bytes),
        };
        self.push_text(stream, &text);
    }

    /// The memory that it takes, more or less.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The next text after this offset, or after what is gone of it.
    pub(crate) fn after(&self, offset: u64) -> Option<Piece> {
        let at = self.pieces.partition_point(|piece| piece.offset <= offset);
        let piece = self.pieces.get(at)?;
        let start = piece.offset - piece.text.len() as u64;
        let mut seen = usize::try_from(offset.saturating_sub(start)).unwrap_or(0);
        // An offset that was not ours may lie within a character.
        while !piece.text.is_char_boundary(seen) {
            seen -= 1;
        }
        Some(Piece {
            text: piece.text[seen..].to_owned(),
            ..*piece
        })
    }

    fn push_text(&mut self, stream: Stream, text: &str) {
        if text.is_empty() {
            return;
        }
        self.offset += text.len() as u64;
        self.kept_bytes += text.len();
        match self.pieces.back_mut() {
            Some(last) if last.stream == stream && last.text.len() < PIECE_BYTES => {
                last.text.push_str(text);
                last.offset = self.offset;
            }
            _ => {
                self.kept_bytes += PIECE_OVERHEAD_BYTES;
                self.pieces.push_back(Piece {
                    stream,
                    text: text.to_owned(),
                    offset: self.offset,
                });
            }
        }
        while self.kept_bytes > KEPT_BYTES {
            let dropped = self.pieces.pop_front();
            let freed = dropped.map(|piece| piece.text.len() + PIECE_OVERHEAD_BYTES);
            self.kept_bytes -= freed.unwrap_or(self.kept_bytes);
        }
    }
}

/// Bytes to text across pieces.
#[derive(Debug, Default)]
struct Decoder {
    /// The beginning of a character whose end has not come yet.
    rest: Vec<u8>,
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut text = String::with_capacity(bytes.len());
        let mut left = bytes.as_slice();
        while let Err(error) = std::str::from_utf8(left) {
            let (valid, after) = left.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            let Some(invalid) = error.error_len() else {
                self.rest = after.to_vec();
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            left = &after[invalid..];
        }
        text.push_str(&String::from_utf8_lossy(left));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole() {
        let table: [(&[&[u8]], &str); 5] = [
            (&[b"h\xc3", b"\xa9llo"], "h\u{e9}llo"),
            (&[b"\xf0\x9f", b"\x8e", b"\x89!"], "\u{1f389}!"),
            (&[b"a\xffb"], "a\u{fffd}b"),
            (&[b"\xc3", b"x"], "\u{fffd}x"),
            (&[b"end\xc3"], "end"),
        ];
        for (pieces, expected) in table {
            let mut decoder = Decoder::default();
            let text: String = pieces.iter().map(|piece| decoder.decode(piece)).collect();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn readers_go_on_where_they_were() {
        let mut log = OutputLog::default();
        log.push(Stream::Stdout, "h\u{e9}llo ".as_bytes());
        log.push(Stream::Stderr, b"oops");
        let after = |offset| log.after(offset).map(|piece| (piece.text, piece.offset));
        assert_eq!(after(0), Some(("h\u{e9}llo ".to_owned(), 7)));
        assert_eq!(after(3), Some(("llo ".to_owned(), 7)));
        assert_eq!(after(2), Some(("\u{e9}llo ".to_owned(), 7)), "within one");
        assert_eq!(after(7), Some(("oops".to_owned(), 11)));
        assert_eq!(after(11), None);
        assert_eq!(after(u64::MAX), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut log = OutputLog::default();
        let line = [b'x'; 1000];
        for _ in 0..10_000 {
            log.push(Stream::Stdout, &line);
        }
        assert!(log.kept_bytes <= KEPT_BYTES);
        assert!(log.pieces.len() <= KEPT_BYTES / PIECE_BYTES + 1);
        let earliest = log.after(0).unwrap();
        assert!(earliest.offset > 10_000_000 - KEPT_BYTES as u64);
        let mut offset = 0;
        while let Some(piece) = log.after(offset) {
            offset = piece.offset;
        }
        assert_eq!(offset, 10_000_000);
    }
}
