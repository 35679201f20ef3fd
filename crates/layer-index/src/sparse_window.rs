//! What of a zstd window is used: runs of bytes, and how to enter at the block after them.

use zstd_resume::Entrance;

use crate::builder::ZSTD_LEVEL;
use crate::column::{Column, Reader, join, split};
use crate::error::{BuildError, IndexError};
use crate::limits::{MAX_SPARSE_WINDOW, MAX_SPARSE_WINDOW_FRAME, MAX_ZSTD_WINDOW};

const COLUMNS: usize = 4;

const OUTSIDE: IndexError = IndexError::Corrupt("a run outside its window");

/// The bytes before a checkpoint that the blocks up to the next one take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseWindow {
    entrance: Entrance,
    runs: Vec<Run>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// How far before the checkpoint it begins.
    distance: usize,
    length: usize,
}

impl SparseWindow {
    pub fn new(entrance: Entrance) -> Self {
        Self {
            entrance,
            runs: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Makes room for runs of so many bytes in all.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// Adds the run that begins `distance` bytes before the checkpoint: the furthest comes first,
    /// none touches another, and all are within the entrance's window.
    pub fn push(&mut self, distance: usize, bytes: &[u8]) {
        self.runs.push(Run {
            distance,
            length: bytes.len(),
        });
        self.bytes.extend_from_slice(bytes);
    }

    /// The runs: how far before the checkpoint each begins, and what it is.
    pub fn runs(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.runs.iter().map(move |run| {
            let (bytes, after) = rest.split_at(run.length);
            rest = after;
            (run.distance, bytes)
        })
    }

    pub fn entrance(&self) -> Entrance {
        self.entrance
    }

    /// What a decoder is given beside the entrance's frame header.
    pub(crate) fn dictionary(&self) -> Vec<u8> {
        let reach = self.runs.first().map_or(0, |run| run.distance);
        self.entrance.dictionary(reach, |window| {
            for (distance, bytes) in self.runs() {
                let start = window.len() - distance;
                window[start..start + bytes.len()].copy_from_slice(bytes);
            }
        })
    }

    /// Packs the window as it is stored.
    pub fn pack(&self) -> Result<Vec<u8>, BuildError> {
        let raw = self.encode();
        let frame = zstd::bulk::compress(&raw, ZSTD_LEVEL).map_err(BuildError::Compress)?;
        match u32::try_from(frame.len()) {
            Ok(length) if length <= MAX_SPARSE_WINDOW_FRAME && raw.len() <= MAX_SPARSE_WINDOW => {
                Ok(frame)
            }
            _ => Err(BuildError::Limit("a window is too long")),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let [mut entrance, mut gaps, mut lengths, mut length] =
            [(); COLUMNS].map(|()| Column::default());
        let reach = self.runs.first().map_or(0, |run| run.distance);
        let has_checksum = u8::from(self.entrance.has_checksum());
        entrance.raw(&[self.entrance.window_descriptor(), has_checksum]);
        for offset in self.entrance.repeats() {
            entrance.number(u64::from(offset));
        }
        entrance.number(reach as u64);
        let mut end = reach;
        for run in &self.runs {
            gaps.number((end - run.distance) as u64);
            lengths.number(run.length as u64);
            end = run.distance - run.length;
        }
        // As `join` would, without another copy of what may be megabytes.
        length.number(self.bytes.len() as u64);
        let mut raw = join(&[entrance, gaps, lengths]);
        raw.reserve_exact(length.len() + self.bytes.len());
        raw.extend_from_slice(length.as_slice());
        raw.extend_from_slice(&self.bytes);
        raw
    }

    /// Reads a window that [`SparseWindow::pack`] packed.
    pub fn unpack(frame: &[u8]) -> Result<Self, IndexError> {
        let raw = zstd::bulk::decompress(frame, MAX_SPARSE_WINDOW)?;
        let [mut head, mut gaps, mut lengths, mut bytes] = split::<COLUMNS>(&raw)?;
        let entrance = read_entrance(&mut head)?;
        let mut end: usize = head.narrow()?;
        if end as u64 > entrance.window_bytes() {
            return Err(OUTSIDE);
        }
        let mut window = Self::new(entrance);
        while !lengths.is_empty() {
            let distance = end.checked_sub(gaps.narrow()?).ok_or(OUTSIDE)?;
            let length = lengths.narrow()?;
            end = distance.checked_sub(length).ok_or(OUTSIDE)?;
            if length == 0 {
                return Err(IndexError::Corrupt("a run of nothing"));
            }
            window.push(distance, bytes.raw(length)?);
        }
        [head, gaps, lengths, bytes]
            .into_iter()
            .try_for_each(Reader::end)?;
        Ok(window)
    }
}

fn read_entrance(head: &mut Reader<'_>) -> Result<Entrance, IndexError> {
    let [descriptor, has_checksum] = head.array()?;
    let repeats = [head.narrow()?, head.narrow()?, head.narrow()?];
    let entrance = Entrance::from_parts(descriptor, has_checksum == 1, repeats)
        .map_err(|_| IndexError::Corrupt("a window that cannot be entered"))?;
    if has_checksum > 1 || entrance.window_bytes() > MAX_ZSTD_WINDOW {
        return Err(IndexError::Corrupt("a window that cannot be entered"));
    }
    Ok(entrance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrance() -> Entrance {
        Entrance::from_parts(0, true, [7, 4, 8]).expect("good")
    }

    #[test]
    fn windows_come_back() {
        let mut window = SparseWindow::new(entrance());
        assert_eq!(
            SparseWindow::unpack(&window.pack().unwrap()).unwrap(),
            window
        );
        window.push(1024, b"far");
        window.push(100, b"near");
        window.push(5, b"there");
        let again = SparseWindow::unpack(&window.pack().unwrap()).unwrap();
        assert_eq!(again, window);
        let dictionary = again.dictionary();
        let bytes = &dictionary[dictionary.len() - 1024..];
        assert_eq!((&bytes[..3], &bytes[1019..]), (&b"far"[..], &b"there"[..]));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 12);
    }

    /// Descriptor, checksum, offsets, reach; gaps; lengths; how many bytes.
    type Case<'a> = (u8, u8, [u64; 4], &'a [u64], &'a [u64], usize);

    #[test]
    fn windows_that_lie_are_refused() {
        let huge = u64::MAX;
        let cases: &[(Case<'_>, bool)] = &[
            ((0, 1, [1, 4, 8, 9], &[0, 2], &[4, 3], 7), true),
            ((0, 2, [1, 4, 8, 9], &[0, 2], &[4, 3], 7), false),
            ((0, 1, [0, 4, 8, 9], &[0, 2], &[4, 3], 7), false),
            ((0, 1, [1, 4, 1025, 9], &[0, 2], &[4, 3], 7), false),
            ((0, 1, [1, 4, 8, 1025], &[0, 2], &[4, 3], 7), false),
            ((0, 1, [1, 4, 8, huge], &[0, 2], &[4, 3], 7), false),
            ((0, 1, [1, 4, 8, 9], &[0, 3], &[4, 3], 7), false),
            ((0, 1, [1, 4, 8, 9], &[huge, 2], &[4, 3], 7), false),
            ((0, 1, [1, 4, 8, 9], &[0, 2], &[4, huge], 7), false),
            ((0, 1, [1, 4, 8, 9], &[0], &[4, 3], 7), false),
            ((0, 1, [1, 4, 8, 9], &[0, 2], &[4, 3], 6), false),
            ((0, 1, [1, 4, 8, 9], &[0, 2], &[4, 3], 8), false),
            ((0, 1, [1, 4, 8, 9], &[0, 2], &[4, 0], 4), false),
            // 32 MiB.
            ((0x78, 1, [1, 4, 8, 9], &[0, 2], &[4, 3], 7), false),
            ((255, 1, [1, 4, 8, 9], &[0, 2], &[4, 3], 7), false),
        ];
        for (case, is_good) in cases {
            let (descriptor, checksum, numbers, gaps, lengths, length) = case;
            let mut columns = [(); COLUMNS].map(|()| Column::default());
            columns[0].raw(&[*descriptor, *checksum]);
            numbers.iter().for_each(|number| columns[0].number(*number));
            gaps.iter().for_each(|number| columns[1].number(*number));
            lengths.iter().for_each(|number| columns[2].number(*number));
            columns[3].raw(&vec![1; *length]);
            let frame = zstd::bulk::compress(&join(&columns), 1).unwrap();
            let unpacked = SparseWindow::unpack(&frame);
            assert_eq!(unpacked.is_ok(), *is_good, "{case:?}");
        }
    }

    #[test]
    fn a_window_larger_than_may_be_is_neither_written_nor_read() {
        let large = vec![1; MAX_SPARSE_WINDOW + 1];
        let entrance = Entrance::from_parts(0x70, false, [1, 4, 8]).unwrap();
        let mut window = SparseWindow::new(entrance);
        window.push(large.len(), &large);
        assert!(window.pack().is_err());
        let frame = zstd::bulk::compress(&window.encode(), 1).unwrap();
        assert!(SparseWindow::unpack(&frame).is_err());
    }
}
