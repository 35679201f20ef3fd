//! Which bytes of a window the blocks after it really refer to: a few kilobytes, mostly.
//!
//! The blocks are decoded twice with synthetic windows that differ at every position, so that a
//! byte that is the same both times did not come from the window. The first window holds the low
//! byte of each position, and the difference between the two tells the rest.

use crate::{Inflate, InflateError, Place, WINDOW_SIZE, Window};

/// The positions of a window that are referred to.
#[derive(Clone, Debug)]
pub struct Referenced {
    used: Vec<bool>,
}

impl Referenced {
    /// How many bytes of the window matter.
    pub fn count(&self) -> usize {
        self.used.iter().filter(|used| **used).count()
    }

    /// Sets every byte that does not matter to zero.
    pub fn sparsify(&self, window: &mut Window) {
        for (byte, used) in window.iter_mut().zip(&self.used) {
            if !used {
                *byte = 0;
            }
        }
    }
}

/// Finds what the blocks in `compressed`, entered as [`Inflate::at_block`] does, refer to.
///
/// Nothing refers further back than a window, so the first 32 KiB of output tell everything;
/// `compressed` has to hold enough for them, or all there is.
pub fn referenced(bits: u8, compressed: &[u8]) -> Result<Referenced, InflateError> {
    let first = decode_head(bits, compressed, first_byte)?;
    let second = decode_head(bits, compressed, second_byte)?;
    let mut used = vec![false; WINDOW_SIZE];
    for (first, second) in first.into_iter().zip(second) {
        if first != second {
            used[usize::from(position(first, second))] = true;
        }
    }
    Ok(Referenced { used })
}

fn first_byte(position: u16) -> u8 {
    position.to_le_bytes()[0]
}

/// Differs from the first by 1 to 128.
fn second_byte(position: u16) -> u8 {
    let [low, high] = position.to_le_bytes();
    low.wrapping_add(high).wrapping_add(1)
}

/// Of the window byte that reads as these two; there are no others than those above.
fn position(first: u8, second: u8) -> u16 {
    let high = second.wrapping_sub(first).wrapping_sub(1);
    u16::from_le_bytes([first, high & 0x7f])
}

/// The first 32 KiB of output, with a window made of `byte` of each position. Ends at the end of
/// the member: the next one refers to nothing.
fn decode_head(
    bits: u8,
    compressed: &[u8],
    byte: impl Fn(u16) -> u8,
) -> Result<Vec<u8>, InflateError> {
    let mut window = [0; WINDOW_SIZE];
    for (position, slot) in (0_u16..).zip(window.iter_mut()) {
        *slot = byte(position);
    }
    let Some(first) = compressed.first() else {
        return Ok(Vec::new());
    };
    let mut inflate = Inflate::at_block(bits, *first, &window);
    let mut input = if bits > 0 {
        &compressed[1..]
    } else {
        compressed
    };
    let mut output = vec![0; WINDOW_SIZE];
    let mut filled = 0;
    loop {
        let step = inflate.step(input, &mut output[filled..])?;
        input = &input[step.consumed..];
        filled += step.produced;
        let stuck = step.consumed == 0 && step.produced == 0 && step.place == Place::Inside;
        if filled == WINDOW_SIZE || stuck || inflate.may_end() || input.is_empty() {
            output.truncate(filled);
            return Ok(output);
        }
    }
}
