//! Inputs made from a corpus by a few random changes each. The same seed makes the same inputs.

use std::ops::Range;

/// Numbers at which lengths and counts go wrong.
const EDGES: [u64; 10] = [
    0,
    1,
    127,
    128,
    255,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX.cast_unsigned(),
    u64::MAX,
];

/// Changes made to one input.
const CHANGES_MAX: usize = 6;

#[derive(Debug)]
pub(super) struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    max_bytes: usize,
}

impl Mutator {
    pub(super) fn new(
        seed: u64,
        corpus: Vec<Vec<u8>>,
        words: Vec<Vec<u8>>,
        max_bytes: usize,
    ) -> Self {
        Self {
            state: seed,
            corpus,
            words,
            max_bytes,
        }
    }

    pub(super) fn next_input(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        let mut input = self.corpus[at].clone();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input.truncate(self.max_bytes);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(8) {
            0 => {
                let bit = self.below(8);
                input
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte ^= 1 << bit);
            }
            1 => {
                let byte = self.random().to_le_bytes()[0];
                input
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|old| *old = byte);
            }
            2 => self.write_edge(input, at),
            3 => drop(input.drain(self.range(input.len()))),
            4 => {
                let copied = input[self.range(input.len())].to_vec();
                insert(input, at, &copied);
            }
            5 => {
                let other = self.below(self.corpus.len());
                let range = self.range(self.corpus[other].len());
                let copied = self.corpus[other][range].to_vec();
                insert(input, at, &copied);
            }
            _ => {
                if !self.words.is_empty() {
                    let word = self.below(self.words.len());
                    insert(input, at, &self.words[word].clone());
                }
            }
        }
    }

    fn write_edge(&mut self, input: &mut [u8], at: usize) {
        let edge = EDGES[self.below(EDGES.len())].to_le_bytes();
        let length = 1 << self.below(4);
        for (old, new) in input.iter_mut().skip(at).zip(&edge[..length]) {
            *old = *new;
        }
    }

    /// A part of something that is `length` long, short ones more often than long ones.
    fn range(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length + 1);
        let longest = (length - start).min(1 << self.below(13));
        start..start + self.below(longest + 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("in memory").max(1);
        usize::try_from(self.random() % limit).expect("below a length")
    }

    /// `SplitMix64`.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}
