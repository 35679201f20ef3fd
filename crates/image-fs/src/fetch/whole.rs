//! All of an image, for somebody who wants it here and waits: fetched as readers fetch it, with
//! their patience, and looked at where the cache claims to have it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Fetcher, Layer};
use crate::error::WholeError;
use crate::limits::{WHOLE_PORTION, WHOLE_PORTIONS};
use crate::plan::Layout;

/// Returns when every span is in the cache, or one cannot be. Dropped, it begins nothing more.
pub(crate) async fn bring_whole(fetcher: Arc<Fetcher>) -> Result<(), WholeError> {
    let mut portions = JoinSet::new();
    for layer in 0..fetcher.layers.len() {
        let mut from = 0;
        while let Some(spans) = fetcher.layers[layer].portion(from) {
            from = spans.end;
            if portions.len() >= WHOLE_PORTIONS {
                landed(portions.join_next().await)?;
            }
            let bringing = Arc::clone(&fetcher).bring_portion(layer, spans);
            portions.spawn_on(bringing, &fetcher.runtime);
        }
    }
    while !portions.is_empty() {
        landed(portions.join_next().await)?;
    }
    Ok(())
}

fn landed(
    joined: Option<Result<Result<(), WholeError>, tokio::task::JoinError>>,
) -> Result<(), WholeError> {
    joined.map_or(Ok(()), |joined| {
        joined.unwrap_or(Err(WholeError::Abandoned))
    })
}

impl Fetcher {
    async fn bring_portion(
        self: Arc<Self>,
        layer: usize,
        spans: Range<usize>,
    ) -> Result<(), WholeError> {
        let spans: Vec<usize> = spans.collect();
        let mut held = BTreeMap::new();
        let deadline = Instant::now() + self.read_deadline;
        self.bring(layer, &spans, deadline, &mut held).await?;
        if held.is_empty() {
            Ok(())
        } else {
            Err(WholeError::NoRoom)
        }
    }
}

impl Layer {
    /// The next spans that are brought together. Those of one checkpoint may be in several
    /// portions, which one flight brings.
    fn portion(&self, from: usize) -> Option<Range<usize>> {
        let spans = self.index().spans();
        let first = spans.get(from)?;
        let end = first.uncompressed_offset.saturating_add(WHOLE_PORTION);
        let after = spans.partition_point(|span| span.uncompressed_offset < end);
        Some(from..after.clamp(from + 1, self.span_count()))
    }
}
