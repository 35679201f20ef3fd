//! A zstd layer decoded from a checkpoint on: from the start of a frame, or from a block in it.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::sparse_window::SparseWindow;

/// The largest window a zstd frame may ask for: 128 MiB, the reference decoder's own default.
const WINDOW_LOG_MAX: u32 = 27;

/// The checksum of a frame that was entered in the middle: it cannot be checked.
const CHECKSUM_BYTES: usize = 4;

pub(crate) struct ZstdStream {
    decoder: Decoder<'static>,
    entered: Option<Entered>,
    /// Bytes that come next and are not decoded.
    skip: usize,
}

/// Said of a frame that was not decoded from its start.
#[derive(Clone, Copy)]
struct Entered {
    has_checksum: bool,
}

impl ZstdStream {
    /// Starts where a frame does.
    pub(crate) fn at_frame() -> io::Result<Self> {
        Ok(Self {
            decoder: prepare(Decoder::new()?)?,
            entered: None,
            skip: 0,
        })
    }

    /// Starts at a block, which refers to nothing before it but what is in the window.
    pub(crate) fn at_block(window: &SparseWindow) -> io::Result<Self> {
        let mut decoder = prepare(Decoder::with_dictionary(&window.dictionary())?)?;
        let header = window.entrance().frame_header();
        let mut input = InBuffer::around(&header[..]);
        let mut nothing = [0; 0];
        decoder.run(&mut input, &mut OutBuffer::around(&mut nothing[..]))?;
        if input.pos() < header.len() {
            return Err(io::Error::other("a frame header that is not taken"));
        }
        let has_checksum = window.entrance().has_checksum();
        Ok(Self {
            decoder,
            entered: Some(Entered { has_checksum }),
            skip: 0,
        })
    }

    /// True as long as nothing is known of what came before but what a window has.
    pub(crate) fn is_entered(&self) -> bool {
        self.entered.is_some()
    }

    /// Decodes until the room is full or the input is used up. Says how much it took and made.
    pub(crate) fn decode(&mut self, input: &[u8], room: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut consumed, mut produced) = (0, 0);
        loop {
            let skipped = self.skip.min(input.len() - consumed);
            self.skip -= skipped;
            consumed += skipped;
            let mut source = InBuffer::around(&input[consumed..]);
            let mut target = OutBuffer::around(&mut room[produced..]);
            let hint = self.decoder.run(&mut source, &mut target)?;
            let (taken, made) = (source.pos(), target.pos());
            consumed += taken;
            produced += made;
            if hint == 0 && taken + made > 0 {
                self.end_frame()?;
            }
            if produced == room.len() || (skipped == 0 && taken + made == 0) {
                return Ok((consumed, produced));
            }
        }
    }

    /// A dictionary holds for one frame: the next one is decoded as it stands.
    fn end_frame(&mut self) -> io::Result<()> {
        if let Some(Entered { has_checksum }) = self.entered.take() {
            self.skip = if has_checksum { CHECKSUM_BYTES } else { 0 };
            self.decoder = prepare(Decoder::new()?)?;
        }
        Ok(())
    }
}

fn prepare(mut decoder: Decoder<'static>) -> io::Result<Decoder<'static>> {
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}
