//! Index building beside a bare inflate of the same stream, by `index_speed` of `layer-indexer`.

use anyhow::Result;

use super::Lab;
use crate::bench::report::Row;

#[allow(clippy::unnecessary_wraps)]
pub(super) fn rows(_lab: &Lab) -> Result<Vec<Row>> {
    Ok(Vec::new())
}
