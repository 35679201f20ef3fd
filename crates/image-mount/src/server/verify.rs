//! Looking at everything of an image that is on this machine, without mounting it.

use std::sync::Arc;

use image_fs::{Allowance, CacheLimits, LayerCache, Room};
use layer_index::LayerIndex;

use super::open::open_index;
use crate::descriptors::LayerDescriptors;
use crate::request::ExpectedLayer;
use crate::wire::{WireVerdict, bounded};

/// Nothing is written here.
#[derive(Debug)]
struct NoRoom;

impl Room for NoRoom {
    fn is_within_limit(&self) -> bool {
        false
    }

    fn make(&self, _bytes: u64) -> bool {
        false
    }

    fn has_spare(&self, _bytes: u64) -> bool {
        false
    }
}

/// Opens the index, and hashes every span that the cache claims to have; damaged ones are
/// forgotten, so that they will be fetched again.
pub(super) fn verify(expected: &ExpectedLayer, files: LayerDescriptors) -> WireVerdict {
    let allowance = Allowance::new(CacheLimits::default(), Arc::new(NoRoom));
    let opened = open_index(expected, files.index).map_err(|refusal| refusal.message);
    let opened = opened.and_then(|index| {
        check_windows(&index)?;
        LayerCache::new(files.cache, index, allowance).map_err(|error| error.to_string())
    });
    match opened {
        Ok(layer) => count(&layer),
        Err(problem) => WireVerdict {
            index_problem: Some(bounded(&problem)),
            spans_sound: 0,
            spans_damaged: 0,
        },
    }
}

/// Opening an index reads all of it but the windows, which are looked at when they are needed.
fn check_windows(index: &LayerIndex) -> Result<(), String> {
    let mut last = None;
    for (number, span) in index.spans().iter().enumerate() {
        if last != Some(span.checkpoint) {
            index
                .checkpoint(number)
                .map_err(|error| error.to_string())?;
            last = Some(span.checkpoint);
        }
    }
    Ok(())
}

fn count(layer: &LayerCache) -> WireVerdict {
    let spans = 0..layer.index().spans().len();
    let claimed: Vec<_> = spans.filter(|span| layer.is_claimed(*span)).collect();
    let sound = claimed.iter().filter(|span| layer.verify(**span)).count();
    WireVerdict {
        index_problem: None,
        spans_sound: sound as u64,
        spans_damaged: (claimed.len() - sound) as u64,
    }
}
