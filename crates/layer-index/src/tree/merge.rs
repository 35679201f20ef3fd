//! Applying layers to a tree.

use thiserror::Error;

use super::Tree;
use crate::LayerIndex;

/// Layers that do not make a tree.
#[derive(Debug, Error)]
pub enum MergeError {
    #[error("layer {layer} cannot be applied: {reason}: {path}")]
    Refused {
        layer: usize,
        reason: &'static str,
        path: String,
    },
    #[error("image has too many files")]
    TooMany,
}

pub(super) fn merge(_layers: &[LayerIndex]) -> Result<Tree, MergeError> {
    Err(MergeError::TooMany)
}
