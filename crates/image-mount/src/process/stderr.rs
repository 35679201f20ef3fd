//! What a child says on its standard error: read so that it never blocks, its end kept.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

use crate::wire::bounded;

/// How much of the end is kept: a panic's message and the lines before it.
const MAX_KEPT: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Stderr {
    kept: Arc<Mutex<Vec<u8>>>,
}

impl Stderr {
    /// Reads until the child closes it.
    pub(super) fn collect(pipe: Option<ChildStderr>) -> Self {
        let collected = Self::default();
        if let Some(mut pipe) = pipe {
            let kept = Arc::clone(&collected.kept);
            tokio::spawn(async move {
                let mut buffer = vec![0; MAX_KEPT];
                while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
                    keep(&kept, &buffer[..length]);
                }
            });
        }
        collected
    }

    /// The last line that says something, with control characters escaped.
    pub(super) fn last_line(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let line = text
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty());
        bounded(&line.unwrap_or_default().escape_debug().to_string())
    }
}

fn keep(kept: &Mutex<Vec<u8>>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend(bytes);
    let excess = kept.len().saturating_sub(MAX_KEPT);
    kept.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_escaped() {
        let stderr = Stderr::default();
        assert_eq!(stderr.last_line(), "");
        keep(&stderr.kept, &vec![b'x'; 3 * MAX_KEPT]);
        keep(&stderr.kept, b"\nlast \x1b[31mwords\n\n");
        assert_eq!(stderr.last_line(), "last \\u{1b}[31mwords");
        assert_eq!(stderr.kept.lock().unwrap().len(), MAX_KEPT);
    }
}
